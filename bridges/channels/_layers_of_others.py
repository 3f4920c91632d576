"""Channel layers that were written for Channels, below our consumers.

Such a layer, channels_redis for one, runs on asyncio only. A consumer whose handlers are
written for trio gets a `HostedLayer` in its place: what has to be awaited is awaited on
the hosted loop, where the layer keeps its connections. A layer of somebody else that may
be awaited in trio says so, as an application does: `greenroom_flavour = "both"`.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, final

import trio

from ..asyncio import current_hosted_loop
from ..asyncio._lasting import lasting_hosted_loop


@final
class HostedLayer:
    """What `layer` has, its coroutine functions as such that can be awaited in trio."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __repr__(self) -> str:
        return f"<HostedLayer of {self._layer!r}>"

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._layer, name)
        return partial(_call, value) if iscoroutinefunction(value) else value


async def _call(method: Any, *args: Any, **kwargs: Any) -> Any:
    if not trio.lowlevel.in_trio_task():  # it was handed on, as to a thread's `async_to_sync`
        return await method(*args, **kwargs)
    loop = current_hosted_loop() or await lasting_hosted_loop()
    return await loop.run_asyncio(partial(method, *args, **kwargs))


def takes_subscriptions(layer: object) -> bool:
    """Tell whether `layer` feeds mailboxes, in trio as in asyncio; one of somebody else does not.

    Nor does a subclass of ours with a `receive` of its own, which is awaited instead. The
    class is asked, as a layer may do what works on a running loop only when it is asked
    for a name that it does not have.
    """
    for base in type(layer).__mro__:
        if "subscribe" in vars(base):
            return True
        if "receive" in vars(base):
            return False
    return False


def require_channel_name(layer: Any, name: str) -> None:
    """Check that `layer`, if it says which it takes, takes `name` for a channel.

    Raises:
        TypeError: it does not.
    """
    if hasattr(type(layer), "require_valid_channel_name"):
        layer.require_valid_channel_name(name)


def layer_for_here(layer: Any) -> Any:
    """Give `layer`, or None, as it can be used in what runs here: trio or asyncio."""
    return HostedLayer(layer) if layer is not None and _is_hosted_here(layer) else layer


def itself(layer: Any) -> Any:
    """Give the layer that `layer_for_here` was given."""
    return layer._layer if isinstance(layer, HostedLayer) else layer


def method_for_here(layer: Any, method: Callable[..., Awaitable[Any]]) -> Any:
    """Give a coroutine function of `layer` as it can be awaited in what runs here."""
    return partial(_call, method) if _is_hosted_here(layer) else method


def _is_hosted_here(layer: Any) -> bool:
    # The class is asked, for the reason that `takes_subscriptions` gives.
    return (
        trio.lowlevel.in_trio_task()
        and getattr(type(layer), "greenroom_flavour", "asyncio") == "asyncio"
        and not takes_subscriptions(layer)
    )
