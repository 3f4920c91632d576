"""Consumers as plain data: what each handler does, what happens to it, and how to draw both.

A program is the same for Channels and for Greenroom; `build` makes the class of one side of
it. Everything is drawn from small ranges, so that a failure shrinks to a few lines.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from asgiref.sync import async_to_sync
from hypothesis import strategies as st

Action = tuple[Any, ...]
Message = dict[str, Any]

THEIRS: Final = "channels"
OURS: Final = "greenroom.bridges.channels"

# Kind of consumer -> module, class, the type of the scopes that it is made for.
KINDS: Final = {
    "async": ("consumer", "AsyncConsumer", "test"),
    "sync": ("consumer", "SyncConsumer", "test"),
    "websocket": ("generic.websocket", "WebsocketConsumer", "websocket"),
    "async_websocket": ("generic.websocket", "AsyncWebsocketConsumer", "websocket"),
    "json": ("generic.websocket", "JsonWebsocketConsumer", "websocket"),
    "async_json": ("generic.websocket", "AsyncJsonWebsocketConsumer", "websocket"),
    "http": ("generic.http", "AsyncHttpConsumer", "http"),
}
SYNC: Final = frozenset({"sync", "websocket", "json"})
PLAIN: Final = frozenset({"async", "sync"})
JSON: Final = frozenset({"json", "async_json"})

# Layers of somebody else: without groups; whose server is not there; that find a mistake.
BAD_LAYERS: Final = ("groupless", "closed", "failing")
LAST: Final = frozenset({"websocket.disconnect", "http.disconnect"})
BROKEN: Final[Message] = {"type": "(receive fails)"}  # no message: `receive` raises


@dataclass(frozen=True)
class Step:
    """What comes next, all at once: from the client, or from the channel layer."""

    source: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Program:
    """A consumer class and what it goes through."""

    kind: str
    handlers: tuple[tuple[str, tuple[Action, ...]], ...]
    steps: tuple[Step, ...]
    scope_type: str
    groups: tuple[str, ...] | None = None
    layer: str = "memory"  # or one of BAD_LAYERS
    wraps: frozenset[str] = frozenset()  # methods of the framework that the class overrides
    instance: bool = False  # an instance is the application, for two scopes one after another
    send_breaks: tuple[int, str] | None = None  # after so many messages `send` raises this

    @property
    def sync(self) -> bool:
        """Whether the handlers are plain functions."""
        return self.kind in SYNC


class Oops(Exception):
    """What a drawn handler raises on its own account."""


def module(side: str, name: str) -> Any:
    """Give a module of one side by the name that both have for it."""
    return import_module(f"{side}.{name}")


def error_of(side: str, name: str) -> Exception:
    """Make the exception with this name, of that side if it has one of its own."""
    if name in ("StopConsumer", "AcceptConnection", "DenyConnection"):
        error: Exception = getattr(module(side, "exceptions"), name)()
        return error
    if name == "Oops":
        return Oops("oops")
    if name == "OSError":
        return ConnectionResetError("gone")
    return RuntimeError("not now")


def build(program: Program, side: str, run: Any, **attributes: Any) -> Any:
    """Make the program's class on one side; what its handlers do is noted in `run`."""
    where, name, _ = KINDS[program.kind]
    base = getattr(module(side, where), name)
    body: dict[str, Any] = {"__module__": __name__, "__qualname__": "Drawn", **attributes}
    if program.groups is not None:
        body["groups"] = list(program.groups)
    if program.layer == "none":
        body["channel_layer_alias"] = "missing"
    made: list[Any] = []

    def above(consumer: Any, method: str) -> Any:
        return getattr(super(made[0], consumer), method)

    def __init__(self: Any) -> None:  # noqa: N807
        super(made[0], self).__init__()
        run.adopt(self)

    body["__init__"] = __init__
    for method, actions in program.handlers:
        body[method] = _handler(program, side, run, above, method, actions)
    for method in program.wraps:
        body[method] = _wrapper(program, run, above, method)
    made.append(type("Drawn", (base,), body))
    return made[0]


def _wrapper(program: Program, run: Any, above: Any, method: str) -> Any:
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        run.note("overridden", method, *(args if method == "send" else ()), kwargs)
        if method == "dispatch":
            return run.dispatch(self, above(self, method), *args)
        return above(self, method)(*args, **kwargs)

    async def async_wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await wrapper(self, *args, **kwargs)

    return wrapper if program.sync and method == "send" else async_wrapper


def _handler(
    program: Program, side: str, run: Any, above: Any, name: str, actions: tuple[Action, ...]
) -> Any:
    def calls(
        self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[tuple[bool, Callable[[], Any]]]:
        made = []
        for action in actions:
            guarded = action[0] == "guard"
            call = _prepare(program, side, run, self, action[1] if guarded else action)
            if call is None:  # ("super",)
                call = _later(above(self, name), args, kwargs)
            made.append((guarded, call))
        return made

    def handler(self: Any, *args: Any, **kwargs: Any) -> None:
        run.note("call", name, args, kwargs)
        for guarded, call in calls(self, args, kwargs):
            try:
                call()
            except Exception as error:
                if not guarded:
                    raise
                run.note("caught", *run.tell(error))

    async def async_handler(self: Any, *args: Any, **kwargs: Any) -> None:
        run.note("call", name, args, kwargs)
        for guarded, call in calls(self, args, kwargs):
            try:
                result = call()
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                if not guarded:
                    raise
                run.note("caught", *run.tell(error))

    return handler if program.sync else async_handler


def _later(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any]:
    return lambda: function(*args, **kwargs)


def _prepare(
    program: Program, side: str, run: Any, consumer: Any, action: Action
) -> Callable[[], Any] | None:
    kind, *rest = action
    if kind == "raise":

        def fail() -> None:
            raise error_of(side, rest[0])

        return fail
    if kind in ("pause", "hang"):
        return lambda: None if program.sync else run.rest(forever=kind == "hang")
    if kind == "look":
        return lambda: run.note(
            "look",
            consumer.channel_layer is None,
            hasattr(consumer, "channel_name"),
            consumer.scope["path"],
            list(getattr(consumer, "groups", ())),
            run.groups_of(consumer),
        )
    if kind == "call":
        method, args, kwargs = rest
        if method == "base_send":
            return lambda: run.send_raw(consumer, *args)
        return lambda: getattr(consumer, method)(*args, **dict(kwargs))
    if kind == "layer":
        method, args = rest
        return lambda: _call_layer(program, run, consumer, method, args)
    return None


def _call_layer(
    program: Program, run: Any, consumer: Any, method: str, args: tuple[Any, ...]
) -> Any:
    function = getattr(consumer.channel_layer, method)
    args = tuple(consumer.channel_name if arg == "<me>" else arg for arg in args)
    if method in ("send", "group_send") and isinstance(args[1], dict):
        if not run.spend():
            return None
        run.expect_from_layer(consumer, method, args[0])
    return (async_to_sync(function) if program.sync else function)(*args)


# ---- what is drawn

SUBPROTOCOLS = st.sampled_from([None, "chat"])
HEADERS = st.sampled_from([None, [], [(b"x", b"1")], ((b"x", b"1"), (b"y", b"2"))])
CODES = st.sampled_from([None, True, False, 0, 1000, 4005])
REASONS = st.sampled_from([None, "", "why"])
TEXTS = st.sampled_from([None, "", "a"])
BYTES = st.sampled_from([None, b"", b"b"])
GROUPS = st.sampled_from(["g", "h"])
NAMES = st.sampled_from(["<me>", "other", "bad name", "specific.other!x"])
BODIES = st.sampled_from([b"", b"b", b"cc", "text"])

# Types that lead to a handler, to none, to a method of the framework, to no method, and so on.
LAYER_TYPES: Final = [
    "chat.message", "chat.message", "chat.message", "chat_message", "chat-message", "chat..message",
    "close", "send", "accept", "receive", "connect", "disconnect", "handle", "receive_json",
    "send_json", "encode.json", "send.body", "dispatch", "as.asgi", "scope", "groups", "body",
    "channel_name", "channel.layer", "channel.receive", "base.send", "_private", ".x", "",
    "__init__", "websocket.connect", "websocket.receive", "websocket.disconnect", "http.request",
    "http.disconnect", "unknown", "unknown", "restart", "restarted", "websocket.send", 5, None, (),
]  # fmt: skip


def _call(method: str, *args: Any, **kwargs: Any) -> st.SearchStrategy[Action]:
    return st.tuples(
        st.just("call"),
        st.just(method),
        st.tuples(*args),
        st.tuples(*(st.tuples(st.just(name), value) for name, value in kwargs.items())),
    )


def _layer(method: str, *args: Any) -> st.SearchStrategy[Action]:
    return st.tuples(st.just("layer"), st.just(method), st.tuples(*args))


_to_self = st.sampled_from(
    [{"type": "chat.message", "n": 1}, {"type": "chat.message", "deep": [1]}, {"type": "unknown"}]
)
_layer_actions = st.one_of(
    _layer("group_add", st.sampled_from(["g", "h", "bad name"]), NAMES),
    _layer("group_discard", st.sampled_from(["g", "h", "bad name"]), NAMES),
    _layer("group_send", GROUPS, _to_self),
    _layer("send", NAMES, _to_self),
    _layer("group_add", GROUPS, st.just("<me>")),
    _layer("group_send", GROUPS, _to_self),
    _layer("send", st.just("<me>"), st.sampled_from(["no dict", {"__asgi_channel__": "x"}])),
)
_raises = st.tuples(
    st.just("raise"),
    st.sampled_from(
        ["StopConsumer", "AcceptConnection", "DenyConnection", "Oops", "OSError", "RuntimeError"]
    ),
)
_websocket_messages = st.sampled_from(
    [
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": "raw"},
        {"type": "websocket.close", "code": 4000},
        {"type": "websocket.http.response.start", "status": 404, "headers": []},
        {"type": "websocket.http.response.body", "body": b"", "more_body": True},
        {"type": "websocket.http.response.body", "body": b""},
        {"type": "said", "text": "x"},
    ]
)
_http_messages = st.sampled_from(
    [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b"x"},
        {"type": "said", "text": "x"},
    ]
)


def _actions(kind: str) -> st.SearchStrategy[Action]:
    messages = _http_messages if kind == "http" else _websocket_messages
    choices = [_layer_actions, _raises, st.just(("super",)), st.just(("look",))]
    choices += [st.sampled_from([("pause",), ("pause",), ("pause",), ("hang",)])]
    choices += [_call("base_send", messages)]
    if kind in PLAIN:
        choices += [_call("send", messages)] * 3
    elif kind == "http":
        choices += [
            _call(
                "send_headers",
                status=st.sampled_from([200, 404]),
                headers=st.sampled_from([None, [], [(b"x", b"1")], {b"x": b"1"}, {}]),
            ),
            _call("send_headers"),
            _call("send_body", BODIES, more_body=st.booleans()),
            _call("send_body", BODIES),
            _call("send_response", st.just(200), BODIES, headers=st.just([(b"x", b"1")])),
            _call("send_response", st.just(201), st.just(b"ok")),
            _call("send", messages),
        ]
    else:
        choices += [
            _call("accept", subprotocol=SUBPROTOCOLS, headers=HEADERS),
            _call("accept"),
            _call("accept", SUBPROTOCOLS),
            _call("close", code=CODES, reason=REASONS),
            _call("close", CODES),
            _call("send", text_data=TEXTS, bytes_data=BYTES, close=CODES),
            _call("send", TEXTS),
            _call("send", text_data=st.just("t")),
        ]
        if kind in JSON:
            contents: st.SearchStrategy[Any] = st.sampled_from(
                [None, {"a": 1}, [], "ü", frozenset()]
            )
            choices += [_call("send_json", contents), _call("send_json", contents, close=CODES)]
    action = st.one_of(*choices)
    return st.one_of(action, action, action, st.tuples(st.just("guard"), action)).filter(
        lambda drawn: drawn != ("guard", ("super",))
    )


HANDLERS: Final = {
    "plain": [
        "websocket_connect", "websocket_receive", "websocket_disconnect", "http_request",
        "http_disconnect", "chat_message", "chat-message", "close", "chat__message",
    ],
    "websocket": ["connect", "receive", "disconnect", "chat_message", "unknown"],
    "json": ["connect", "receive_json", "disconnect", "chat_message", "receive"],
    "http": ["handle", "disconnect", "chat_message", "http_disconnect", "handle"],
}  # fmt: skip


def _handlers_of(kind: str) -> list[str]:
    if kind in PLAIN:
        return HANDLERS["plain"]
    if kind in JSON:
        return HANDLERS["json"]
    return HANDLERS["http" if kind == "http" else "websocket"]


def _received(kind: str) -> st.SearchStrategy[Message]:
    if kind in JSON:
        texts = ['{"a": 1}', "null", "[1]", "[", "", "2"]
    else:
        texts = ["a", ""]
    extra: st.SearchStrategy[Message] = st.sampled_from(
        [
            {"bytes": b"b"},
            {"bytes": b""},
            {"bytes": None, "text": None},
            {},
            {"text": texts[0], "bytes": b"b"},
            {"text": texts[0], "bytes": None},
            {"text": None, "bytes": b"b"},
        ]
    )
    said: st.SearchStrategy[Message] = st.one_of(
        st.sampled_from([{"text": text} for text in texts]), extra
    )
    return said.map(lambda keys: {"type": "websocket.receive", **keys})


_disconnects: st.SearchStrategy[Message] = st.sampled_from(
    [
        {"type": "websocket.disconnect", "code": 1001},
        {"type": "websocket.disconnect", "code": 1000, "reason": "bye"},
        {"type": "websocket.disconnect", "code": None},
        {"type": "websocket.disconnect"},
    ]
)
_requests: st.SearchStrategy[Message] = st.sampled_from(
    [
        {"type": "http.request", "body": b"b", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"e", "more_body": False},
        {"type": "http.request", "body": b"e"},
        {"type": "http.request"},
    ]
)
_odd: st.SearchStrategy[Message] = st.sampled_from(
    [
        {},
        {"type": "_x"},
        {"type": ".x"},
        {"type": 5},
        {"type": []},
        {"type": "chat.message"},
        BROKEN,
    ]
)
_from_layer = st.builds(
    lambda kind, keys: {"type": kind, **keys},
    st.sampled_from(LAYER_TYPES),
    st.sampled_from([{}, {"text": "a"}, {"code": 4001}]),
)
_typeless = st.sampled_from([{"no": "type"}])


def _client_events(kind: str, scope_type: str) -> st.SearchStrategy[Message]:
    drawn: dict[str, list[st.SearchStrategy[Message]]] = {
        "websocket": [_received(kind)] * 4 + [st.just({"type": "websocket.connect"})],
        "http": [_requests] * 4,
        "test": [_received(kind), _requests, st.just({"type": "chat.message"})],
        "channel": [_from_layer, st.just({"type": "chat.message"})],  # of a worker
    }
    usual = drawn[scope_type]
    return st.one_of(*usual, *usual, _odd)


@st.composite
def programs(draw: st.DrawFn, *kinds: str) -> Program:
    """A consumer, and a sequence of what it goes through."""
    kind = draw(st.sampled_from(kinds or sorted(KINDS)))
    natural = KINDS[kind][2]
    others = ["websocket", "http", "test", "channel"] if kind in PLAIN else [natural]
    scope_type = draw(st.sampled_from([*others, natural]))
    action = _actions(kind)
    names = draw(st.lists(st.sampled_from(_handlers_of(kind)), unique=True, max_size=4))
    # One that hangs in its disconnect ends in Greenroom after two seconds, in Channels never.
    briefly = action.filter(lambda drawn: drawn not in (("hang",), ("guard", ("hang",))))
    handlers = tuple(
        (name, tuple(draw(st.lists(briefly if "disconnect" in name else action, max_size=3))))
        for name in names
    )
    talks_to_itself = any(
        part[0] == "layer" and part[1] in ("send", "group_send")
        for _, actions in handlers
        for part in ((a[1] if a[0] == "guard" else a) for a in actions)
    )
    send_breaks = draw(
        st.one_of(
            st.none(),
            st.none(),
            st.none(),
            st.tuples(st.integers(0, 2), st.sampled_from(["OSError", "RuntimeError"])),
        )
    )
    layer = draw(st.sampled_from([*["memory"] * 6, "none", *BAD_LAYERS]))
    client = _client_events(kind, scope_type)
    steps = []
    if scope_type == "websocket" and draw(st.integers(0, 9)):
        steps.append(Step("client", ({"type": "websocket.connect"},)))
    for _ in range(draw(st.integers(0, 4))):
        if layer in ("memory", "failing") and draw(st.booleans()):
            layered = st.one_of(*[_from_layer] * 6, _typeless)
            steps.append(Step("layer", tuple(draw(st.lists(layered, min_size=1, max_size=2)))))
            continue
        # Which of two sources comes first is nobody's promise: only one of them sends at a time.
        burst = draw(st.lists(client, min_size=1, max_size=1 if talks_to_itself else 3))
        if kind == "http":  # what comes while handle() runs is that its client has left
            burst = [m for m in burst[:-1] if m.get("more_body")] + burst[-1:]
        steps.append(Step("client", tuple(burst)))
    if draw(st.integers(0, 3)):
        if scope_type == "http" or (scope_type != "websocket" and draw(st.booleans())):
            steps.append(Step("client", ({"type": "http.disconnect"},)))
        else:
            steps.append(Step("client", (draw(_disconnects),)))
    wraps = draw(st.sampled_from([(), (), (), ("send",), ("dispatch",), ("__call__",)]))
    if "dispatch" in wraps:
        # One that a layer's message may call calls itself, on either side, until the stack ends.
        steps = [step for step in steps if all(m.get("type") != "dispatch" for m in step.messages)]
    groups = None
    if kind not in PLAIN and kind != "http":
        groups = draw(st.sampled_from([None, None, (), ("g",), ("g", "h"), ("bad name",)]))
    return Program(
        kind=kind,
        handlers=handlers,
        steps=tuple(steps),
        scope_type=scope_type,
        groups=groups,
        layer=layer,
        wraps=frozenset(wraps),
        instance=draw(st.integers(0, 4)) == 0,
        send_breaks=send_breaks,
    )
