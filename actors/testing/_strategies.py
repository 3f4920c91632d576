"""What Hypothesis draws: schedules, and whole plans. It is imported when one is asked for."""

from typing import TYPE_CHECKING

from ._errors import HypothesisMissing
from ._plan import Plan

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def schedules(*, decisions: int = 512, changes: int = 8) -> "SearchStrategy[list[int]]":
    """Draw `choices` for `simulate`; they shrink to fewer and earlier ones, and to none.

    Args:
        decisions: one more than the latest decision to change; early ones are drawn more
            often. `Simulation.decisions` tells how many there are.
        changes: how many decisions are changed at most.
    """
    try:
        from hypothesis import strategies as st
    except ImportError:
        raise HypothesisMissing from None
    return st.lists(_numbers(decisions), max_size=changes)


def plans(
    *,
    decisions: int = 512,
    changes: int = 8,
    crash_points: int = 0,
    crashes: int = 2,
    checkpoints: int = 0,
    targets: tuple[str, ...] = (),
) -> "SearchStrategy[Plan]":
    """Draw a `Plan` for `simulate`: a schedule, crashes, and a cancellation.

    Args:
        decisions: as for `schedules`.
        changes: as for `schedules`.
        crash_points: one more than the latest crash point to crash; 0 for no crashes.
        crashes: how many crash points crash at most.
        checkpoints: one more than the latest step to cancel at; 0 for no cancellation.
        targets: what may be cancelled, as named to `aim`, beside the scenario itself.
    """
    try:
        from hypothesis import strategies as st
    except ImportError:
        raise HypothesisMissing from None
    cancellations = st.just((None, None))
    if checkpoints:
        whom = st.sampled_from([None, *targets])
        cancellations |= st.tuples(_numbers(checkpoints), whom)
    points = _numbers(crash_points) if crash_points else st.nothing()
    return st.tuples(
        schedules(decisions=decisions, changes=changes),
        st.lists(points, max_size=crashes if crash_points else 0),
        cancellations,
    ).map(lambda drawn: Plan(tuple(drawn[0]), tuple(drawn[1]), *drawn[2]))


def _numbers(end: int) -> "SearchStrategy[int]":
    """Draw numbers below `end`, small ones as often as all others: runs may be short."""
    from hypothesis import strategies as st

    ends = [small for small in (8, 64) if small < end] + [end]
    return st.one_of([st.integers(0, each - 1) for each in ends])
