"""The device gateway of the examples: its protocol alone, real sockets, and virtual time."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.testing
from examples.actors import device_gateway
from examples.actors.device_gateway import (
    DEVICE,
    HEAD,
    LONGEST,
    PATIENCE,
    BadFrame,
    Command,
    Frame,
    FrameReader,
    Kind,
    open_gateway,
)
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import (
    ActorDied,
    ActorRef,
    ActorSystem,
    AskTimeout,
    RemoteError,
    Shutdown,
    open_actor_system,
)

# -- The protocol.

frames = st.builds(Frame, st.sampled_from(Kind), st.binary(max_size=20))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut the bytes at the given places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 200), max_size=10))
def test_however_the_bytes_are_cut_the_frames_are_the_same(
    sent: list[Frame], places: list[int]
) -> None:
    reader = FrameReader()
    parts = cut(b"".join(map(bytes, sent)), places)
    assert [frame for part in parts for frame in reader.receive_data(part)] == sent


@given(st.lists(frames, max_size=3), st.binary(max_size=20))
def test_garbage_is_refused_or_read_and_the_frames_before_it_are_given(
    sent: list[Frame], garbage: bytes
) -> None:
    received: list[Frame] = []
    with suppress(BadFrame):
        received.extend(FrameReader().receive_data(b"".join(map(bytes, sent)) + garbage))
    assert received[: len(sent)] == sent


@pytest.mark.parametrize(
    "head", [HEAD.pack(LONGEST + 1, Kind.BEAT), HEAD.pack(0, 0), HEAD.pack(0, 9)]
)
def test_a_frame_that_is_too_long_or_of_no_kind_is_refused_by_its_head(head: bytes) -> None:
    with pytest.raises(BadFrame, match="no frame begins with"):
        list(FrameReader().receive_data(head))


# -- Over real sockets.


class Peer:
    """A device, by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = FrameReader()
        self._frames: list[Frame] = []

    async def say(self, kind: Kind, body: bytes = b"") -> None:
        await self.stream.send_all(bytes(Frame(kind, body)))

    async def hear(self) -> Frame | None:
        """Give the next frame; None when the gateway has hung up."""
        while not self._frames:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._frames.extend(self._reader.receive_data(data))
        return self._frames.pop(0)

    async def be_called(self, name: str) -> None:
        await self.say(Kind.HELLO, name.encode())
        assert await self.hear() == Frame(Kind.HELLO, name.encode())


@dataclass
class Gateway:
    system: ActorSystem
    port: int

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Peer]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Peer(stream)

    @asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[tuple[Peer, ActorRef[Command]]]:
        async with self.connect() as peer:
            await peer.be_called(name)
            yield peer, self.system.registry.require(name)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with open_gateway(listener) as system:
        yield Gateway(system, port)


async def test_answers_come_back_to_who_asked_in_whatever_order(
    gateway: Gateway, nursery: trio.Nursery
) -> None:
    answers: dict[str, str] = {}

    async def ask(text: str) -> None:
        answers[text] = await device.ask(Command(text), timeout=10)

    async with gateway.device("lamp") as (lamp, device), trio.open_nursery() as askers:
        for text in ("on", "dim", "off"):
            askers.start_soon(ask, text)
        commands = [await lamp.hear() for _ in range(3)]
        for command in reversed(commands):
            assert command is not None
            assert command.kind is Kind.COMMAND
            await lamp.say(Kind.BEAT)
            await lamp.say(Kind.ANSWER, command.body.upper())
    assert answers == {"on": "ON", "dim": "DIM", "off": "OFF"}


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(Frame(Kind.HELLO, b"\xff")),
        bytes(Frame(Kind.HELLO, b"a")) + bytes(Frame(Kind.HELLO, b"b")),
        bytes(Frame(Kind.ANSWER, b"\x07on")),
        bytes(Frame(Kind.COMMAND, b"\x07on")),
    ],
)
async def test_bad_bytes_end_that_device_only(gateway: Gateway, garbage: bytes) -> None:
    async with gateway.device("lamp") as (lamp, device), gateway.connect() as vandal:
        await vandal.stream.send_all(garbage)
        while await vandal.hear() is not None:
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(device.ask, Command("on"), timeout=10))
            command = await lamp.hear()
            assert command is not None
            await lamp.say(Kind.ANSWER, command.body)
        assert gateway.system.registry.names() == ("lamp",)


async def test_an_ask_ends_with_the_device(gateway: Gateway) -> None:
    async with gateway.device("lamp") as (lamp, device), trio.open_nursery() as nursery:

        async def hang_up() -> None:
            await lamp.hear()
            await lamp.stream.aclose()

        nursery.start_soon(hang_up)
        with pytest.raises(ActorDied):
            await device.ask(Command("on"))
    assert gateway.system.registry.find("lamp") is None


async def test_a_device_that_connects_again_takes_the_place_of_its_former_self(
    gateway: Gateway,
) -> None:
    async with gateway.device("lamp") as (lamp, device), gateway.device("lamp") as (_, again):
        assert again != device
        assert not device.alive
        assert await lamp.hear() is None


async def test_the_example_shows_that_one_device_does_not_disturb_another(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "greenroom")
    await device_gateway.main()
    [crash] = caplog.records
    assert "ended: Crash: BadFrame: no frame begins with b'GET'" in crash.message
    assert crash.exc_info is None
    assert capsys.readouterr().out.splitlines() == [
        "on, done",
        "The gateway hangs up: True",
        "off, done",
    ]


# -- In virtual time, over streams in memory.


@asynccontextmanager
async def open_device(name: str) -> AsyncIterator[tuple[Peer, ActorRef[Command], ActorSystem]]:
    async with open_actor_system("test") as system:
        ours, theirs = trio.testing.memory_stream_pair()
        device = system.spawn(DEVICE, theirs)
        peer = Peer(ours)
        await peer.be_called(name)
        yield peer, device, system


async def test_a_silent_device_is_given_up_and_beats_keep_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_device("lamp") as (lamp, device, _):
        for _ in range(3):
            await trio.sleep(PATIENCE - 1)
            await lamp.say(Kind.BEAT)
        await device.join()
        assert trio.current_time() == 3 * (PATIENCE - 1) + PATIENCE


async def test_a_device_that_never_says_who_it_is_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system("test") as system:
        ours, theirs = trio.testing.memory_stream_pair()
        device = system.spawn(DEVICE, theirs)
        with trio.fail_after(2 * PATIENCE):
            assert await device.join() == Shutdown("the device is silent")
        assert trio.current_time() == PATIENCE
        assert await Peer(ours).hear() is None


async def test_commands_are_no_sign_of_life(autojump_clock: trio.testing.MockClock) -> None:
    async with open_device("lamp") as (_, device, _):
        while device.alive:
            device.tell(Command("on"))
            await trio.sleep(1)
        assert PATIENCE <= trio.current_time() <= PATIENCE + 1


async def test_an_answer_that_comes_too_late_hurts_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_device("lamp") as (lamp, device, system):
        with pytest.raises(AskTimeout):
            await device.ask(Command("on"), timeout=2)
        command = await lamp.hear()
        assert command is not None
        await lamp.say(Kind.ANSWER, command.body)
        await lamp.say(Kind.BEAT)
        await trio.testing.wait_all_tasks_blocked()
        assert device.alive
        assert [letter.message for letter in system.dead_letters.recent] == ["on"]


async def test_a_number_that_is_used_again_ends_the_wait_for_its_first_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_device("lamp") as (lamp, device, _), trio.open_nursery() as nursery:

        async def ask_in_vain() -> None:
            with pytest.raises(RemoteError, match="255 more commands"):
                await device.ask(Command("on"))

        nursery.start_soon(ask_in_vain)
        await lamp.hear()
        for _ in range(256):
            device.tell(Command("off"))


async def test_a_device_that_reads_nothing_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system("test") as system:
        ours, theirs = trio.testing.lockstep_stream_pair()  # nothing is sent until it is read
        device = system.spawn(DEVICE, theirs)
        await trio.sleep(PATIENCE - 1)
        await Peer(ours).say(Kind.BEAT)
        with pytest.raises(ActorDied, match="TooSlowError"):
            await device.ask(Command("on"))
        assert trio.current_time() == 2 * PATIENCE - 1
