"""The chat room of the examples, over real sockets, and over streams in memory in the simulator."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from math import inf

import pytest
import trio
import trio.testing
from examples.actors import chat_room
from examples.actors.chat_room import MEMBER, Join, Room, open_chat
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors import ActorSystem
from greenroom.actors.testing import every_cancellation, schedules, simulate


class Client:
    """Says and hears lines."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._unread = b""

    async def say(self, line: str) -> None:
        await self.stream.send_all(f"{line}\n".encode())

    async def hear(self) -> str:
        """Give the next line."""
        while b"\n" not in self._unread:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    async def hear_all(self) -> list[str]:
        """Give the lines until there are no more."""
        lines = []
        with suppress(EOFError):
            while True:
                lines.append(await self.hear())
        return lines


@dataclass
class Chat:
    system: ActorSystem
    port: int

    @asynccontextmanager
    async def enter(self, nick: str, room: str = "lobby") -> AsyncIterator[Client]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            client = Client(stream)
            await client.say(f"{nick} {room}")
            assert await client.hear() == f"* {nick} is here"
            yield client


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    # What is sent to somebody who does not read shall wait in the mailbox, not in the socket.
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with open_chat(listener) as system:
        yield Chat(system, listener.socket.getsockname()[1])


async def test_everybody_in_a_room_hears_what_is_said_there_and_nobody_else(chat: Chat) -> None:
    async with (
        chat.enter("ada") as ada,
        chat.enter("bob") as bob,
        chat.enter("eve", "attic") as eve,
    ):
        assert await ada.hear() == "* bob is here"
        await ada.say("hello")
        await bob.say("hi")
        for client in (ada, bob):
            assert {await client.hear(), await client.hear()} == {"ada: hello", "bob: hi"}
        await bob.say("/who")
        assert await bob.hear() == "* ada, bob"
        await eve.say("/who")
        assert await eve.hear() == "* eve"


async def test_a_room_is_told_who_has_left_and_ends_behind_the_last(chat: Chat) -> None:
    async with chat.enter("ada") as ada:
        room = chat.system.registry.require("lobby")
        async with chat.enter("bob"):
            assert await ada.hear() == "* bob is here"
            assert len(chat.system.groups.members("lobby")) == 2
        assert await ada.hear() == "* bob has left"
        assert len(chat.system.groups.members("lobby")) == 1
    await room.join()
    assert chat.system.registry.names() == ()
    assert chat.system.groups.names() == ()
    async with chat.enter("ada") as ada:
        assert chat.system.registry.require("lobby") != room


async def test_who_does_not_read_is_cut_off_and_the_others_hear_all(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_room, "MEMBER", replace(MEMBER, shutdown=0))
    async with chat.enter("ada") as ada, chat.enter("sloth") as sloth:
        assert await ada.hear() == "* sloth is here"
        heard: list[str] = []
        for number in range(10_000):
            await ada.say(f"{number} {'x' * 900}")
            heard.append(await ada.hear())
            if heard[-1].startswith("*"):
                break
        assert heard.pop() == "* sloth has left, too slow"
        numbers = [int(line.split()[1]) for line in heard]
        assert numbers == list(range(len(numbers)))
        assert len(await sloth.hear_all()) < len(numbers) - 100


async def test_a_room_still_has_its_members_however_often_it_crashed(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_all = Room.tell_all

    def tell_all_but(self: Room, line: str) -> None:
        if "boom" in line:
            raise ValueError(line)
        tell_all(self, line)

    monkeypatch.setattr(Room, "tell_all", tell_all_but)
    async with chat.enter("ada") as ada:
        async with chat.enter("bob") as bob:
            assert await ada.hear() == "* bob is here"
            for _ in range(5):
                await bob.say("boom")
            await bob.say("sorry")
            assert await bob.hear() == await ada.hear() == "bob: sorry"
            await bob.say("/who")
            assert await bob.hear() == "* ada, bob"
        assert await ada.hear() == "* bob has left"


async def test_a_client_that_sends_no_line_is_cut_off(chat: Chat) -> None:
    async with chat.enter("ada") as ada, chat.enter("eve") as eve:
        assert await ada.hear() == "* eve is here"
        await eve.stream.send_all(b"x" * 1001)
        assert await ada.hear() == "* eve has left"


async def test_a_client_that_does_not_introduce_itself_is_told_how(chat: Chat) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", chat.port) as stream:
        client = Client(stream)
        await client.say("hello")
        assert await client.hear() == (
            "* Say who you are and which room you enter, such as: ada lobby"
        )


# -- In the simulator.


class Street(trio.abc.Listener[trio.abc.Stream]):
    """Where clients come from, over streams in memory."""

    def __init__(self) -> None:
        self._come, self._coming = trio.open_memory_channel[trio.abc.Stream](inf)

    def connect(self) -> Client:
        ours, theirs = trio.testing.memory_stream_pair()
        self._come.send_nowait(theirs)
        return Client(ours)

    async def accept(self) -> trio.abc.Stream:
        return await self._coming.receive()

    async def aclose(self) -> None:
        await self._coming.aclose()


async def come_and_go(delay: int) -> list[object]:
    """Have ada leave while bob enters, `delay` steps later; give the messages that were lost."""
    street = Street()
    async with open_chat(street) as system:
        ada, bob = street.connect(), street.connect()
        await ada.say("ada lobby")
        assert await ada.hear() == "* ada is here"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ada.stream.aclose)
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            await bob.say("bob lobby")
        await bob.say("hello")
        heard = []
        while (line := await bob.hear()) != "bob: hello":
            heard.append(line)
        assert heard in (["* bob is here"], ["* bob is here", "* ada has left"])
        room = system.registry.require("lobby")
        await bob.stream.aclose()
        await room.join()
        assert system.registry.names() == ()
        assert [each.id for each in system.snapshot().walk()] == [
            "chat",
            "rooms",
            "members",
            "door",
        ]
        return [letter.message for letter in system.dead_letters.recent]


@given(st.integers(0, 10), schedules(decisions=100))
@settings(deadline=None)
def test_a_room_may_be_entered_at_the_moment_in_which_it_ends(
    delay: int, choices: list[int]
) -> None:
    run = simulate(come_and_go, delay, choices=choices)
    assert run.tasks_left == ()


def test_who_enters_a_room_that_ends_opens_it_anew() -> None:
    lost = [simulate(come_and_go, delay).value or [] for delay in range(10)]
    assert any(isinstance(message, Join) for messages in lost for message in messages)


def test_a_chat_that_is_cancelled_leaves_nothing_behind() -> None:
    for run in every_cancellation(come_and_go, 0):
        assert run.tasks_left == ()
