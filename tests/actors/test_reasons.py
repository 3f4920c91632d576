"""What left an actor, sorted into its own crash and what travels on."""

import asyncio

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import Crash, flatten
from greenroom.actors._reasons import leaves_of, sort_out


def cancelled() -> trio.Cancelled:
    caught: list[trio.Cancelled] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                caught.append(error)
                raise

    trio.run(main)
    return caught[0]


CANCELLED = cancelled()
own = st.sampled_from([ValueError, OSError, asyncio.CancelledError]).map(lambda kind: kind("own"))
others = st.sampled_from([KeyboardInterrupt("end"), SystemExit("end"), CANCELLED])
errors = st.recursive(
    st.one_of(own, others),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda members: BaseExceptionGroup("several", members)
    ),
    max_leaves=6,
)


@given(errors, st.booleans())
def test_i28_every_leaf_is_either_crash_or_passes_and_stays_the_same_object(
    error: BaseException, outside: bool
) -> None:
    crash, passing = sort_out(error, cancelled=outside)
    crashed = [] if crash is None else leaves_of(crash)
    passed = [] if passing is None else leaves_of(passing)
    travels = (KeyboardInterrupt, SystemExit, *([trio.Cancelled] if outside else []))
    expected_crashed = [leaf for leaf in leaves_of(error) if not isinstance(leaf, travels)]
    expected_passed = [leaf for leaf in leaves_of(error) if isinstance(leaf, travels)]
    assert [*map(id, crashed)] == [*map(id, expected_crashed)]
    assert [*map(id, passed)] == [*map(id, expected_passed)]


@given(st.integers(0, 5))
def test_flatten_opens_groups_of_one_at_any_depth(depth: int) -> None:
    error: Exception = OSError("gone")
    nested = error
    for _ in range(depth):
        nested = ExceptionGroup("one", [nested])
    assert flatten(nested) is error
    assert Crash(error).leaves == (error,)


def test_flatten_keeps_a_group_of_two_whole() -> None:
    group = ExceptionGroup("two", [ValueError(), OSError()])
    assert flatten(ExceptionGroup("outer", [group])) is group
    assert Crash(group).leaves == group.exceptions


def test_a_crash_is_abnormal_and_shows_its_error() -> None:
    assert Crash(OSError("gone")).abnormal
    with pytest.raises(AttributeError):
        Crash(OSError()).error = OSError()  # type: ignore[misc]
