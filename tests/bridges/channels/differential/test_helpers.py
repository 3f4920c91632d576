"""The small helpers that packages built on Channels import, on both sides."""

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any, Final

import channels.layers
from hypothesis import given
from hypothesis import strategies as st

from greenroom.bridges.channels.layers import BaseChannelLayer

from .campaign import campaign
from .programs import OURS, THEIRS, module

DIFFERENCES: Final = {
    "no newline at the end": "Channels takes a name that ends in a newline, since `$` does",
    "capacities of one's own": (
        "a layer that hands channel_capacity to the base must compile it by itself in Channels"
    ),
    "sources have ended when it has": (
        "when one fails, await_many_dispatch of Channels leaves those after it behind"
    ),
    "methods have names": (
        "name_that_thing fails for bound and built-in methods in Channels, and tells of a class "
        "method no more than its class"
    ),
}


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error)


letters = st.sampled_from(
    ["a", "B", "1", "-", "_", ".", "!", "!", " ", "ü", "\u0661", "\n", "a" * 98, "/"]
)
names = st.one_of(
    st.lists(letters, max_size=4).map("".join),
    st.sampled_from([None, 5, b"a", ["a"], "", "a" * 99, "a" * 100]),
)


def amended(name: Any) -> Any:
    """Make a name that Channels refuses out of one that only Greenroom refuses."""
    return name[:-1] + " " if isinstance(name, str) and name.endswith("\n") else name


@campaign(150)
@given(names, st.booleans())
def test_names_are_valid_where_those_of_channels_are(name: Any, receive: bool) -> None:
    theirs, ours = channels.layers.BaseChannelLayer(), BaseChannelLayer()
    for check, kwargs in (
        ("require_valid_channel_name", {"receive": receive}),
        ("require_valid_group_name", {}),
    ):
        expected = outcome(getattr(theirs, check), amended(name), **kwargs)
        assert outcome(getattr(ours, check), name, **kwargs) == expected
    assert ours.match_type_and_length(name) == theirs.match_type_and_length(name)
    if isinstance(name, str):
        assert ours.non_local_name(name) == theirs.non_local_name(name)


@campaign(40)
@given(st.lists(names, max_size=2))
def test_lists_of_names_are_valid_where_those_of_channels_are(given_names: list[Any]) -> None:
    theirs, ours = channels.layers.BaseChannelLayer(), BaseChannelLayer()
    expected = outcome(theirs.valid_channel_names, [amended(name) for name in given_names])
    assert outcome(ours.valid_channel_names, given_names) == expected


patterns = st.sampled_from(
    ["a", "a*", "*", "[ab]", "?", "a.b", "", "a!*", re.compile("a"), re.compile(".*b$")]
)
channel_names = st.sampled_from(["a", "b", "ab", "a.b", "", "a!b", "*"])


@campaign(80)
@given(
    st.lists(st.tuples(patterns, st.integers(0, 3)), max_size=3, unique_by=lambda pair: pair[0]),
    channel_names,
)
def test_capacities_are_those_of_channels(drawn: list[tuple[Any, int]], name: str) -> None:
    theirs = channels.layers.BaseChannelLayer(capacity=9)
    theirs.channel_capacity = theirs.compile_capacities(dict(drawn))
    expected = theirs.get_capacity(name)
    ours = BaseChannelLayer(capacity=9)
    ours.channel_capacity = ours.compile_capacities(dict(drawn))
    assert ours.get_capacity(name) == expected
    assert BaseChannelLayer(capacity=9, channel_capacity=dict(drawn)).get_capacity(name) == expected


types: st.SearchStrategy[Any] = st.one_of(
    st.lists(st.sampled_from(["a", "B", ".", "_", "-", " ", "é"]), max_size=4).map("".join),
    st.sampled_from([None, 5, b"a.b", [], ()]),
)


@campaign(60)
@given(st.fixed_dictionaries({}, optional={"type": types, "text": st.just("a")}))
def test_messages_name_the_handlers_that_they_name_in_channels(message: dict[str, Any]) -> None:
    theirs, ours = (
        outcome(module(side, "consumer").get_handler_name, message) for side in (THEIRS, OURS)
    )
    assert ours == theirs


class Thing:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...


def test_things_are_named_as_channels_names_them() -> None:
    things = [
        Thing, Thing(), Thing.method, Thing.static, lambda: 1, functools.partial(len), 5, None,
        type, asyncio.sleep, ValueError, ValueError("x"), module, names, 1.5, [], object(), {1: 2},
    ]  # fmt: skip
    for thing in things:
        expected = module(THEIRS, "utils").name_that_thing(thing)
        assert module(OURS, "utils").name_that_thing(thing) == expected


# What each source does next: gives a number, after some turns of the loop, or fails.
sources = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["give", "give", "give", "fail"])),
             max_size=4),
    min_size=1, max_size=3,
)  # fmt: skip
dispatches = st.lists(st.integers(0, 2), max_size=4)


@campaign(60)
@given(sources, dispatches, st.one_of(st.none(), st.integers(1, 5)))
def test_await_many_dispatch_dispatches_what_that_of_channels_does(
    drawn: list[list[tuple[int, str]]], turns: list[int], fails_at: int | None
) -> None:
    """By source: which of several comes first depends on turns of the loop, on either side."""

    async def play(side: str) -> Any:
        got: dict[int, list[int]] = {at: [] for at in range(len(drawn))}
        cancelled: list[int] = []
        count = 0
        script = [list(steps) for steps in drawn]

        def make(at: int) -> Callable[[], Any]:
            async def call() -> tuple[int, int]:
                if not script[at]:
                    try:
                        await asyncio.Event().wait()
                    finally:
                        cancelled.append(at)
                delay, what = script[at].pop(0)
                for _ in range(delay):
                    await asyncio.sleep(0)
                if what == "fail":
                    raise ValueError(f"source {at}")
                return at, len(script[at])

            return call

        async def dispatch(result: tuple[int, int]) -> None:
            nonlocal count
            count += 1
            for _ in range(turns[count % len(turns)] if turns else 0):
                await asyncio.sleep(0)
            if count == fails_at:
                raise ValueError("dispatch")
            got[result[0]].append(result[1])

        task = asyncio.ensure_future(
            module(side, "utils").await_many_dispatch(
                [make(at) for at in range(len(drawn))], dispatch
            )
        )
        for _ in range(60):
            await asyncio.sleep(0)
        lived = not task.done()
        task.cancel()
        end: Any = (await asyncio.gather(task, return_exceptions=True))[0]
        alone = len(drawn) == 1 or (fails_at is None and not any("fail" in str(d) for d in drawn))
        if side == OURS:  # "sources have ended when it has"
            assert asyncio.all_tasks() == {asyncio.current_task()}
        return (
            lived,
            repr(end) if alone else type(end).__name__,
            got if alone else None,
            sorted(cancelled) if alone else None,
            script if len(drawn) == 1 else None,  # what is lost if dispatch fails
        )

    assert asyncio.run(play(OURS)) == asyncio.run(play(THEIRS))
