"""Tests of layers that were written for Channels, in trio and where they give up waiting."""

import asyncio
from typing import Any

import pytest
import trio
import trio.testing

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels._layers_of_others import (
    HostedLayer,
    layer_for_here,
    receive_patiently,
)
from greenroom.bridges.channels.layers import InMemoryChannelLayer


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


def test_layer_is_given_as_it_is_to_code_on_asyncio() -> None:
    remote = Remote()

    async def main() -> None:
        assert layer_for_here(remote) is remote

    asyncio.run(main())


# Clients have classes of their own for it.
ClientTimeout = type("TimeoutError", (Exception,), {})


class GivesUp:
    """The `receive` of a layer whose client waits for so many seconds, and four times."""

    def __init__(self, error: Exception, seconds: float) -> None:
        self.error = error
        self.seconds = seconds
        self.calls = 0

    async def __call__(self) -> dict[str, Any]:
        self.calls += 1
        if self.calls == 4:
            return {"type": "x"}
        await trio.sleep(self.seconds)
        raise self.error


@pytest.mark.parametrize("error", [TimeoutError("read"), ClientTimeout("read")])
async def test_receive_goes_on_to_wait_when_the_client_has_given_up(
    error: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    receive = GivesUp(error, 5)
    assert await receive_patiently(receive) == {"type": "x"}
    assert receive.calls == 4


@pytest.mark.parametrize(
    ("error", "seconds"), [(TimeoutError("at once"), 0.5), (ConnectionError("gone"), 5)]
)
async def test_receive_that_fails_otherwise_or_without_waiting_fails(
    error: Exception, seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    receive = GivesUp(error, seconds)
    with pytest.raises(type(error)):
        await receive_patiently(receive)
    assert receive.calls == 1
