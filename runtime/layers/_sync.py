"""A channel layer for code that cannot await: plain threads, commands, tasks of a job queue.

Source: `async_to_sync(layer.group_send)(...)` as Channels' documents have it. Here a layer
in memory is called as it is, without an event loop; others go through `async_to_sync`.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, final

import trio
from asgiref.sync import async_to_sync

from .._types import Message
from ._done import DONE


class Layer(Protocol):
    """The methods that are called here, as any channel layer has them."""

    def send(self, channel: str, message: Message) -> Coroutine[Any, Any, None]:
        """Send `message` to the one receiver of `channel`."""

    def group_add(self, group: str, channel: str) -> Coroutine[Any, Any, None]:
        """Let `channel` have what is sent to `group`."""

    def group_discard(self, group: str, channel: str) -> Coroutine[Any, Any, None]:
        """Undo `group_add`."""

    def group_send(self, group: str, message: Message) -> Coroutine[Any, Any, None]:
        """Send `message` to every channel in `group`."""


@final
class SyncLayer:
    """The sending half of a channel layer, as functions that return when it is done.

    They raise what the layer's own methods raise, and `RuntimeError` where they would have
    to wait in a thread that an event loop needs: there, await the layer's own.

    >>> from greenroom.runtime.layers import InMemoryChannelLayer
    >>> layer = InMemoryChannelLayer()
    >>> layer.sync.group_add("chat", "specific.a!1")
    >>> layer.sync.group_send("chat", {"type": "chat.message", "text": "hello"})
    >>> layer.channels["specific.a!1"].qsize()
    1
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def send(self, channel: str, message: Message) -> None:
        """Send `message` to the one receiver of `channel`."""
        _finish("send", self._layer.send(channel, message))

    def group_add(self, group: str, channel: str) -> None:
        """Let `channel` have what is sent to `group`."""
        _finish("group_add", self._layer.group_add(group, channel))

    def group_discard(self, group: str, channel: str) -> None:
        """Undo `group_add`; nothing happens if there was none."""
        _finish("group_discard", self._layer.group_discard(group, channel))

    def group_send(self, group: str, message: Message) -> None:
        """Send `message` to every channel in `group`; full ones miss it."""
        _finish("group_send", self._layer.group_send(group, message))


def _finish(name: str, pending: Coroutine[Any, Any, None]) -> None:
    if pending is DONE:
        return
    if _in_event_loop():
        pending.close()
        raise RuntimeError(
            f"layer.sync.{name}() was called in the thread of an event loop, which it would "
            f"block until it is done; write `await layer.{name}(...)` there"
        )

    async def wait() -> None:
        await pending

    async_to_sync(wait)()


def _in_event_loop() -> bool:
    if trio.lowlevel.in_trio_run():
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
