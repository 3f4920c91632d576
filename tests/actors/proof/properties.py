"""Holds many drawn worlds against one rule after the other.

To draw and play a world takes a hundred times as long as to check its record, so all rules
share the same worlds: first those that are written by hand, and then those that are drawn.
If one of these breaks a rule, Hypothesis draws them once more for this rule alone, and gives
the simplest that does.
"""

import random
from collections.abc import Callable, Iterator
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.actors.proof.cases import CASES
from tests.actors.proof.play import perform
from tests.actors.proof.record import Record
from tests.actors.proof.worlds import Topic, World, any_plan, worlds

from greenroom.actors.testing import Plan

# Worlds with a bit of everything come first, and then those with more of one thing.
TOPICS: Final[tuple[tuple[Topic, ...], ...]] = ((), ("stash",), ("asks",), ("timers",), ("ends",))

# How tasks take turns in worlds written by hand.
ORDERS: Final = ((), (1, 4, 9), (0, 2, 3, 5, 6, 12, 20))

PROOF: Final = settings(
    deadline=None,
    max_examples=40,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# What is drawn twice is the same; in CI it is the same each day.
_SEED: Final = 0 if settings().derandomize else random.getrandbits(32)

_cases: list[Record] = []
_played: dict[tuple[Topic, ...], list[Record]] = {}


def _draw(topics: tuple[Topic, ...], use: Callable[[Record], object]) -> None:
    """Play worlds, and hand their records on."""

    @PROOF
    @seed(_SEED + TOPICS.index(topics))  # else each topic has the same turns
    @given(worlds(*topics), any_plan)
    def play(world: World, plan: Plan) -> None:
        use(perform(world, plan))

    play()


def records() -> Iterator[Record]:
    """Give the records of many worlds, played when they are first asked for."""
    if not _cases:
        plans = [Plan(choices) for choices in ORDERS]
        _cases.extend(perform(world, plan) for world in CASES.values() for plan in plans)
    yield from _cases
    for topics in TOPICS:
        if topics not in _played:
            played: list[Record] = []
            _draw(topics, played.append)
            _played[topics] = played
        yield from _played[topics]


def in_every_world(rule: Callable[[Record], None]) -> Callable[[], None]:
    """Make a test of a rule: it holds in every world that is drawn."""

    def test() -> None:
        for record in records():
            try:
                rule(record)
            except Exception as error:
                if record not in _cases and Phase.shrink in settings().phases:
                    for topics in TOPICS:
                        _draw(topics, rule)
                error.add_note(repr(record))
                raise

    test.__name__ = rule.__name__
    test.__doc__ = rule.__doc__
    return test
