"""Running a program by hand: a queue for `receive`, a list for `send`, and one step at a time.

The next step comes when the consumer has dealt with the one before, which its `dispatch`
tells: so both sides see the same order, whatever threads and tasks they use. No
communicator is involved. Everything that happens is one list, in order.

The driver waits by `Waiter`, in asyncio or in trio, so there is one driver for both.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from greenroom.bridges.asyncio import call_app, current_hosted_loop, open_hosted_loop
from greenroom.runtime.layers import Waiter

from .programs import BROKEN, LAST, OURS, THEIRS, Message, Program, Step, build, error_of, module

PATIENCE = 5.0  # seconds of a machine that is busy; what works waits for none of them


@dataclass(frozen=True)
class Result:
    """What one scope of a program came to."""

    trace: tuple[tuple[Any, ...], ...]
    outcome: tuple[str, ...]  # how the application ended, or that it lives
    groups: dict[str, list[str]]  # of the layer, after that


def tell_results(results: list[Result]) -> str:
    """Write results down, a line for each thing that happened."""
    lines = []
    for result in results:
        lines += [*map(repr, result.trace), f"-> {result.outcome}, groups {result.groups}", ""]
    return "\n".join(lines)


class GrouplessLayer:
    """A layer of somebody else, who can do nothing about groups."""

    async def new_channel(self) -> str:
        return "specific.groupless"

    async def receive(self, channel: str) -> Message:
        while True:
            await Waiter().wait()

    async def send(self, channel: str, message: Message) -> None:
        pass


class ClosedLayer(GrouplessLayer):
    """One whose server can't be reached."""

    async def new_channel(self) -> str:
        raise ConnectionRefusedError("no server")


class FailingLayer(GrouplessLayer):
    """One that is used wrongly, at the program's step from the layer.

    A server that goes away would be another thing: Greenroom waits for it to come back.
    """

    def __init__(self) -> None:
        self._readers: list[Waiter] = []

    async def receive(self, channel: str) -> Message:
        waiter = Waiter()
        self._readers.append(waiter)
        await waiter.wait()
        raise RuntimeError("two loops")

    def fail(self) -> None:
        for waiter in self._readers:
            waiter.wake()
        self._readers.clear()


class Run:
    """One scope of a program: what goes in, and a list of what happens.

    Args:
        program: what is run.
        side: whose consumer it is, `THEIRS` or `OURS`.
        layer: the channel layer, or None.
    """

    def __init__(self, program: Program, side: str, layer: Any) -> None:
        self.program = program
        self.side = side
        self.layer = layer
        self.trace: list[tuple[Any, ...]] = []
        self.outcome: tuple[str, ...] = ("lives",)
        self.ended = False
        self.client_left = False  # its last message was received
        self.crashed_in: Message | None = None
        self._consumer: Any = None
        self._inbox: list[Message] = []
        self._from_client: list[Message] = []
        self._raw = False
        self._sent = 0
        self._budget = 3
        self._listening = False
        self._failing = False
        self._hanging = False
        self._busy = 0
        self._dispatched = 0
        self._expected = 0
        self._watchers: list[Waiter] = []

    # ---- what the program's class calls

    def note(self, *what: Any) -> None:
        """Write down what happens."""
        self.trace.append(deepcopy(what))

    def tell(self, error: BaseException) -> tuple[str, str]:
        """Describe an error, for a comparison."""
        return type(error).__name__, str(error)

    def adopt(self, consumer: Any) -> None:
        """Learn of an instance, and when it dispatches."""
        self._consumer = consumer
        vars(consumer).pop("dispatch", None)  # of the scope before
        consumer.dispatch = partial(self._dispatch, consumer, consumer.dispatch)

    def spend(self) -> bool:
        """Tell whether the consumer may send to itself once more; some would without end."""
        self._budget -= 1
        return self._budget >= 0

    def expect_from_layer(self, consumer: Any, method: str, target: str) -> None:
        """Count what a handler is about to send to its own channel."""
        if self.program.layer != "memory":
            return  # what is sent there arrives nowhere
        name = consumer.channel_name
        if method == "send":
            self._expected += target == name
        else:
            self._expected += name in self.layer.groups.get(target, ())

    def groups_of(self, consumer: Any) -> list[str]:
        """Tell which groups of the layer an instance is in."""
        name = getattr(consumer, "channel_name", None)
        groups = getattr(self.layer, "groups", {}) if self.program.layer != "none" else {}
        return sorted(group for group, members in groups.items() if name in members)

    def send_raw(self, consumer: Any, message: Message) -> Any:
        """Call `base_send`, as third parties do."""
        return consumer.base_send(message)

    async def rest(self, forever: bool) -> None:
        """Let others run for a moment, or wait until the consumer is cancelled."""
        if not forever:
            await let_others_run()
            return
        self._hanging = True
        self._changed()
        try:
            while True:
                await Waiter().wait()
        except BaseException:
            self.note("cancelled")
            raise

    async def _dispatch(self, consumer: Any, inner: Any, message: Message) -> None:
        self._busy += 1
        self._dispatched += 1
        # To it the messages of the program's layer are sent, and a request waits for no
        # message if nobody knows the name.
        getattr(consumer, "channel_name", None)
        if not self._failing:
            self.note("message", message.get("type", "(none)"))
        try:
            if "dispatch" in self.program.wraps:
                await inner(message)  # which calls `dispatch` here, instead of its own base's
            else:
                await self.dispatch(consumer, inner, message)
        except BaseException:
            if not self._failing:
                self.crashed_in = message
            self._failing = True
            raise
        finally:
            self._busy -= 1
            if self.is_clients(message) and message.get("type") in LAST:
                self._failing = True  # nothing follows it
            self._changed()

    async def dispatch(self, consumer: Any, inner: Any, message: Message) -> None:
        """Do what the framework's own `dispatch` does with one message."""
        await inner(message)

    def is_clients(self, message: Message) -> bool:
        """Tell whether a message is one of those that `receive` has given."""
        return any(message is given for given in self._from_client)

    # ---- the two ends of the application

    async def receive(self) -> Message:
        """Give the client's next message."""
        self._listening = True
        self._changed()
        while not self._inbox:
            await self._wait()
        message = self._inbox.pop(0)
        if message is BROKEN:
            raise ConnectionResetError("receive")
        if message.get("type") in ("websocket.disconnect", "http.disconnect"):
            self.client_left = True
        return message

    async def send(self, message: Message) -> None:
        """Take a message of the application."""
        breaks = self.program.send_breaks
        if breaks is not None and self._sent >= breaks[0]:
            raise error_of(self.side, breaks[1])
        self._sent += 1
        self.note("sent", message)

    # ---- the driver

    async def live(self, app: Any) -> None:
        """Be the server's task for this scope."""
        try:
            await self.serve(app)
        except Exception as error:  # noqa: BLE001
            self.outcome = ("raised", *self.tell(error))
        else:
            self.outcome = ("returned",)
        finally:
            self.ended = True
            self._changed()

    async def serve(self, app: Any) -> None:
        """Await the application."""
        scope = {"type": self.program.scope_type, "path": "/x"}
        if self.program.instance and "__call__" not in self.program.wraps:
            await app(scope, self.receive, self.send)  # it goes where it belongs by itself
        else:
            await call_app(app, scope, self.receive, self.send)

    async def play(self, app: Any) -> Result:
        """Run the application, do the program's steps, and tell what came of it."""
        async with background(partial(self.live, app)):
            async with patience():
                await self._until(lambda: self._listening)
                for step in self.program.steps:
                    if self.ended or self._hanging:
                        break
                    await self._do(step)
                    await self._until(self._is_quiet)
            if not self.ended and not self._is_quiet():
                self.outcome = ("stuck",)
            groups = self._groups()
        return Result(tuple(self.trace), self.outcome, groups)

    async def _do(self, step: Step) -> None:
        if step.source == "client":
            messages = [m if m is BROKEN else deepcopy(m) for m in step.messages]
            self._from_client += messages
            self._inbox += messages
            self._expected += len(messages)
            if any(message is BROKEN for message in messages):
                self._failing = True
            self._changed()
            return
        if isinstance(self.layer, FailingLayer):
            self._failing = True
            self.layer.fail()
            return
        name = getattr(self._consumer, "channel_name", None)
        for message in step.messages:
            self._expected += 1
            await in_asyncio(self.layer.send, name, message)

    def _is_quiet(self) -> bool:
        if self._hanging:
            return True
        waits = not self._failing and not self._busy and self._dispatched >= self._expected
        return self.ended or waits

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not (condition() or self.ended):
            await self._wait()

    async def _wait(self) -> None:
        waiter = Waiter()
        self._watchers.append(waiter)
        await waiter.wait()

    def _changed(self) -> None:
        watchers, self._watchers = self._watchers, []
        for waiter in watchers:
            waiter.wake()

    def _groups(self) -> dict[str, list[str]]:
        name = getattr(self._consumer, "channel_name", None)

        def tell(channel: str) -> str:
            if channel == name:
                return "<me>"
            return "<me before>" if channel.startswith("specific..inmemory!") else channel

        return {
            group: sorted(tell(channel) for channel in channels)
            for group, channels in getattr(self.layer, "groups", {}).items()
        }


@asynccontextmanager
async def background(serve: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task beside the block, and cancel it at its end."""
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield
            nursery.cancel_scope.cancel()
        return
    task = asyncio.ensure_future(serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    """Give the block up when it takes far too long."""
    if trio.lowlevel.in_trio_task():
        with trio.move_on_after(PATIENCE):
            yield
        return
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except TimeoutError:
        pass


async def let_others_run() -> None:
    """Let other tasks have a turn."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def in_asyncio(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Await a function that is written for asyncio, or for both."""
    loop = current_hosted_loop() if trio.lowlevel.in_trio_task() else None
    if loop is None:
        return await function(*args)
    return await loop.run_asyncio(function, *args)


@contextmanager
def default_layer(side: str, layer: Any) -> Any:
    """Make `layer` the default one of a side."""
    manager = module(side, "layers").channel_layers
    old = manager.set("default", layer)
    try:
        yield
    finally:
        manager.set("default", old)
        if old is None:
            manager.backends.pop("default")


def make_layer(program: Program, side: str) -> Any:
    """Make the program's layer, out of those of one side."""
    bad = {"groupless": GrouplessLayer, "closed": ClosedLayer, "failing": FailingLayer}
    if program.layer in bad:
        return bad[program.layer]()
    return module(side, "layers").InMemoryChannelLayer()


@dataclass(frozen=True)
class World:
    """Whose consumer is awaited, by what, with whose layer."""

    side: str
    flavour: str  # "asyncio"; "hosted": in trio, with a hosted loop; "trio": without one
    layers_of: str

    def __str__(self) -> str:
        """Name it in a failure."""
        return f"{self.side} in {self.flavour}, layer of {self.layers_of}"


CHANNELS: Final = World(THEIRS, "asyncio", THEIRS)
CHANNELS_ON_OURS: Final = World(THEIRS, "asyncio", OURS)
GREENROOM: Final = (
    World(OURS, "asyncio", OURS),
    World(OURS, "hosted", OURS),
    World(OURS, "asyncio", THEIRS),
    World(OURS, "hosted", THEIRS),
    World(OURS, "trio", OURS),
)


class Current:
    """The run that a program's class talks to: that of the scope which is served now."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)


RunMaker = Callable[[Program, str, Any], Run]


def play(program: Program, world: World, make_run: RunMaker = Run) -> list[Result]:
    """Run a program in one world; each of its scopes has a result."""
    layer = make_layer(program, world.layers_of)
    scopes = 2 if program.instance else 1
    runs = [make_run(program, world.side, layer) for _ in range(scopes)]
    current = Current(runs[0])
    attributes = {"greenroom_flavour": "trio"} if world.flavour == "trio" else {}
    consumer = build(program, world.side, current, **attributes)

    async def main() -> list[Result]:
        app = consumer() if program.instance else consumer.as_asgi()
        results = []
        for run in runs:
            current.run = run
            if program.instance:
                run.adopt(app)
            results.append(await run.play(app))
        return results

    async def hosted() -> list[Result]:
        async with open_hosted_loop():
            return await main()

    with default_layer(world.side, layer):
        if world.flavour == "asyncio":
            return asyncio.run(main())
        return trio.run(hosted if world.flavour == "hosted" else main)
