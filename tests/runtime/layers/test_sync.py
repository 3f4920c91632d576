"""Tests of a layer's plain calls, for a layer in memory and for one that has to wait."""

import asyncio
import threading
from typing import Any

import pytest
import trio
from asgiref.sync import sync_to_async

from greenroom.runtime.layers import BaseChannelLayer, ChannelFull, InMemoryChannelLayer


class Remote(BaseChannelLayer):
    """A layer that waits for something, as one with a server does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    async def _call(self, *call: Any) -> None:
        await asyncio.sleep(0)
        self.calls.append(call)

    async def send(self, channel: str, message: Any) -> None:
        await self._call("send", channel, message)
        if channel == "full":
            raise ChannelFull(channel)

    async def group_add(self, group: str, channel: str) -> None:
        await self._call("group_add", group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._call("group_discard", group, channel)

    async def group_send(self, group: str, message: Any) -> None:
        await self._call("group_send", group, message)


def use(layer: BaseChannelLayer) -> None:
    layer.sync.group_add("g", "a")
    layer.sync.group_send("g", {"type": "x"})
    layer.sync.send("a", {"type": "y"})
    layer.sync.group_discard("g", "a")


CALLS = [
    ("group_add", "g", "a"),
    ("group_send", "g", {"type": "x"}),
    ("send", "a", {"type": "y"}),
    ("group_discard", "g", "a"),
]


def test_plain_thread_calls_a_layer_in_memory_and_starts_no_loop() -> None:
    layer = InMemoryChannelLayer()
    thread = threading.Thread(target=use, args=(layer,))
    thread.start()
    thread.join()
    assert layer.channels["a"].qsize() == 2
    assert layer.groups == {}


def test_plain_thread_waits_for_a_layer_that_waits() -> None:
    layer = Remote()
    use(layer)
    with pytest.raises(ChannelFull):
        layer.sync.send("full", {"type": "x"})
    assert layer.calls[:-1] == CALLS


def test_thread_below_asyncio_waits_for_a_layer_that_waits() -> None:
    layer = Remote()
    asyncio.run(sync_to_async(use)(layer))
    assert layer.calls == CALLS


async def test_thread_below_trio_waits_for_a_layer_that_waits() -> None:
    layer = Remote()
    await trio.to_thread.run_sync(use, layer)
    assert layer.calls == CALLS


def test_event_loop_is_not_blocked_but_told_to_await() -> None:
    layer = Remote()

    async def main() -> None:
        InMemoryChannelLayer().sync.send("a", {"type": "x"})  # does not wait
        with pytest.raises(RuntimeError, match=r"write `await layer.group_send\(...\)` there"):
            layer.sync.group_send("g", {"type": "x"})

    asyncio.run(main())
    trio.run(main)
    assert layer.calls == []
