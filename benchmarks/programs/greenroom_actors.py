"""Actors of Greenroom, as users write them."""

import logging
import os
from collections.abc import Callable
from typing import Any

import trio
from trio.lowlevel import checkpoint
from trio.testing import wait_all_tasks_blocked

from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSystem,
    ChildSpec,
    Context,
    Lane,
    Restart,
    open_actor_system,
    open_dynamic_supervisor,
)

from .logs import logging_off, logging_to
from .meters import CPUTime, Memory

BATCH = 100  # actors started before others get a turn

run = trio.run


class Player(Actor[int]):
    """Tells the other player, until nothing is left of the game."""

    def __init__(self, refs: list[ActorRef[int]], peer: int, over: trio.Event) -> None:
        self.refs = refs
        self.peer = peer
        self.over = over

    async def receive(self, left: int) -> None:
        if left:
            self.refs[self.peer].tell(left - 1)
        else:
            self.over.set()


class Counter(Actor[str]):
    """Counts its messages."""

    def __init__(self) -> None:
        self.handled = 0

    async def receive(self, message: str) -> None:
        self.handled += 1


class Echo(Actor[Any]):
    """Answers with the question."""

    async def receive(self, message: Any) -> Any:
        return message


class Mayfly(Actor[Any]):
    """Ends at once."""

    async def run(self, ctx: Context) -> None:
        pass


class Troubled(Actor[Any]):
    """Crashes at once, until it has lived often enough."""

    def __init__(self, restarts: int) -> None:
        self.restarts = restarts

    async def run(self, ctx: Context) -> None:
        if ctx.incarnation < self.restarts:
            raise OSError("gone")


async def hop(size: int) -> float:
    """Let two actors tell each other in turn."""
    refs: list[ActorRef[int]] = []
    over = trio.Event()
    async with open_actor_system("bench") as system:
        for at, peer in ((0, 1), (1, 0)):
            refs.append(system.spawn(ChildSpec(f"player-{at}", Player), refs, peer, over))
        await wait_all_tasks_blocked()
        with CPUTime(size) as cost:
            refs[0].tell(size)
            await over.wait()
    return cost.each


async def tell_each(size: int, receivers: int, burst: int) -> float:
    """Tell each of `receivers` actors `burst` messages, let others run, and so on."""
    async with open_actor_system("bench") as system:
        counters, refs = await _start_counters(system, receivers)

        def tell() -> None:
            for ref in refs:
                for _ in range(burst):
                    ref.tell("news")

        return await _cost_of(tell, size, receivers * burst, counters)


async def fan_out_in_group(size: int, receivers: int) -> float:
    """Send the same to a group of `receivers` actors, let others run, and so on."""
    async with open_actor_system("bench") as system:
        counters, refs = await _start_counters(system, receivers)
        for ref in refs:
            system.groups.join("readers", ref)

        def send_to_group() -> None:
            system.groups.send("readers", "news")

        return await _cost_of(send_to_group, size, receivers, counters)


async def _start_counters(
    system: ActorSystem, count: int
) -> tuple[list[Counter], list[ActorRef[str]]]:
    counters = [Counter() for _ in range(count)]
    # No limit, as with the others: the sender yields, but does not wait for the actors.
    refs = [
        system.spawn(ChildSpec(f"counter-{at}", counters.__getitem__, mailbox=Lane()), at)
        for at in range(count)
    ]
    await wait_all_tasks_blocked()
    return counters, refs


async def _cost_of(
    send: Callable[[], None], size: int, messages: int, counters: list[Counter]
) -> float:
    """Measure one message of those that `send` sends with each call, until it is handled."""
    turns = -(-size // messages)
    with CPUTime(turns * messages) as cost:
        for _ in range(turns):
            send()
            await checkpoint()
        while sum(counter.handled for counter in counters) < turns * messages:
            await checkpoint()
    return cost.each


async def ask(size: int) -> float:
    """Ask an actor, one question after the other."""
    async with open_actor_system("bench") as system:
        ref = system.spawn(ChildSpec("echo", Echo))
        await wait_all_tasks_blocked()
        with CPUTime(size) as cost:
            for _ in range(size):
                await ref.ask("question")
    return cost.each


async def ask_with_timeout(size: int) -> float:
    """Ask, for 5 seconds at most."""
    async with open_actor_system("bench") as system:
        ref = system.spawn(ChildSpec("echo", Echo))
        await wait_all_tasks_blocked()
        with CPUTime(size) as cost:
            for _ in range(size):
                await ref.ask("question", timeout=5)
    return cost.each


async def spawn(size: int) -> float:
    """Start actors that end at once."""
    spec = ChildSpec("mayfly", Mayfly, restart=Restart.TEMPORARY)
    async with open_dynamic_supervisor() as supervisor:
        with CPUTime(size) as cost:
            for number in range(1, size + 1):
                supervisor.start_child(spec)
                if not number % BATCH:
                    await checkpoint()
            while len(supervisor):
                await checkpoint()
    return cost.each


async def restart(size: int) -> float:
    """Restart an actor that crashes; what is logged of it goes nowhere."""
    with logging_to(logging.NullHandler()):
        return await _restart(size)


async def restart_logged(size: int) -> float:
    """Restart an actor that crashes; what is logged of it is written, with its traceback."""
    with logging_to(logging.FileHandler(os.devnull)):
        return await _restart(size)


async def restart_unlogged(size: int) -> float:
    """Restart an actor that crashes; nothing is logged of it."""
    with logging_off():
        return await _restart(size)


async def _restart(size: int) -> float:
    spec = ChildSpec("troubled", Troubled, restart=Restart.TRANSIENT)
    async with open_actor_system("bench", intensity=size) as system:
        with CPUTime(size) as cost:
            await system.spawn(spec, size).join()
    return cost.each


async def idle(size: int) -> float:
    """Park actors, each before its mailbox."""
    spec = ChildSpec("echo", Echo, restart=Restart.TEMPORARY)
    async with open_dynamic_supervisor() as supervisor:
        for _ in range(BATCH):
            supervisor.start_child(spec)
        await wait_all_tasks_blocked()
        with Memory(size) as memory:
            for _ in range(size):
                supervisor.start_child(spec)
            await wait_all_tasks_blocked()
    return memory.each
