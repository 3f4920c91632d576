"""The in-memory layer beside that of Channels: the same calls, and what comes of them.

Where the two differ on purpose, the draws leave it out, and a test of ours says it: names
that end in a newline, `channel_capacity`, capacities that change, and an expiry that falls
on the very tick.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import channels.exceptions
import channels.layers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenroom.bridges.channels.layers as ours

# Few names and small capacities, so that channels fill, and groups overlap and expire.
# A step of time never meets 60 or 100 seconds exactly.
channel_names = st.sampled_from(["a", "b.c", "specific.x!y"])
odd_channels = st.sampled_from(["", "a b", "x" * 100, 5, None, "a!b!c", "ä", "!", b"a", "x" * 99])
group_names = st.sampled_from(["g", "h-1"])
odd_groups = st.sampled_from(["", "a!b", "x" * 100, 5, None, "ä", b"g", "٣"])
messages = st.dictionaries(
    st.sampled_from(["type", "text", "tags"]),
    st.sampled_from([1, "x", b"x", None, ["a"], {"b": 1}]),
)
odd_messages = st.sampled_from([None, "text", ["type"], 5])
channel = st.one_of(channel_names, channel_names, odd_channels)
group = st.one_of(group_names, group_names, odd_groups)
message = st.one_of(messages, messages, odd_messages)
step = st.one_of(
    st.tuples(st.just("send"), channel_names, messages),
    st.tuples(st.just("send"), channel, message),
    st.tuples(st.just("group_add"), group, channel),
    st.tuples(st.just("group_add"), group_names, channel_names),
    st.tuples(st.just("group_discard"), group, channel),
    st.tuples(st.just("group_send"), group_names, messages),
    st.tuples(st.just("group_send"), group, message),
    st.tuples(st.just("receive"), channel),
    st.tuples(st.just("receive"), channel_names),
    st.tuples(st.just("change what was sent")),
    st.tuples(st.just("wait"), st.sampled_from([7, 31])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("close")),
)

Step = tuple[Any, ...]


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now


async def play(layer: Any, clock: Clock, steps: list[Step]) -> list[Any]:
    """Do the steps, and give what each returned or raised and what the layer then holds."""
    seen: list[Any] = []
    sent: list[Any] = []
    for name, *arguments in steps:
        if name == "wait":
            clock.now += arguments[0]
            continue
        if name == "change what was sent":
            for each in sent:
                if isinstance(each, dict):
                    each["changed"] = True
                    if isinstance(each.get("tags"), list):
                        each["tags"].clear()
            continue
        # Each layer gets messages of its own to be changed.
        arguments = [dict(each) if isinstance(each, dict) else each for each in arguments]
        sent += arguments[1:]
        seen.append((name, await outcome(getattr(layer, name), arguments)))
        seen.append({at: queue.qsize() for at, queue in layer.channels.items()})
        seen.append({at: sorted(each) for at, each in layer.groups.items() if each})
    return seen


async def outcome(method: Callable[..., Any], arguments: list[Any]) -> Any:
    task = asyncio.ensure_future(method(*arguments)) if method.__name__ == "receive" else None
    if task is not None:
        for _ in range(3):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return "waits"
    try:
        return await (task or method(*arguments))
    except AssertionError:
        return "AssertionError"
    except (TypeError, channels.exceptions.ChannelFull, ours.ChannelFull) as error:
        return type(error).__name__, str(error)


@given(st.lists(step, max_size=30), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_layer_does_and_refuses_what_that_of_channels_does_and_refuses(
    steps: list[Step], capacity: int
) -> None:
    config: dict[str, Any] = {"capacity": capacity, "expiry": 60, "group_expiry": 100}
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for make in (channels.layers.InMemoryChannelLayer, ours.InMemoryChannelLayer):
            clock = Clock()
            patch.setattr(channels.layers, "time", SimpleNamespace(time=clock.time))
            layer = make(**config)
            layer._clock = clock.time
            fresh = [tuple(_copy(part) for part in each) for each in steps]
            results.append(asyncio.run(play(layer, clock, fresh)))
    theirs, mine = results
    assert mine == theirs


def _copy(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: list(value) if isinstance(value, list) else value for key, value in part.items()
        }
    return part


def test_managers_and_base_classes_have_the_same_names() -> None:
    for name in ("BaseChannelLayer", "InMemoryChannelLayer", "ChannelLayerManager"):
        theirs, mine = getattr(channels.layers, name), getattr(ours, name)
        public = {each for each in dir(theirs) if not each.startswith("_")}
        assert public <= set(dir(mine)), name
    assert vars(channels.layers.BaseChannelLayer())["expiry"] == ours.BaseChannelLayer().expiry


@given(channel | group, st.booleans())
@settings(deadline=None)
def test_helpers_for_layers_of_others_answer_the_same(name: Any, receive: bool) -> None:
    theirs, mine = channels.layers.BaseChannelLayer(), ours.BaseChannelLayer()
    for helper, arguments in [
        ("match_type_and_length", (name,)),
        ("require_valid_channel_name", (name, receive)),
        ("require_valid_group_name", (name,)),
        ("valid_channel_names", ([name], receive)),
        ("valid_channel_names", ([], receive)),
    ]:
        answers = []
        for layer in (theirs, mine):
            try:
                answers.append(getattr(layer, helper)(*arguments))
            except (TypeError, AssertionError) as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1], helper
    if isinstance(name, str):
        assert theirs.non_local_name(name) == mine.non_local_name(name)
        patterns = {"a*": 1, "b.?": 2, "x": 3}
        for layer in (theirs, mine):
            layer.channel_capacity = layer.compile_capacities(patterns)
        assert theirs.get_capacity(name) == mine.get_capacity(name)
