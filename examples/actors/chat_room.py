"""A chat over plain TCP: rooms with names, members that come and go, nobody waits for the slow.

    python examples/actors/chat_room.py [PORT]

Then `nc localhost 9000` in several terminals. Say who you are and which room you enter, such as
`ada lobby`; after that each line is said there, and `/who` tells who is in.

    chat
    |-- rooms            each is registered under its name, and its members are the group of
    |   `-- room-6       that name; it ends behind the last of them
    |-- members          each writes what its room says, and has a task beside it that reads
    |   `-- member-5     what its client says
    `-- door             lets clients in
"""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import trio

from greenroom.actors import (
    INFINITY,
    Actor,
    ActorDied,
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Context,
    DynamicSupervisor,
    ExitReason,
    Lane,
    Overflow,
    Overload,
    Restart,
    Signal,
    Terminated,
    open_actor_system,
)

LONGEST_LINE = 1000  # bytes; whoever sends longer ones is cut off


@dataclass(frozen=True)
class Join:
    member: ActorRef[str]
    nick: str


@dataclass(frozen=True)
class Say:
    member: ActorRef[str]
    text: str


@dataclass(frozen=True)
class Who:
    """Asked; the reply is a list of nicks."""


ToRoom: TypeAlias = Join | Say | Who
Listener: TypeAlias = trio.abc.Listener[trio.abc.Stream]


@dataclass
class Room(Actor[ToRoom]):
    name: str
    nicks: dict[ActorRef[str], str]  # an argument of `start_child`: it outlives a crash

    async def receive(self, message: ToRoom) -> list[str] | None:
        match message:
            case Join(member, nick):
                self.nicks[member] = nick
                self.ctx.watch(member)
                self.ctx.groups.join(self.name, member)
                self.tell_all(f"* {nick} is here")
            case Say(member, text) if member in self.nicks:
                self.tell_all(f"{self.nicks[member]}: {text}")
            case Who():
                return sorted(self.nicks.values())
        return None

    async def on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Terminated):  # by which it has left the group, too
            why = ", too slow" if isinstance(signal.reason, Overload) else ""
            self.tell_all(f"* {self.nicks.pop(signal.ref)} has left{why}")
            if not self.nicks:
                self.ctx.stop("the last member has left")

    def tell_all(self, line: str) -> None:
        report = self.ctx.groups.send(self.name, line)
        self.ctx.log.info("%s (%d of %d hear it)", line, report.accepted, report.sent)


@dataclass
class Member(Actor[str]):
    """One connection. Only here is anything written to it, so lines stay whole."""

    stream: trio.abc.Stream
    rooms: ActorRef[Any]
    room: ActorRef[ToRoom] | None = None

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.me = ctx.self
        ctx.nursery.start_soon(self.listen)

    async def stopped(self, reason: ExitReason) -> None:
        await trio.aclose_forcefully(self.stream)

    async def receive(self, line: str) -> None:
        with suppress(trio.BrokenResourceError):  # `listen` hears of it, too
            await self.stream.send_all(f"{line}\n".encode())

    async def listen(self) -> None:
        unread = b""
        with suppress(trio.BrokenResourceError):
            async for data in self.stream:
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    await self.hear(line.decode(errors="replace").strip())
                if len(unread) > LONGEST_LINE:
                    break
        self.me.stop("the client has hung up")

    async def hear(self, line: str) -> None:
        nick, _, name = line.partition(" ")
        if self.room is not None and line == "/who":
            self.me.tell(f"* {', '.join(await self.room.ask(Who()))}")
        elif self.room is not None:
            await self.room.send(Say(self.me, line))  # waits while the room has much to do
        elif nick and name:
            self.room = await self.enter(name, nick)
        else:
            self.me.tell("* Say who you are and which room you enter, such as: ada lobby")

    async def enter(self, name: str, nick: str) -> ActorRef[ToRoom]:
        while True:
            room = self.ctx.registry.find(name)
            if room is None:
                room = self.rooms.start_child(ROOM, name, {})
                self.ctx.registry.register(name, room)
            with suppress(ActorDied):  # it is ending behind its last member: open it anew
                await room.ask(Join(self.me, nick))
                return room


ROOM = ChildSpec("room", Room, intensity=INFINITY)
# Who leaves 100 lines unread is cut off, so that nobody else has to wait or to remember them.
MEMBER = ChildSpec(
    "member", Member, restart=Restart.TEMPORARY, shutdown=1, mailbox=Lane(100, Overflow.CLOSE)
)


@dataclass
class Door(Actor[NoReturn]):
    listener: Listener
    members: ActorRef[Any]
    rooms: ActorRef[Any]

    async def run(self, ctx: Context) -> None:
        while True:
            self.members.start_child(MEMBER, await self.listener.accept(), self.rooms)


# It cannot accept for want of file descriptors, say: then it waits a while.
DOOR = ChildSpec("door", Door, backoff=Backoff(), intensity=INFINITY, expected=(OSError,))


@asynccontextmanager
async def open_chat(listener: Listener) -> AsyncIterator[ActorSystem]:
    async with listener, open_actor_system("chat") as system:
        rooms = system.spawn(ChildSpec("rooms", DynamicSupervisor))
        members = system.spawn(ChildSpec("members", DynamicSupervisor))
        system.spawn(DOOR, listener, members, rooms)  # last, so it is the first to be stopped
        yield system


async def main(port: int) -> None:
    [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
    async with open_chat(listener):
        print(f"nc localhost {listener.socket.getsockname()[1]}", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 9000)
