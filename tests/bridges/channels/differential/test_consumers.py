"""Consumers of Channels and of Greenroom, held against each other over drawn programs."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import driving
from .campaign import TIMES, campaign
from .driving import CHANNELS_ON_OURS, GREENROOM, Result, World, play, tell_results
from .programs import (
    BAD_LAYERS,
    JSON,
    KINDS,
    LAYER_TYPES,
    OURS,
    SYNC,
    THEIRS,
    Action,
    Program,
    Step,
    programs,
)
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
    got = play_reference(program, runs_in=CHANNELS_ON_OURS)
    assert without_groups(got) == without_groups(play_reference(program))


CONNECT = Step("client", ({"type": "websocket.connect"},))
RECEIVE = Step("client", ({"type": "websocket.receive", "text": "a"},))
DISCONNECT = Step("client", ({"type": "websocket.disconnect", "code": 1001},))
CHAT = Step("layer", ({"type": "chat.message"},))
REQUEST = Step("client", ({"type": "http.request", "body": b"b"},))


def websocket(handlers: dict[str, list[Action]], *steps: Step) -> Program:
    return make("async_websocket", "websocket", handlers, *steps)


def make(kind: str, scope_type: str, handlers: dict[str, list[Action]], *steps: Step) -> Program:
    written = tuple((name, tuple(actions)) for name, actions in handlers.items())
    return Program(kind, written, steps, scope_type)


def call(method: str, *args: object, **kwargs: object) -> Action:
    return ("call", method, args, tuple(kwargs.items()))


def combine(method: str, **choices: Sequence[Any]) -> list[Action]:
    return [
        call(method, **dict(zip(choices, values, strict=True)))
        for values in product(*choices.values())
    ]


WEBSOCKETS = ["websocket", "async_websocket", "json", "async_json"]
CODES = (None, True, False, 0, 1000, 4005)
TEXTS, BYTES = (None, "", "a"), (None, b"", b"b")
HEADERS: tuple[Any, ...] = (None, [], [(b"x", b"1")], ((b"x", b"1"), (b"y", b"2")))
CALLS = {
    "websocket": [
        *combine("accept", subprotocol=(None, "chat"), headers=HEADERS),
        *combine("send", text_data=TEXTS, bytes_data=BYTES, close=CODES),
        *combine("close", code=CODES, reason=(None, "", "why")),
        call("send", "a", b"b"),
        call("close", 4000, "why"),
    ],
    "json": combine("send_json", content=(None, {"a": 1}, "ü", frozenset()), close=(*CODES[1:4],)),
    "http": [
        *combine("send_headers", status=(200, 404), headers=(*HEADERS[:3], {b"x": b"1"})),
        *combine("send_body", body=(b"", b"b", "text"), more_body=(True, False)),
        *combine("send_response", status=(200,), body=(b"b", "text"), headers=([(b"x", b"1")],)),
    ],
}  # fmt: skip


def closes(action: Action) -> bool:
    return action[1] == "close" or bool(dict(action[3]).get("close"))


def both_do_the_same(program: Program) -> None:
    expected = tell_results(play_reference(program))
    assert tell_results(play(program, IN_ASYNCIO)) == expected


@pytest.mark.parametrize("kind", WEBSOCKETS)
def test_each_call_sends_what_it_sends_in_channels(kind: str) -> None:
    calls = CALLS["websocket"] + (CALLS["json"] if kind in JSON else [])
    lasting: list[Action] = [("guard", action) for action in calls if not closes(action)]
    both_do_the_same(make(kind, "websocket", {"connect": lasting}, CONNECT))
    for action in filter(closes, calls):
        both_do_the_same(make(kind, "websocket", {"connect": [("guard", action)]}, CONNECT))


def test_each_call_of_an_http_consumer_sends_what_it_sends_in_channels() -> None:
    handle: list[Action] = [("guard", action) for action in CALLS["http"]]
    both_do_the_same(make("http", "http", {"handle": handle}, REQUEST))


RECEIVED: list[dict[str, Any]] = [
    {},
    *({"text": text} for text in ("a", "", None, '{"a": 1}', "null", "[")),
    *({"bytes": data} for data in (b"b", b"", None)),
    {"text": "1", "bytes": b"b"},
    {"text": None, "bytes": b"b"},
    {"text": "1", "bytes": None},
]
GONE: list[dict[str, Any]] = [{}, {"code": 1001}, {"code": None}, {"code": 1000, "reason": "bye"}]


@pytest.mark.parametrize("kind", WEBSOCKETS)
def test_each_message_of_a_client_is_handled_as_in_channels(kind: str) -> None:
    receive = "receive_json" if kind in JSON else "receive"
    handlers: dict[str, list[Action]] = {receive: [], "disconnect": []}
    for keys in RECEIVED:
        said = Step("client", ({"type": "websocket.receive", **keys},))
        both_do_the_same(make(kind, "websocket", handlers, CONNECT, said, DISCONNECT))
    for keys in GONE:
        gone = Step("client", ({"type": "websocket.disconnect", **keys},))
        both_do_the_same(make(kind, "websocket", handlers, CONNECT, gone))


@pytest.mark.parametrize("kind", WEBSOCKETS)
@pytest.mark.parametrize("name", ["connect", "receive", "chat_message", "disconnect"])
def test_each_exception_of_each_handler_means_what_it_means_in_channels(
    kind: str, name: str
) -> None:
    for error in ("StopConsumer", "AcceptConnection", "DenyConnection", "Oops", "OSError"):
        handlers: dict[str, list[Action]] = {"disconnect": [], name: [("raise", error)]}
        both_do_the_same(make(kind, "websocket", handlers, CONNECT, RECEIVE, CHAT, DISCONNECT))


ERRORS = ("StopConsumer", "AcceptConnection", "Oops", "OSError")
PART = Step("client", ({"type": "http.request", "body": b"a", "more_body": True},))
LEAVE = Step("client", ({"type": "http.disconnect"},))


@pytest.mark.parametrize("name", ["handle", "chat_message", "http_disconnect", "disconnect"])
def test_each_exception_in_a_request_means_what_it_means_in_channels(name: str) -> None:
    for error, second in product(ERRORS, (None, *ERRORS)):
        handlers: dict[str, list[Action]] = {name: [("raise", error)]}
        handlers.setdefault("disconnect", [] if second is None else [("raise", second)])
        for steps in ((REQUEST,), (PART, REQUEST), (PART, CHAT, REQUEST), (PART, LEAVE)):
            both_do_the_same(make("http", "http", handlers, *steps))


@pytest.mark.parametrize("kind", WEBSOCKETS)
def test_a_send_that_fails_is_what_it_is_in_channels_but_for_clients_that_left(kind: str) -> None:
    talk = (call("send", "a"),)
    handlers = (("connect", (call("accept"),)), ("receive", talk), ("disconnect", talk))
    for after, error in product(range(3), ("OSError", "RuntimeError")):
        for steps in ((CONNECT, RECEIVE, DISCONNECT), (CONNECT, DISCONNECT)):
            program = Program(kind, handlers, steps, "websocket", send_breaks=(after, error))
            both_do_the_same(program)


@pytest.mark.parametrize("kind", WEBSOCKETS)
def test_groups_are_joined_and_left_when_they_are_in_channels(kind: str) -> None:
    handlers = tuple((name, (("look",),)) for name in ("connect", "receive", "disconnect"))
    steps = (CONNECT, RECEIVE, DISCONNECT)
    for groups in ((), ("g",), ("g", "h"), ("bad name",), ("g", "bad name")):
        for layer in ("memory", "none", "groupless"):
            both_do_the_same(Program(kind, handlers, steps, "websocket", groups, layer))


@pytest.mark.parametrize("kind", ["async_websocket", "sync", "http"])
def test_each_type_of_a_layer_s_message_leads_where_it_leads_in_channels(kind: str) -> None:
    handlers: dict[str, list[Action]] = {"chat_message": [], "disconnect": []}
    for message_type in dict.fromkeys(LAYER_TYPES):
        step = Step("layer", ({"type": message_type},))
        both_do_the_same(make(kind, KINDS[kind][2], handlers, step))


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
        CHAT,
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
