"""Which method of a consumer a message may call: by its type, and by where it comes from.

The client's messages have few types, those of its protocol, and the consumer classes handle
them. A message of the channel layer may come from anybody who knows a group's name, and so
it calls only what the user's class defines as a handler.

| the method is                        | client | layer |
| ------------------------------------ | ------ | ----- |
| defined by the user's class          | yes    | yes   |
| a protocol's handler of a base class | yes    | no    |
| any other name of a base class       | no     | no    |

A name that a base class uses, such as `send` or `connect`, is not the layer's to call even
where the user's class overrides it: whoever overrides it means another thing by it.
"""

import inspect
from collections.abc import Callable
from functools import partial, partialmethod
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import iscoroutinefunction

from ...runtime import Message

if TYPE_CHECKING:
    from .consumer import AsyncConsumer

# Handlers that the consumer classes define for messages of ASGI's protocols. Their other
# methods, such as `close`, are not for a message's type to call.
PROTOCOL_HANDLERS: Final = frozenset(
    {
        "http_disconnect",
        "http_request",
        "websocket_connect",
        "websocket_disconnect",
        "websocket_receive",
    }
)

# What the consumer classes put into their instances.
OF_INSTANCES: Final = {
    "base_send",
    "body",
    "channel_layer",
    "channel_name",
    "channel_receive",
    "scope",
}

# Names that Channels' own classes don't have, so that code written for those may use them.
ADDED: Final = frozenset(
    {
        "greenroom_flavour",
        "pinned",
        "restart",
        "restart_intensity",
        "restart_period",
        "start_soon",
    }
)


def get_handler_name(message: Message) -> str:
    """Give the name of the method that handles `message`.

    >>> get_handler_name({"type": "chat.message"})
    'chat_message'

    Raises:
        ValueError: the message has no type, or one that names a private method.
        AttributeError: its type is no str.
        TypeError: its type is bytes.
    """
    if "type" not in message:
        raise ValueError("Incoming message has no 'type' attribute")
    try:
        name: str = message["type"].replace(".", "_")
    except (AttributeError, TypeError) as error:
        error.add_note(f"the type of a message is a str, not {message['type']!r}")
        raise
    if name.startswith("_"):
        raise ValueError("Malformed type in message (leading underscore)")
    return name


def find_handler(consumer: "AsyncConsumer", message: Message, *, from_layer: bool) -> str | None:
    """Give the name of the method that handles `message`, None if it has none.

    Raises:
        ValueError: the message has no type, or one that names a private method.
    """
    name = get_handler_name(message)
    cls = type(consumer)
    owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
    if from_layer:
        allowed = _layer_may_call(consumer, name, owner)
    else:
        allowed = name in PROTOCOL_HANDLERS or not (
            name in _reserved(cls) if owner is None else _is_ours(owner)
        )
    return name if allowed and callable(getattr(consumer, name, None)) else None


def why_refused(consumer: "AsyncConsumer", message: Message) -> str:
    """Say why the channel layer may not call a method that is there; "" if there is none."""
    name = get_handler_name(message)
    if not callable(getattr(consumer, name, None)):
        return ""
    return (
        f"{type(consumer).__name__}.{name} is there, but a message of the channel layer calls only "
        "what the project's own class defines as a handler: give it another name there"
    )


def has_layer_handlers(consumer: "AsyncConsumer") -> bool:
    """Tell whether there is a method that a message of the channel layer may call.

    It is a coroutine function, which takes one argument.
    """
    cls = type(consumer)
    reserved = _reserved(cls)
    own = [base for base in cls.__mro__ if not _is_ours(base) and base is not object]
    names = {name for base in own for name in base.__dict__}
    return "__getattr__" in names or any(
        _takes_a_message(consumer, name)
        for name in names
        if not name.startswith("_") and name not in reserved
    )


def _takes_a_message(consumer: "AsyncConsumer", name: str) -> bool:
    value = inspect.getattr_static(type(consumer), name)
    if not (callable(value) or isinstance(value, classmethod | partialmethod)):
        return False  # such as a property, which may do anything when it is looked at
    method = getattr(consumer, name)
    if not any(map(iscoroutinefunction, (method, inspect.unwrap(method)))):
        return False
    try:
        # What `sync_to_async` makes of a method hides its own arguments behind those of a function.
        inspect.signature(method, follow_wrapped=not isinstance(method, partial)).bind({})
    except TypeError:
        return False
    return True


def call_plain(handler: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a handler of a sync consumer.

    Raises:
        TypeError: it is a coroutine function, which nobody would await.
    """
    result = handler(*args, **kwargs)
    if result is not None and inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"{handler.__qualname__} is a coroutine function; the handlers of a sync consumer "
            "are plain functions"
        )


def _layer_may_call(consumer: "AsyncConsumer", name: str, owner: type | None) -> bool:
    cls = type(consumer)
    if owner is None:  # what `__getattr__` makes, and no attribute of the instance
        return name not in vars(consumer) and name not in _reserved(cls)
    if _is_ours(owner):
        return False
    if name == "restarted":
        return not cls._restarts  # where it is another thing, and no handler
    return name in PROTOCOL_HANDLERS | ADDED or name not in _reserved(cls)


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith(f"{__package__}.")


def _reserved(cls: "type[AsyncConsumer]") -> set[str]:
    """Give the names that the consumer classes among the bases of `cls` use."""
    return OF_INSTANCES.union(*(base.__dict__ for base in cls.__mro__ if _is_ours(base)))
