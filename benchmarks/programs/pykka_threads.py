"""Pykka, an actor library without an event loop: each actor is a thread, and asking blocks.

It is older than asyncio, still kept up, and the one that Python programs use for actors in
one process. It has no supervision, so there is no restart here.
"""

import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pykka

from .meters import CPUTime, Memory

BATCH = 100  # threads started before they are joined
MOST = 1000  # threads; more of them would tell nothing new


def run(function: Callable[..., float], *numbers: int) -> float:
    return function(*numbers)


class Player(pykka.ThreadingActor):
    """Tells the other player, until nothing is left of the game."""

    def __init__(
        self, refs: list[pykka.ActorRef["Player"]], peer: int, over: threading.Event
    ) -> None:
        super().__init__()
        self.refs = refs
        self.peer = peer
        self.over = over

    def on_receive(self, left: int) -> None:
        if left:
            self.refs[self.peer].tell(left - 1)
        else:
            self.over.set()


class Counter(pykka.ThreadingActor):
    """Counts messages, and calls `full` at the last one that is expected."""

    def __init__(self, numbers: Callable[[], int], last: int, full: threading.Event) -> None:
        super().__init__()
        self.numbers = numbers
        self.last = last
        self.full = full

    def on_receive(self, message: object) -> None:
        if self.numbers() == self.last:
            self.full.set()


class Echo(pykka.ThreadingActor):
    """Answers with the question."""

    def on_receive(self, message: Any) -> Any:
        return message


def hop(size: int) -> float:
    """Let two threads tell each other in turn."""
    refs: list[pykka.ActorRef[Player]] = []
    over = threading.Event()
    for peer in (1, 0):
        refs.append(Player.start(refs, peer, over))
    with CPUTime(size) as cost:
        refs[0].tell(size)
        over.wait()
    pykka.ActorRegistry.stop_all()
    return cost.each


def tell_each(size: int, receivers: int, burst: int) -> float:
    """Tell each of `receivers` threads `burst` messages, let others run, and so on."""
    turns = -(-size // (receivers * burst))
    messages = turns * receivers * burst
    handled = count(1)
    over = threading.Event()
    refs = [Counter.start(handled.__next__, messages, over) for _ in range(receivers)]
    with CPUTime(messages) as cost:
        for _ in range(turns):
            for ref in refs:
                for _ in range(burst):
                    ref.tell("news")
            time.sleep(0)
        over.wait()
    pykka.ActorRegistry.stop_all()
    return cost.each


def ask(size: int) -> float:
    """Put a message with a future, and block until the answer is in it."""
    ref = Echo.start()
    with CPUTime(size) as cost:
        for _ in range(size):
            ref.ask("question")
    ref.stop()
    return cost.each


def ask_with_timeout(size: int) -> float:
    """Ask, for 5 seconds at most."""
    ref = Echo.start()
    with CPUTime(size) as cost:
        for _ in range(size):
            ref.ask("question", timeout=5)
    ref.stop()
    return cost.each


def spawn(size: int) -> float:
    """Start threads that are told to end at once."""
    with CPUTime(size) as cost:
        for number in range(1, size + 1):
            Echo.start().stop(block=False)
            if not number % BATCH:
                _join_all()
        _join_all()
    return cost.each


def _join_all() -> None:
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()


def idle(size: int) -> float:
    """Park threads."""
    size = min(size, MOST)
    for _ in range(10):
        Echo.start()
    with Memory(size) as memory:
        for _ in range(size):
            Echo.start()
    pykka.ActorRegistry.stop_all()
    return memory.each
