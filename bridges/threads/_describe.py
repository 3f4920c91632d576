"""What a thread does, and what it waits for, in the words of a log line."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any


def describe_function(function: Callable[..., Any], args: tuple[Any, ...] = ()) -> str:
    """Name a function; of a method the object's own class, of a handler its message's type.

    >>> class Room:
    ...     def handle(self, message): ...
    >>> class Lobby(Room): ...
    >>> describe_function(Lobby().handle, ({"type": "chat.message"},))
    "Lobby.handle of 'chat.message'"
    >>> describe_function(partial(len, "abc"))
    'len'
    """
    fn: Any = function
    while isinstance(fn, partial):
        fn, args = fn.func, (*fn.args, *args)
    owner = getattr(fn, "__self__", None)
    name = getattr(fn, "__name__", None) or type(fn).__name__
    if owner is None or inspect.ismodule(owner):
        name = getattr(fn, "__qualname__", name)
    elif isinstance(owner, type):
        name = f"{owner.__name__}.{name}"
    else:
        name = f"{type(owner).__name__}.{name}"
    kind = args[0].get("type") if args and isinstance(args[0], Mapping) else None
    return name if kind is None else f"{name} of {kind!r}"


def describe_awaited(what: object) -> str:
    """Name what somebody waits for: a coroutine by its function.

    >>> async def ask(): ...
    >>> question = ask()
    >>> describe_awaited(question)
    'ask'
    >>> question.close()
    """
    if isinstance(what, str):
        return what
    if inspect.iscoroutine(what):
        # asgiref wraps what `async_to_sync` is given in a coroutine of its own.
        inner = what.cr_frame.f_locals.get("awaitable") if what.cr_frame is not None else None
        if inspect.iscoroutine(inner) and what.__name__ == "main_wrap":
            what = inner
        return str(what.__qualname__)
    if callable(what):
        return describe_function(what)
    return type(what).__name__
