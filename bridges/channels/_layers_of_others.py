"""Channel layers that were written for Channels, below our consumers.

Such a layer, channels_redis for one, runs on asyncio only. A consumer whose handlers are
written for trio gets a `HostedLayer` in its place: what has to be awaited is awaited on
the hosted loop, where the layer keeps its connections. A layer of somebody else that may
be awaited in trio says so, as an application does: `greenroom_flavour = "both"`.

Its `receive` may give up after a time. That nobody has sent anything is no failure, so a
consumer goes on to wait.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final, final

import trio

from ...runtime._types import Message
from ..asyncio import current_hosted_loop
from ..asyncio._lasting import lasting_hosted_loop
from ._worker_tasks import current_time
from .layers import takes_subscriptions

SOON: Final = 1.0  # seconds; a receive that gives up sooner has not waited for a message


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
    loop = current_hosted_loop() or await lasting_hosted_loop()
    return await loop.run_asyncio(partial(method, *args, **kwargs))


def layer_for_here(layer: Any) -> Any:
    """Give `layer`, or None, as it can be used in what runs here: trio or asyncio."""
    if layer is None or not trio.lowlevel.in_trio_task():
        return layer
    # The class is asked, for the reason that `takes_subscriptions` gives.
    flavour = getattr(type(layer), "greenroom_flavour", "asyncio")
    return layer if flavour != "asyncio" or takes_subscriptions(layer) else HostedLayer(layer)


async def receive_patiently(receive: Callable[[], Awaitable[Message]]) -> Message:
    """Await `receive` until it gives a message, however often its client gives up waiting.

    redis-py has done so after five seconds since its version 8, which is as long as
    channels_redis asks the server to wait: every consumer that was idle would fail.
    """
    while True:
        since = current_time()
        try:
            return await receive()
        except Exception as error:
            if not _is_timeout(error) or current_time() - since < SOON:
                raise


def _is_timeout(error: Exception) -> bool:
    # Clients have classes of their own, with this name.
    return isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError"
