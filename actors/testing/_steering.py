"""Trio's two private names: how a schedule gets into its loop, and how it leaves again.

Trio runs tasks in batches: all that can run now, in an order of its own making. For tests
it has a switch, `_ALLOW_DETERMINISTIC_SCHEDULING`, which sorts each batch by the age of the
tasks and hands it to `_r.shuffle`, a `random.Random`. With the switch on and ours in place
of `_r`, the order is a `Schedule`'s. No other file knows these names, and a test of
this one tells when a release of trio has changed them. Without them simulations still run:

    both are there                    STEERED     the choices are the schedule
    only `_r` is there                SEEDED      the choices seed trio's own disorder
    neither, or both without effect   UNSTEERED   the choices have no effect
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from random import Random
from types import ModuleType
from typing import Any, Final

from ._schedule import Schedule

_LOOP: Final = "trio._core._run"
_RANDOM: Final = "_r"
_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"


class Steering(Enum):
    """How far choices decide about the order of tasks, with the trio that is installed."""

    STEERED = "steered"
    SEEDED = "seeded only: this release of trio has no switch for deterministic scheduling"
    UNSTEERED = "not steered: this release of trio keeps its scheduling to itself"


class _Steerer(Random):
    """Stands in for trio's random numbers, and orders batches instead of shuffling them."""

    def __init__(self, schedule: Schedule[Any], replaced: Any) -> None:
        super().__init__(0)
        self._schedule = schedule
        self._replaced = replaced
        self._thread = threading.get_ident()
        self.asked = False

    def shuffle(self, x: Any) -> None:
        """Order a batch of tasks, which comes sorted by age."""
        if threading.get_ident() == self._thread:
            self.asked = True
            x[:] = reversed(self._schedule.order(x))  # the loop takes from the end
        else:  # the loop of another thread, which has nothing to do with the simulation
            self._replaced.shuffle(x)


@contextmanager
def steer(schedule: Schedule[Any], seed: str) -> Iterator["Wheel"]:
    """Let `schedule` order the tasks of this thread's next run, until the block ends.

    Where trio cannot be steered, `seed` decides about its disorder.
    """
    loop = _loop()
    names = {name: getattr(loop, name) for name in (_RANDOM, _SWITCH) if hasattr(loop, name)}
    ours: Random | None = None
    if len(names) == 2:
        ours = _Steerer(schedule, names[_RANDOM])
    elif _RANDOM in names:
        ours = Random(seed)
    try:
        if ours is not None:
            setattr(loop, _RANDOM, ours)
        if _SWITCH in names:
            setattr(loop, _SWITCH, True)
        yield Wheel(ours)
    finally:
        for name, value in names.items():
            setattr(loop, name, value)


class Wheel:
    """Tells after a run whether the loop has followed."""

    def __init__(self, ours: Random | None) -> None:
        self._ours = ours

    @property
    def steering(self) -> Steering:
        """How far the choices have decided."""
        if isinstance(self._ours, _Steerer):
            return Steering.STEERED if self._ours.asked else Steering.UNSTEERED
        return Steering.UNSTEERED if self._ours is None else Steering.SEEDED


def _loop() -> ModuleType | None:
    try:
        return importlib.import_module(_LOOP)
    except ImportError:
        return None
