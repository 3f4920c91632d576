"""Restart windows and pauses against plain models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import Backoff, RestartWindow

# Few whole seconds, so that crashes often meet the edge of the window exactly.
crash_times = st.lists(st.integers(0, 20), max_size=12).map(sorted)


@given(crash_times, st.integers(0, 4), st.integers(1, 10))
def test_i14_window_allows_a_restart_while_at_most_intensity_fall_within_the_period(
    crashes: list[int], intensity: int, period: int
) -> None:
    window = RestartWindow(intensity, period)
    for count, now in enumerate(crashes, start=1):
        recent = [then for then in crashes[:count] if then >= now - period]
        assert window.allows(now) == (len(recent) <= intensity)


@pytest.mark.parametrize(("intensity", "period"), [(-1, 5), (1, 0), (1, float("nan"))])
def test_window_refuses_what_cannot_be_counted(intensity: int, period: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        RestartWindow(intensity, period)


backoffs = st.builds(
    lambda first, more, factor, jitter: Backoff(first, first + more, factor, jitter),
    st.integers(0, 5),
    st.integers(0, 50),
    st.integers(1, 4),
    st.sampled_from([0, 0.2, 1]),
)


@given(backoffs, st.integers(1, 2000), st.floats(0, 1))
def test_i18_a_pause_lies_between_first_and_longest_plus_jitter_and_never_shrinks(
    backoff: Backoff, failures: int, chance: float
) -> None:
    pause = backoff.pause(failures, chance)
    assert backoff.first <= pause <= backoff.longest * (1 + backoff.jitter)
    assert pause <= backoff.pause(failures + 1, chance)
    assert backoff.pause(1) == backoff.first


@pytest.mark.parametrize(
    "arguments",
    [
        {"first": -1},
        {"first": 2, "longest": 1},
        {"factor": 0.5},
        {"jitter": 2},
        {"reset_after": -1},
    ],
)
def test_backoff_names_the_argument_that_is_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Backoff(**arguments)
