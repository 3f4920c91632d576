"""A gateway for devices that speak a binary protocol over TCP: one actor for each of them.

    gateway
    |-- devices          a `DynamicSupervisor`; what one device does wrong ends that one only
    |   |-- device-7     registered under the name that its HELLO gives
    `-- door             lets them in; starts after the devices, and so stops before them

A frame is two bytes of length, one byte of kind, and a body of that length:

    HELLO    name            the first from a device; the gateway says it back
    BEAT                     from a device now and then: whoever is silent is given up
    COMMAND  number, text    to a device
    ANSWER   number, text    from a device, with the number of the command
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from struct import Struct
from typing import Any, Final, NoReturn

import trio

from greenroom.actors import (
    INFINITY,
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Context,
    DynamicSupervisor,
    ExitReason,
    Reply,
    Restart,
    open_actor_system,
)

PATIENCE: Final = 30.0  # seconds that a device may say nothing, or read nothing
LONGEST: Final = 1024  # bytes of a body
HEAD: Final = Struct("!HB")

# The protocol: bytes in, frames out. It never waits.


class Kind(IntEnum):
    HELLO = 1
    BEAT = 2
    COMMAND = 3
    ANSWER = 4


@dataclass(frozen=True)
class Frame:
    kind: Kind
    body: bytes = b""

    def __bytes__(self) -> bytes:
        return HEAD.pack(len(self.body), self.kind) + self.body


class BadFrame(Exception):
    """Raised when a device sends what it must not; the fault is the device's."""


class FrameReader:
    def __init__(self) -> None:
        self._unread = b""

    def receive_data(self, data: bytes | bytearray) -> Iterator[Frame]:
        """Give the frames that `data` completes, however the bytes were cut."""
        self._unread += data
        while len(self._unread) >= HEAD.size:
            length, kind = HEAD.unpack_from(self._unread)
            if length > LONGEST or kind not in Kind.__members__.values():
                raise BadFrame(f"no frame begins with {self._unread[: HEAD.size]!r}")
            end = HEAD.size + length
            if len(self._unread) < end:
                return
            body, self._unread = self._unread[HEAD.size : end], self._unread[end:]
            yield Frame(Kind(kind), body)


# The actors.


@dataclass(frozen=True)
class Command:
    """Asks a device; the reply is its answer."""

    text: str


@dataclass(frozen=True)
class Silent:
    """The device's own: nothing has come for too long."""


@dataclass
class Device(Actor[Frame | Command | Silent]):
    stream: trio.abc.Stream
    name: str = ""
    numbers: Iterator[int] = field(default_factory=count)
    asked: dict[int, Reply] = field(default_factory=dict)

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        ctx.timers.start_single("silence", Silent(), PATIENCE)
        ctx.nursery.start_soon(self.read)

    async def stopped(self, reason: ExitReason) -> None:
        await trio.aclose_forcefully(self.stream)

    async def read(self) -> None:
        reader = FrameReader()
        with suppress(trio.BrokenResourceError):
            async for data in self.stream:
                for frame in reader.receive_data(data):
                    await self.ctx.self.send(frame)  # a device that says too much has to wait
        self.ctx.stop("the device has hung up")

    async def receive(self, message: Frame | Command | Silent) -> None:
        match message:
            case Command(text):
                number = next(self.numbers) % 256
                if number in self.asked:
                    self.asked.pop(number).fail(TimeoutError("255 more commands went out since"))
                self.asked[number] = self.ctx.reply_later()
                await self.write(Frame(Kind.COMMAND, bytes([number]) + text.encode()))
            case Frame(kind, body):
                # Begins anew with each frame; a receive timeout would with each command, too.
                self.ctx.timers.start_single("silence", Silent(), PATIENCE)
                await self.heed(kind, body)
            case Silent():
                self.ctx.stop("the device is silent")

    async def heed(self, kind: Kind, body: bytes) -> None:
        match kind:
            case Kind.HELLO if not self.name:
                self.name = body.decode()
                while (former := self.ctx.registry.find(self.name)) is not None:
                    former.kill("the device has connected again")
                    await former.join()
                self.ctx.registry.register(self.name, self.ctx.self)
                await self.write(Frame(kind, body))
            case Kind.ANSWER if body and body[0] in self.asked:
                self.asked.pop(body[0]).send(body[1:].decode())
            case Kind.BEAT:
                pass
            case _:
                raise BadFrame(f"{kind.name} {body!r} has no place here")

    async def write(self, frame: Frame) -> None:
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(bytes(frame))


@dataclass
class Door(Actor[NoReturn]):
    listener: trio.SocketListener
    devices: ActorRef[Any]

    async def run(self, ctx: Context) -> None:
        while True:
            self.devices.start_child(DEVICE, await self.listener.accept())


MISHAPS: Final = (BadFrame, UnicodeDecodeError, trio.BrokenResourceError, trio.TooSlowError)
DEVICE: Final = ChildSpec("device", Device, restart=Restart.TEMPORARY, shutdown=1, expected=MISHAPS)
# It cannot accept for want of file descriptors, say: then it waits a while.
DOOR: Final = ChildSpec("door", Door, backoff=Backoff(), intensity=INFINITY, expected=(OSError,))


@asynccontextmanager
async def open_gateway(listener: trio.SocketListener) -> AsyncIterator[ActorSystem]:
    async with listener, open_actor_system("gateway") as system:
        devices = system.spawn(ChildSpec("devices", DynamicSupervisor))
        system.spawn(DOOR, listener, devices)
        yield system


# A try: a lamp that does what it is told, and somebody who sends what is no frame.


async def lamp(port: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    reader = FrameReader()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(bytes(Frame(Kind.HELLO, b"lamp")))
        async for data in stream:
            for frame in reader.receive_data(data):
                if frame.kind is Kind.HELLO:
                    task_status.started()
                else:
                    await stream.send_all(bytes(Frame(Kind.ANSWER, frame.body + b", done")))


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery, open_gateway(listener) as system:
        await nursery.start(lamp, port)
        device = system.registry.require("lamp")
        print(await device.ask(Command("on"), timeout=2))
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            print("The gateway hangs up:", await stream.receive_some() == b"")
        print(await device.ask(Command("off"), timeout=2))


if __name__ == "__main__":
    trio.run(main)
