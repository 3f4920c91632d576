"""Two helpers of Channels that packages built on it import."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

__all__ = ["await_many_dispatch", "name_that_thing"]


def name_that_thing(thing: Any) -> str:
    """Give a name under which a reader finds `thing` in the code.

    >>> name_that_thing({})
    'builtins.dict'
    >>> name_that_thing(name_that_thing)
    'greenroom.bridges.channels.utils.name_that_thing'
    >>> name_that_thing("".join)
    'builtins.str.join'
    """
    owner = getattr(thing, "__self__", None)
    if owner is not None and not isinstance(owner, type(asyncio)):
        return f"{name_that_thing(owner)}.{thing.__name__}"
    if hasattr(thing, "__name__"):
        return f"{getattr(thing, '__module__', None) or 'builtins'}.{thing.__name__}"
    return name_that_thing(type(thing))


async def await_many_dispatch(
    consumer_callables: Sequence[Callable[[], Awaitable[Any]]],
    dispatch: Callable[[Any], Awaitable[Any]],
) -> None:
    """Await several callables over and over, and `dispatch` what they return, one at a time.

    Ends with the first exception, of one of them or of `dispatch`. For code on asyncio;
    Greenroom's own consumers read one mailbox instead.
    """
    waiting = [asyncio.ensure_future(_call(call)) for call in consumer_callables]
    try:
        while True:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for at, task in enumerate(waiting):
                if task.done():
                    message = task.result()
                    await dispatch(message)
                    # Not before: what is asked for meanwhile is lost where dispatch fails.
                    waiting[at] = asyncio.ensure_future(_call(consumer_callables[at]))
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _call(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()
