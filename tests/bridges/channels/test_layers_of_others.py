"""Tests of layers that were written for Channels, in trio."""

import asyncio
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import async_to_sync
from tests.bridges.channels.serving import exchange

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels._layers_of_others import HostedLayer, itself, layer_for_here
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.layers import (
    InMemoryChannelLayer,
    channel_layers,
    get_channel_layer,
)


class Remote:
    """A layer that keeps to one asyncio loop, where it waits for things."""

    capacity = 7

    def __init__(self) -> None:
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.ended: list[str] = []

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.loops.add(asyncio.get_running_loop())
        if channel == "full":
            raise ConnectionError("the layer is gone")

    async def receive(self, channel: str) -> dict[str, Any]:
        try:
            await asyncio.sleep(3600)
            return {}
        finally:
            self.ended.append(channel)

    def prefix(self) -> str:
        return "remote"


class InTrio(Remote):
    greenroom_flavour = "trio"


async def test_layer_written_for_asyncio_is_awaited_on_the_hosted_loop() -> None:
    remote = Remote()
    layer = layer_for_here(remote)
    assert isinstance(layer, HostedLayer)
    async with open_hosted_loop() as loop:
        await layer.send("a", {"type": "x"})
        assert remote.loops == {loop}
        with pytest.raises(ConnectionError, match="the layer is gone"):
            await layer.send("full", {"type": "x"})
    assert (layer.capacity, layer.prefix()) == (7, "remote")
    assert "HostedLayer of <" in repr(layer)
    assert not hasattr(layer, "no_such_thing")


async def test_cancelled_wait_for_a_message_is_cancelled_on_the_loop_too() -> None:
    remote = Remote()
    layer = layer_for_here(remote)
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(layer.receive, "a")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert remote.ended == ["a"]


async def test_program_of_somebody_else_without_a_hosted_loop_gets_one() -> None:
    remote = Remote()
    await layer_for_here(remote).send("a", {"type": "x"})
    assert len(remote.loops) == 1


async def test_layer_that_can_be_awaited_in_trio_is_given_as_it_is() -> None:
    for layer in (InMemoryChannelLayer(), InTrio(), None):
        assert layer_for_here(layer) is layer


async def test_layer_of_the_settings_is_given_as_it_can_be_awaited_here() -> None:
    remote = Remote()
    channel_layers.set("default", remote)
    layer = get_channel_layer()
    await layer.send("a", {"type": "x"})
    assert itself(layer) is remote
    await trio.to_thread.run_sync(async_to_sync(layer.send), "a", {"type": "x"})
    assert len(remote.loops) == 2
    assert await trio.to_thread.run_sync(get_channel_layer) is remote


def test_consumer_is_given_what_a_subclass_of_ours_receives() -> None:
    class Stamping(InMemoryChannelLayer):
        async def receive(self, channel: str) -> dict[str, Any]:
            return await super().receive(channel) | {"stamp": 1}

    class Consumer(AsyncConsumer):
        async def test_connect(self, message: dict[str, Any]) -> None:
            await self.channel_layer.send(self.channel_name, {"type": "test.message"})

        async def test_message(self, message: dict[str, Any]) -> None:
            await self.send(message)
            raise StopConsumer

    channel_layers.set("default", Stamping())
    sent = exchange(Consumer.as_asgi(), {"type": "test"}, {"type": "test.connect"})
    assert sent == [{"type": "test.message", "stamp": 1}]


def test_layer_is_given_as_it_is_to_code_on_asyncio() -> None:
    remote = Remote()

    async def main() -> None:
        assert layer_for_here(remote) is remote

    asyncio.run(main())


def test_trio_code_on_the_loop_of_a_server_uses_the_layer_on_that_loop() -> None:
    remote = Remote()

    class Consumer(AsyncConsumer):
        greenroom_flavour = "trio"

        async def test_connect(self, message: dict[str, Any]) -> None:
            await self.channel_layer.send("a", {"type": "x"})
            with trio.move_on_after(0):
                await self.channel_layer.receive("b")
            await self.send({"type": "sent"})
            raise StopConsumer

    async def new_channel() -> str:
        return "own"

    remote.new_channel = new_channel  # type: ignore[attr-defined]
    channel_layers.set("default", remote)
    sent: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        messages.put_nowait({"type": "test.connect"})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await Consumer.as_asgi()({"type": "test"}, messages.get, send)
        assert remote.loops == {loop}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert sent == [{"type": "sent"}]
    assert remote.ended == ["own"]
