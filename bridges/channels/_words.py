"""What a log has to tell of a consumer's failure: which consumer, whose, and what it was about.

An unhandled exception is logged once, by the server that called the consumer, each server
in its own way. So the words go along in a note of the exception, which every traceback
shows.
"""

from typing import TYPE_CHECKING

from ...runtime import describe
from ...runtime._types import Message
from ._intake import TASK

if TYPE_CHECKING:
    from .consumer import AsyncConsumer


def whereabouts(consumer: "AsyncConsumer", doing: str) -> str:
    """Say which consumer it is, in which scope, and what it does."""
    return f"in {type(consumer).__name__}, {describe(consumer.scope)}, {doing}"


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


def note(error: BaseException, words: str) -> None:
    """Add `words` to the notes of `error`, unless they are there."""
    if words not in getattr(error, "__notes__", ()):
        error.add_note(words)
