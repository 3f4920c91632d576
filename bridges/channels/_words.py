"""What a log has to tell of a consumer's failure: which consumer, whose, and what it was about.

An unhandled exception is logged once, by the server that called the consumer, each server
in its own way. So the words go along in a note of the exception, which every traceback
shows.
"""

from typing import TYPE_CHECKING, Final

from ...runtime import Message, describe
from ._intake import TASK

if TYPE_CHECKING:
    from .consumer import AsyncConsumer

MADE_UP: Final = ("http", "websocket")  # by communicators, which leave `asgi` out


def whereabouts(consumer: "AsyncConsumer", doing: str) -> str:
    """Say which consumer it is, in which scope, and what it does."""
    where = describe({"type": "a scope without a type", **consumer.scope})
    return f"in {type(consumer).__name__}, {where}, {doing}"


def handling(message: Message) -> str:
    r"""Say what a consumer does with `message`.

    >>> handling({"type": "chat.message"})
    'handling chat.message'
    >>> handling({"type": "chat" + chr(10) + "FORGED"})
    'handling chat\\nFORGED'
    """
    if message.get("type") == TASK:
        return f"in its task {message['name']}"
    kind = str(message.get("type"))
    return f"handling {kind if kind.isprintable() else repr(kind)[1:-1]}"


def note(error: BaseException, consumer: "AsyncConsumer", doing: str) -> None:
    """Add to the notes of `error` what is known, unless it is there.

    Not where a test has made up the scope of a client: it may match an error's whole text.
    """
    scope = consumer.scope
    if scope.get("type") in MADE_UP and "asgi" not in scope:
        return
    words = whereabouts(consumer, doing)
    if words not in getattr(error, "__notes__", ()):
        error.add_note(words)
