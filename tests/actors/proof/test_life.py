"""What begins also ends, why, and with nothing left: I25, I27 and I28."""

from traceback import walk_tb

from hypothesis import given, settings
from tests.actors.proof.trees import (
    Branch,
    End,
    Played,
    Step,
    play,
    reason_of,
    wild_ends,
    wild_plans,
    wild_steps,
    wild_trees,
)

from greenroom.actors import Crash, ExitReason, RestartsExhausted, StartTimeout
from greenroom.actors.testing import Plan

"""What begins also ends, why, and with nothing left: I25, I27 and I28."""


def play_wild(tree: Branch, steps: list[Step], end: End, plan: Plan) -> Played:
    return play(tree, steps, until=8, end=end, shutdown_timeout=20, plan=plan)


# I25


@given(wild_trees, wild_steps, wild_ends, wild_plans)
@settings(deadline=None, max_examples=60)
def test_i25_each_started_that_returned_has_exactly_one_stopped_and_no_other_has_one(
    tree: Branch, steps: list[Step], end: End, plan: Plan
) -> None:
    played = play_wild(tree, steps, end, plan)
    started = [(entry.id, entry.life) for entry in played.record.of("started")]
    stopping = [(entry.id, entry.life) for entry in played.record.of("stopping")]
    stopped = [(entry.id, entry.life) for entry in played.record.of("stopped")]
    assert sorted(started) == sorted(stopping) == sorted(stopped)
    assert len(set(started)) == len(started)


# I27


@given(wild_trees, wild_steps, wild_ends, wild_plans)
@settings(deadline=None, max_examples=60)
def test_i27_after_a_system_no_task_deadline_name_group_or_service_of_it_is_left(
    tree: Branch, steps: list[Step], end: End, plan: Plan
) -> None:
    played = play_wild(tree, steps, end, plan)
    assert played.after == played.before
    assert played.run.tasks_left == ()


# I28


@given(wild_trees, wild_steps, wild_ends, wild_plans)
@settings(deadline=None, max_examples=60)
def test_i28_every_incarnation_ends_for_a_reason_and_a_crash_has_the_very_exception(
    tree: Branch, steps: list[Step], end: End, plan: Plan
) -> None:
    played = play_wild(tree, steps, end, plan)
    faults = played.record.faults
    made = {(entry.id, entry.life) for entry in played.record.of("made")}
    reasons: dict[tuple[str, int], ExitReason] = {}
    for entry in played.record.of("restarted", "ended"):
        if (entry.id, entry.life) in made:  # and not forgotten before it was
            reasons.setdefault((entry.id, entry.life), reason_of(entry))
    # A constructor that fails may be its caller's matter.
    assert all(len(faults[life]) == 1 for life in made - reasons.keys())
    for life, raised in faults.items():
        if life in reasons:
            reason = reasons[life]
            assert isinstance(reason, Crash)
            assert any(leaf is raised[0] for leaf in reason.leaves)
    known = [error for raised in faults.values() for error in raised]
    for reason in reasons.values():
        for leaf in reason.leaves if isinstance(reason, Crash) else ():
            origin = origin_of(leaf)
            assert any(origin is error for error in known) or isinstance(origin, StartTimeout)
            if not isinstance(origin, StartTimeout):
                *_, (frame, _) = walk_tb(origin.__traceback__)
                assert frame.f_code.co_name in ("fail", "crash_point")


def origin_of(error: BaseException) -> BaseException:
    """Give the crash that made a supervisor give up, or the one above it."""
    while isinstance(error, RestartsExhausted):
        assert error.__cause__ is not None
        error = error.__cause__
    return error
