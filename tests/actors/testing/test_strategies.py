"""What Hypothesis draws, and what it makes of it."""

import subprocess
import sys

from hypothesis import find, given, settings

from greenroom.actors.testing import HypothesisMissing, Plan, plans, schedules


@given(schedules(decisions=20, changes=3))
def test_schedules_stay_within_what_was_asked_for(choices: list[int]) -> None:
    assert len(choices) <= 3
    assert all(0 <= choice < 20 for choice in choices)


@given(plans(decisions=9, crash_points=5, checkpoints=7, targets=("till",)))
def test_plans_stay_within_what_was_asked_for(plan: Plan) -> None:
    assert all(choice < 9 for choice in plan.choices)
    assert all(isinstance(crash, int) and crash < 5 for crash in plan.crashes)
    assert plan.cancel_at is None or plan.cancel_at < 7
    assert plan.target in (None, "till")


@given(plans())
def test_plans_crash_and_cancel_only_if_asked_to(plan: Plan) -> None:
    assert plan == Plan(plan.choices)


def test_both_shrink_to_nothing() -> None:
    assert find(schedules(), lambda choices: True) == []
    everything = plans(crash_points=9, checkpoints=9, targets=("till",))
    assert find(everything, lambda plan: True) == Plan()


def test_one_reason_is_what_is_left_of_many() -> None:
    everything = plans(crash_points=99, checkpoints=99, targets=("till",))
    enough = settings(max_examples=2000, database=None)
    late = find(everything, lambda plan: any(c > 40 for c in plan.choices), settings=enough)
    assert late == Plan(choices=(41,))
    crash = find(everything, lambda plan: 9 in plan.crashes, settings=enough)
    assert crash == Plan(crashes=(9,))
    cancelled = find(everything, lambda plan: plan.target is not None, settings=enough)
    assert cancelled == Plan(cancel_at=0, target="till")


def test_the_package_does_without_hypothesis_until_a_strategy_is_asked_for() -> None:
    script = (
        "import sys; sys.modules['hypothesis'] = None; import trio\n"
        "from greenroom.actors.testing import HypothesisMissing, plans, schedules, simulate\n"
        "simulate(trio.sleep, 1)\n"
        "for strategy in (plans, schedules):\n"
        "    try: strategy()\n"
        "    except HypothesisMissing as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout.decode().splitlines() == [str(HypothesisMissing())] * 2
    assert "pip install 'greenroom[testing]'" in str(HypothesisMissing())
