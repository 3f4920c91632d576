"""Consumers of Channels and of Greenroom, held against each other over drawn programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import driving
from .campaign import TIMES, campaign
from .driving import CHANNELS_ON_OURS, GREENROOM, Result, World, play, tell_results
from .programs import BAD_LAYERS, KINDS, OURS, SYNC, THEIRS, Program, Step, programs
from .reference import DIFFERENCES, play_reference

IN_ASYNCIO = World(OURS, "asyncio", OURS)


def worlds_of(program: Program) -> list[World]:
    """Give the worlds that a program can live in."""
    without_loop = program.kind not in SYNC and program.layer not in BAD_LAYERS
    return [world for world in GREENROOM if world.flavour != "trio" or without_loop]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_consumers_do_what_those_of_channels_do(kind: str) -> None:
    @campaign(22)
    @given(programs(kind), st.data())
    def check(program: Program, data: st.DataObject) -> None:
        worlds = worlds_of(program)
        if TIMES == 1:  # one of them, for a suite that is fast
            worlds = [data.draw(st.sampled_from(worlds))]
        for world in worlds:
            expected = tell_results(play_reference(program, world))
            assert tell_results(play(program, world)) == expected, str(world)

    check()


def without_groups(results: list[Result]) -> str:
    return tell_results([Result(result.trace, result.outcome, {}) for result in results])


@campaign(40)
@given(programs())
def test_consumers_of_channels_work_with_the_layer_of_greenroom(program: Program) -> None:
    """Half old and half new: what Channels does there is what it does with its own layer."""
    differences = frozenset({"assertions name the value"})
    expected = play_reference(program, differences=differences)
    assert without_groups(play(program, CHANNELS_ON_OURS)) == without_groups(expected)


CONNECT = Step("client", ({"type": "websocket.connect"},))
RECEIVE = Step("client", ({"type": "websocket.receive", "text": "a"},))
DISCONNECT = Step("client", ({"type": "websocket.disconnect", "code": 1001},))
REQUEST = Step("client", ({"type": "http.request", "body": b"b"},))


def websocket(handlers: dict[str, list[tuple[object, ...]]], *steps: Step) -> Program:
    return make("async_websocket", "websocket", handlers, *steps)


def make(
    kind: str, scope_type: str, handlers: dict[str, list[tuple[object, ...]]], *steps: Step
) -> Program:
    written = tuple((name, tuple(actions)) for name, actions in handlers.items())
    return Program(kind, written, steps, scope_type)


def call(method: str, *args: object, **kwargs: object) -> tuple[object, ...]:
    return ("call", method, args, tuple(kwargs.items()))


FAIL = ("raise", "Oops")
JOIN = ("layer", "group_add", ("g", "<me>"))
NO_MESSAGE = ("guard", ("layer", "send", ("<me>", "no dict")))

EXAMPLES: dict[str, Program] = {
    "a crash is followed by disconnect": websocket(
        {"receive": [FAIL], "disconnect": []}, CONNECT, RECEIVE
    ),
    "a cancelled consumer disconnects": websocket({"disconnect": []}, CONNECT),
    "a crash in connect leaves the groups": Program(
        "async_websocket", (("connect", (FAIL,)),), (CONNECT,), "websocket", groups=("g",)
    ),
    "the end leaves all groups": websocket({"receive": [JOIN]}, CONNECT, RECEIVE, DISCONNECT),
    "a message calls handlers only": websocket({}, CONNECT, Step("layer", ({"type": "close"},))),
    "a goodbye needs no handler": make("async", "websocket", {}, DISCONNECT),
    "nothing follows a goodbye": make("async", "test", {"websocket_disconnect": []}, DISCONNECT),
    "what follows a close is ignored": websocket(
        {"connect": [call("close"), call("send", "late"), call("close", 4000)]}, CONNECT
    ),
    "a client that has left is no error": Program(
        "async_websocket", (), (CONNECT,), "websocket", send_breaks=(0, "OSError")
    ),
    "a request ends with its response": make(
        "http",
        "http",
        {"handle": [call("send_headers")], "chat_message": [call("send_body", b"late")]},
        REQUEST,
        Step("layer", ({"type": "chat.message"},)),
    ),
    "the first error counts": make(
        "http", "http", {"handle": [FAIL], "disconnect": [("raise", "RuntimeError")]}, REQUEST
    ),
    "assertions name the value": make(
        "async", "test", {"websocket_receive": [NO_MESSAGE]}, RECEIVE
    ),
}


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_each_difference_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = EXAMPLES[name]
    world = IN_ASYNCIO
    if name == "a crash in connect leaves the groups":
        world = World(OURS, "asyncio", THEIRS)  # our own layer leaves them by itself
    ours = tell_results(play(program, world))
    assert ours == tell_results(play_reference(program, world))
    monkeypatch.setattr(driving, "PATIENCE", 0.3)  # one of them waits for ever
    without = frozenset(DIFFERENCES) - {name}
    assert ours != tell_results(play_reference(program, world, without))
