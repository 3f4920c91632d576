"""The in-memory layers of Channels and of Greenroom, over drawn sequences of operations.

The clock stands still but for the operation that moves it on, by whole seconds, so that
deadlines are often met exactly.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, Protocol
from unittest import mock

import channels.layers
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from greenroom.bridges.channels.layers import InMemoryChannelLayer

from .campaign import campaign

Operation = tuple[Any, ...]

DIFFERENCES: Final = {
    "channel_capacity": "any breaks Channels' layer, where its patterns are never compiled",
    "at the deadline": "a message is too old in Greenroom when its time has come, not after it",
    "full of old messages": (
        "what nobody took in time keeps its place in Channels until somebody receives"
    ),
    "flush": "who waits for a message when Channels' layer is flushed waits for ever",
    "late members": (
        "Channels looks for late members of all groups at each receive, and leaves empty groups; "
        "Greenroom looks for those of the group that is sent to"
    ),
    "assertions": "Channels' texts don't tell what was no dict",
}

CHANNELS: Final = ["a", "b", "ab.c", "x!y", "new"]
NAMES = st.sampled_from([*CHANNELS, *CHANNELS, "bad name", "", "ü", "n" * 99, "n" * 100, 5])
GROUPS = st.sampled_from(["g", "h", "g", "h", "bad!group", "n" * 100, None])
MESSAGES = st.sampled_from(
    [{"type": "t"}, {"type": "t", "deep": [1, {"a": b"b"}]}, {"n": 1}, {}, "no dict", None]
)

likely = st.one_of(
    st.tuples(
        st.just("send"), st.just("a"), st.sampled_from([{"type": "t"}, {"type": "t", "deep": [1]}])
    ),
    st.sampled_from(
        [
            ("receive", "a"),
            ("group_add", "g", "a"),
            ("group_send", "g", {"type": "g"}),
            ("advance", 1),
            ("advance", 2),
        ]
    ),
)
operations = st.one_of(
    likely,
    st.tuples(st.just("send"), NAMES, MESSAGES),
    st.tuples(st.just("send"), st.sampled_from(CHANNELS), st.just({"type": "t"})),
    st.tuples(st.just("group_send"), GROUPS, MESSAGES),
    st.tuples(st.just("group_send"), st.sampled_from(["g", "h"]), st.just({"type": "g"})),
    st.tuples(st.just("group_add"), GROUPS, NAMES),
    st.tuples(st.just("group_add"), st.sampled_from(["g", "h"]), st.sampled_from(CHANNELS)),
    st.tuples(st.just("group_discard"), GROUPS, NAMES),
    st.tuples(st.just("receive"), NAMES),
    st.tuples(st.just("receive"), st.sampled_from(CHANNELS)),
    st.tuples(st.just("cancel"), st.sampled_from(CHANNELS)),
    st.tuples(st.just("advance"), st.integers(1, 3)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("new_channel")),
    st.tuples(st.just("new_channel"), st.sampled_from(["mine", "specific.", ""])),
)


@dataclass(frozen=True)
class Config:
    """What a layer is made with."""

    expiry: int
    group_expiry: int
    capacity: int
    channel_capacity: tuple[tuple[str | re.Pattern[str], int], ...]

    def arguments(self) -> dict[str, Any]:
        return {
            "expiry": self.expiry,
            "group_expiry": self.group_expiry,
            "capacity": self.capacity,
            "channel_capacity": dict(self.channel_capacity) or None,
        }


patterns = st.sampled_from(["a*", "a", "x!*", "[ab]", re.compile("a"), re.compile(".*y$"), "*"])
configs = st.builds(
    Config,
    expiry=st.sampled_from([2, 3, 60]),
    group_expiry=st.sampled_from([2, 4, 86400]),
    capacity=st.sampled_from([1, 2, 100, 100]),
    channel_capacity=st.lists(
        st.tuples(patterns, st.integers(1, 3)), max_size=3, unique_by=lambda pair: pair[0]
    ).map(tuple),
)


class Host(Protocol):
    """Where tasks run: asyncio or trio."""

    def start(self, fn: Callable[[], Any]) -> Callable[[], None]:
        """Run a task, and give what cancels it."""

    async def settle(self) -> None:
        """Wait until nothing happens any more."""


class AsyncioHost:
    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, fn: Callable[[], Any]) -> Callable[[], None]:
        task = asyncio.ensure_future(fn())
        self.tasks.append(task)
        return lambda: task.cancel() and None

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)


@dataclass
class TrioHost:
    nursery: trio.Nursery

    def start(self, fn: Callable[[], Any]) -> Callable[[], None]:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await fn()

        self.nursery.start_soon(run)
        return scope.cancel

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def open_host() -> AsyncIterator[Host]:
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            yield TrioHost(nursery)
            nursery.cancel_scope.cancel()
        return
    host = AsyncioHost()
    yield host
    for task in host.tasks:
        task.cancel()
    await asyncio.gather(*host.tasks, return_exceptions=True)


@dataclass
class Play:
    """One layer, and what became of the operations on it."""

    layer: Any
    host: Host
    config: Config
    now: float = 1000.0
    log: list[tuple[Any, ...]] = field(default_factory=list)
    arrivals: list[tuple[Any, ...]] = field(default_factory=list)
    waiting: dict[str, Callable[[], None]] = field(default_factory=dict)
    count: int = 0
    names: list[str] = field(default_factory=lambda: ["specific..inmemory!abcdefghijkl"])

    async def do(self, operation: Operation) -> None:
        kind, *args = operation
        args = [self.names[-1] if arg == "new" else deepcopy(arg) for arg in args]
        self.count += 1
        if kind in ("send", "group_send") and isinstance(args[1], dict):
            args[1]["at"] = self.count  # no two are alike
        if kind == "advance":
            self.now += args[0]
        elif kind == "cancel":
            cancel = self.waiting.pop(args[0], None)
            if cancel is not None:
                cancel()
        elif kind == "receive":
            if args[0] not in self.waiting:
                self.receive(args[0])
        else:
            await self.call(kind, args)
        await self.host.settle()
        self.log += sorted(self.arrivals, key=repr)  # of which channel first is nobody's promise
        self.arrivals.clear()
        self.look()

    async def call(self, kind: str, args: list[Any]) -> None:
        try:
            result = await getattr(self.layer, kind)(*args)
        except Exception as error:  # noqa: BLE001
            self.log.append((kind, *self.tell(error)))
            return
        if kind == "new_channel":
            assert re.fullmatch(r".*\.inmemory![a-zA-Z]{12}", result)
            self.names.append(result)
        self.log.append((kind, result and self.plain(result)))
        for arg in args:
            if isinstance(arg, dict) and "deep" in arg:
                arg["deep"].append("changed by the sender")

    def receive(self, name: str) -> None:
        async def run() -> None:
            try:
                message = await self.layer.receive(name)
            except Exception as error:  # noqa: BLE001
                self.arrivals.append(("receive", *self.tell(error)))
            else:
                self.arrivals.append(("received", self.plain(name), message))
            finally:
                self.waiting.pop(name, None)

        self.waiting[name] = self.host.start(run)

    def tell(self, error: Exception) -> tuple[str, str]:
        text = "" if isinstance(error, AssertionError) else str(error)  # "assertions"
        return type(error).__name__, self.plain(text)

    def plain(self, text: str) -> str:
        """Replace what is random in a text."""
        for at, name in enumerate(self.names):
            text = text.replace(name, f"{name[:-12]}({at})")
        return text

    def look(self) -> None:
        """Note what tests look at: which names there are, and who is in which group."""
        oldest = self.now - self.config.group_expiry
        self.log.append(
            (
                {
                    self.plain(name): channel.qsize()
                    for name, channel in sorted(self.layer.channels.items())
                },
                {
                    group: present
                    for group, members in sorted(self.layer.groups.items())
                    if (
                        present := sorted(
                            self.plain(n) for n, added in members.items() if added >= oldest
                        )
                    )
                },
            )
        )


class Amended(channels.layers.InMemoryChannelLayer):  # type: ignore[misc]
    """Channels' layer with the differences in what it drops."""

    async def send(self, channel: str, message: Any) -> None:
        try:
            await super().send(channel, message)
        except channels.layers.ChannelFull:
            self._clean_expired()  # "full of old messages"
            await super().send(channel, message)

    def _clean_expired(self) -> None:
        now = channels.layers.time.time() + 0.5  # "at the deadline"
        with mock.patch("channels.layers.time", SimpleNamespace(time=lambda: now)):
            super()._clean_expired()


class Reference(Play):
    """Channels' layer, which is told again who waits after it was flushed."""

    async def do(self, operation: Operation) -> None:
        waiting = list(self.waiting)
        if operation[0] == "flush":
            for name in waiting:
                self.waiting[name]()
            await self.host.settle()
        await super().do(operation)
        if operation[0] == "flush":
            for name in waiting:
                self.receive(name)
            await self.host.settle()
            self.log.pop()
            self.look()


async def play_channels(config: Config, script: list[Operation]) -> list[tuple[Any, ...]]:
    layer = Amended(**config.arguments())
    layer.channel_capacity = layer.compile_capacities(dict(config.channel_capacity))
    async with open_host() as host:
        played = Reference(layer, host, config)
        with mock.patch("channels.layers.time", SimpleNamespace(time=lambda: played.now)):
            return await run(played, script)


async def play_greenroom(config: Config, script: list[Operation]) -> list[tuple[Any, ...]]:
    async with open_host() as host:
        layer = InMemoryChannelLayer(**config.arguments(), clock=lambda: played.now)
        played = Play(layer, host, config)
        return await run(played, script)


async def run(played: Play, script: list[Operation]) -> list[tuple[Any, ...]]:
    for operation in script:
        await played.do(operation)
    return played.log


@campaign(200)
@given(
    configs,
    st.one_of(
        st.lists(operations, min_size=1, max_size=14),
        st.lists(likely, min_size=4, max_size=14),
    ),
)
def test_layer_does_what_that_of_channels_does(config: Config, script: list[Operation]) -> None:
    expected = asyncio.run(play_channels(config, script))
    assert asyncio.run(play_greenroom(config, script)) == expected
    assert trio.run(play_greenroom, config, script) == expected
