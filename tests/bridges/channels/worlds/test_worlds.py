"""The same project on five servers: what its clients see, and what it is told, is the same.

One session of clients goes through all that the project can do, with every server, and is
compared with what a user of the Channels API expects: `SESSION`. Where a server can't, the
table `DIFFERENT` says what comes instead, and why.
"""

import json
import re
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import trio
from django.conf import settings
from tests.bridges.channels.serving import refusal
from tests.bridges.channels.worlds.servers import (
    SERVERS,
    World,
    end_of,
    gather,
    open_world,
)
from trio_websocket import WebSocketConnection

Scenario: TypeAlias = Callable[[World], Coroutine[Any, Any, Any]]

# No failure but those on purpose is in what a server writes.
UNEXPECTED: Final = re.compile(
    r"\b\w*(Error|Exception|Warning): |never (awaited|retrieved)|without completing handshake"
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory, migrated_database: None) -> Path:
    """The project's tables, which are among those of the project that the tests run in."""
    path = tmp_path_factory.mktemp("world") / "database"
    ours = settings.DATABASES["default"]["NAME"]
    with closing(sqlite3.connect(ours)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        copy.execute("delete from auth_user")
        copy.commit()
    return path


# What clients do, and what they saw.


async def echo(path: str, world: World) -> Any:
    async with world.open(path) as websocket:
        seen: list[Any] = []
        for message in ("text", b"\x00\xff", "ä" * 40000):
            await websocket.send_message(message)
            seen.append(await websocket.get_message() == message)
        return seen


async def empty(path: str, world: World) -> Any:
    async with world.open(path) as websocket:
        await websocket.send_message("")
        await websocket.send_message("after")
        return await websocket.get_message()


async def json_echo(path: str, world: World) -> Any:
    async with world.open(path) as websocket:
        await websocket.send_message('{"a": [1, null, "ü"]}')
        return json.loads(await websocket.get_message())


async def subprotocol(path: str, world: World) -> Any:
    async with world.open(path, subprotocols=["superchat", "chat"]) as websocket:
        return websocket.subprotocol


async def accept_headers(path: str, world: World) -> Any:
    async with world.open(path) as websocket:
        return dict(websocket.handshake_headers).get(b"x-greeting", b"none").decode()


async def closed_by_consumer(path: str, world: World) -> Any:
    async with world.open(f"{path}?by-consumer{path}") as websocket:
        await websocket.send_message("close")
        seen = await end_of(websocket)
    return [seen, (await world.noted("left", f"by-consumer{path}"))[2]]


async def closed_by_client(path: str, world: World) -> Any:
    async with world.open(f"{path}?by-client{path}") as websocket:
        await websocket.aclose(4002, "bye")
    return (await world.noted("left", f"by-client{path}"))[2]


async def vanished(path: str, world: World) -> Any:
    """The client's connection is cut without a word."""
    async with world.open(f"{path}?vanished{path}") as websocket:
        await websocket.send_message("there")
        await websocket.get_message()
        await websocket._stream.aclose()
        return (await world.noted("left", f"vanished{path}"))[2]


async def refused(world: World) -> Any:
    status, _ = await refusal(f"127.0.0.1:{world.port}", "/refused/")
    return [status, (await world.noted("left", "refused"))[2]]


async def no_route(world: World) -> Any:
    status, _ = await refusal(f"127.0.0.1:{world.port}", "/nowhere/")
    await noticed(world, "'nowhere/'", "'/nowhere/'")
    return [status, world.output.count("No route found"), "Error: No route" in world.output]


async def two_in_a_room(path: str, world: World) -> Any:
    async with world.open(path) as one, world.open(path) as other:
        await one.send_message("from one")
        seen = [await one.get_message(), await other.get_message()]
        await other.send_message("from other")
        return [*seen, await one.get_message(), await other.get_message()]


async def group_send(sender: str, world: World) -> Any:
    async with world.open(f"/room/{sender}/") as websocket:
        reply = await world.get(f"/send/{sender}/{sender}/")
        if reply != (200, "sent"):
            return reply
        return await websocket.get_message()


async def from_fork(world: World) -> Any:
    async with world.open("/room/forked/"):
        return (await world.get("/send/forked/from_fork/"))[1]


async def user(path: str, world: World) -> Any:
    """Log in with a view, then ask a consumer who it is that asks."""
    _, headers, _ = await world.ask("GET", "/login/")
    cookie = headers["set-cookie"].partition(";")[0]
    seen: list[Any] = []
    for value in (cookie, "sessionid=forged"):
        async with world.open(path, headers=[(b"cookie", value.encode())]) as websocket:
            await websocket.send_message("hello from a socket")
            seen.append(await websocket.get_message())
    if path == "/sync-user/":
        seen.append((await world.get("/said/", cookie=cookie))[1])
    return seen


async def crash(group: str, world: World) -> Any:
    """A consumer fails: its client, its `disconnect`, its group and the log learn of it."""
    name = "".join(word.title() for word in group.split("-"))
    async with world.open(f"/{group}/") as websocket:
        await websocket.send_message("now")
        code, _ = await end_of(websocket)
    told = (await world.noted("left", group))[2]
    members = (await world.get(f"/members/{group}/"))[1]
    await noticed(world, f"Failed: in {name}")
    place = f"in {name}, websocket /{group}/ of 127.0.0.1:"
    # Of a traceback within one of a group, each line begins with a bar.
    lines = [line.lstrip(" |") for line in world.output.splitlines()]
    where = [line.partition("handling ")[2] for line in lines if line.startswith(place)]
    return [code, told, members, world.output.count(f"Failed: in {name}"), where]


async def crash_at_once(world: World) -> Any:
    status, _ = await refusal(f"127.0.0.1:{world.port}", "/crashing-at-once/")
    await noticed(world, "Failed: in CrashingAtOnce")
    members = (await world.get("/members/crashing-at-once/"))[1]
    return [status, members, world.output.count("Failed: in CrashingAtOnce")]


async def noticed(world: World, *texts: str) -> None:
    """Wait until the server has written one of these."""
    while not any(text in world.output for text in texts):  # noqa: ASYNC110 - another process does
        await trio.sleep(0.01)


async def left_in_the_middle(world: World) -> Any:
    async with world.open("/busy/") as websocket:
        await websocket.send_message("work")
        await world.noted("began")
        await websocket._stream.aclose()
    await world.get("/release/busy/")
    await world.noted("left", "busy")
    return [line for line in world.journal() if line[0] in ("began", "finished") or "busy" in line]


async def stopped(world: World) -> Any:
    """SIGTERM, while sockets are open: what their clients and their consumers learn."""
    ends: dict[str, int] = {}

    async def take_end(name: str, websocket: WebSocketConnection) -> None:
        ends[name] = (await end_of(websocket))[0]

    async with (
        world.open("/async/?stopped") as one,
        world.open("/sync/?halted") as two,
        world.open("/room/last/") as three,
        world.open("/trio/?ended") as four,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(take_end, "async", one)
        nursery.start_soon(take_end, "sync", two)
        nursery.start_soon(take_end, "room", three)
        nursery.start_soon(take_end, "trio", four)
        status = await world.stop()
    told = {line[1]: line[-1] for line in world.journal() if line[0] == "left"}
    codes = [told.get(word) for word in ("stopped", "halted", "last", "ended")]
    return [[ends[name] for name in ("async", "sync", "room", "trio")], codes, status]


async def http_consumer(path: str, world: World) -> Any:
    status, headers, content = await world.ask("POST", path, b"abc" * 10000)
    return [status, headers["x-size"], content == "cba" * 10000]


async def server_sent_events(world: World) -> Any:
    async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream:
        await stream.send_all(b"GET /events/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        seen = b""
        while b"data: first\n\n" not in seen:
            seen += await stream.receive_some()
    await world.noted("handle ended")
    return await world.noted("left", "events")


async def long_poll(world: World) -> Any:
    answers: list[Any] = []

    async def poll() -> None:
        answers.append(await world.get("/poll/"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await world.noted("polling")
        await world.get("/send/polls/from_view/")
    return answers


async def get(path: str, world: World) -> Any:
    return await world.get(path)


async def no_view(world: World) -> Any:
    return (await world.get("/nowhere/"))[0]


async def post(path: str, world: World) -> Any:
    status, _, content = await world.ask("POST", path, b"x" * 100_000)
    return [status, content]


def each(
    kinds: Mapping[str, str], what: str, scenario: Callable[[str, World], Any], expected: Any
) -> "dict[str, tuple[Scenario, Any]]":
    """Give one scenario for each kind, which has a path of its own."""
    return {f"{what}, {kind}": (partial(scenario, path), expected) for kind, path in kinds.items()}


ECHOES: Final = {"async": "/async/", "sync": "/sync/", "trio": "/trio/"}

# What a client does, and what is to come of it.
SESSION: Final[dict[str, tuple[Scenario, Any]]] = {
    **each(ECHOES, "messages", echo, [True, True, True]),
    **each(ECHOES, "empty text", empty, ""),
    **each(ECHOES, "subprotocol", subprotocol, "chat"),
    **each(ECHOES, "headers of accept", accept_headers, "hello"),
    **each(ECHOES, "closed by the consumer", closed_by_consumer, [[4001, "enough"], 4001]),
    **each(ECHOES, "closed by the client", closed_by_client, 4002),
    **each(ECHOES, "client vanishes", vanished, 1006),
    **each(
        {"async": "/async-json/", "sync": "/sync-json/", "trio": "/trio-json/"},
        "JSON",
        json_echo,
        {"got": {"a": [1, None, "ü"]}},
    ),
    "refused": (refused, [403, 1006]),
    "no route": (no_route, [404, 1, False]),
    **each(
        {"async": "/room/async/", "sync": "/sync-room/sync/", "trio": "/trio-room/trio/"},
        "two in a room",
        two_in_a_room,
        ["from one", "from one", "from other", "from other"],
    ),
    **{
        f"group_send from {text}": (partial(group_send, sender), text)
        for sender, text in {
            "from_view": "a sync view",
            "from_async_view": "an async view",
            "from_sync_to_async": "sync_to_async in an async view",
            "from_thread": "a plain thread",
            "from_loop": "a loop in a thread",
            "from_sync_under_loop": "sync_to_async of a loop in a thread",
            "from_command": "a management command",
        }.items()
    },
    "group_send from a forked child": (from_fork, "the child ended with 0"),
    **each(
        {"async": "/async-user/", "trio": "/trio-user/"}, "user", user, ["'ana' of 1", "'' of 1"]
    ),
    "user, sync": (
        partial(user, "/sync-user/"),
        ["'ana' of 1", "'' of 1", "hello from a socket"],
    ),
    # The client's code, the consumer's, who is left in the group, how many tracebacks there are,
    # and what they say was handled.
    **each(
        {"async": "async-crashing", "sync": "sync-crashing", "trio": "trio-crashing"},
        "crash",
        crash,
        [1011, 1011, "0", 1, ["websocket.receive"]],
    ),
    "crash at once": (crash_at_once, [500, "0", 1]),
    "client leaves in the middle": (
        left_in_the_middle,
        [["began"], ["finished"], ["left", "busy", 1006]],
    ),
    **each(
        {"async": "/answer/", "trio": "/trio-answer/"},
        "http consumer",
        http_consumer,
        [201, "30000", True],
    ),
    "server-sent events": (server_sent_events, ["left", "events"]),
    "long poll": (long_poll, [(200, '"a sync view"')]),
    "sync view": (partial(get, "/where/"), (200, "GET 0 bytes, greenroom, 7")),
    "sync view, post": (partial(post, "/where/"), [200, "POST 100000 bytes, greenroom, 7"]),
    "async view": (partial(get, "/async-where/"), (200, "GET 0 bytes, 0 users")),
    "async view, post": (partial(post, "/async-where/"), [200, "POST 100000 bytes, 0 users"]),
    "streaming view": (partial(get, "/stream/"), (200, "one two three")),
    "no view": (no_view, 404),
}
# What clients learn of a stop, what their consumers do, and the status that the server ends with.
STOPPED: Final = [[1012] * 4, [1012] * 4, 0]


class OneOf:
    """Equals each of several values."""

    def __init__(self, *values: object) -> None:
        self._values = values

    def __eq__(self, other: object) -> bool:
        return other in self._values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return " or ".join(map(repr, self._values))


def whoever(what: str, result: Any, reason: str) -> dict[str, tuple[Any, str]]:
    """Give what comes instead, and why, for each kind of consumer."""
    return {f"{what}, {kind}": (result, reason) for kind in ECHOES}


# What a server gives instead, and its reason.
LOST: Final = "a connection that is lost without a close frame is 1005 there, not 1006"
NO_CLOSE_FRAME: Final = "a consumer that fails has its connection cut, without a close frame"
NO_CODE: Final = "no code of a client's reaches the application, it is 1000 or 1006"
UVICORN: Final[dict[str, tuple[Any, str]]] = {
    **whoever("client vanishes", 1005, LOST),
    "client leaves in the middle": ([["began"], ["finished"], ["left", "busy", 1005]], LOST),
    **whoever("crash", [1006, 1011, "0", 1, ["websocket.receive"]], NO_CLOSE_FRAME),
    "stopped": ([[1012] * 4, [1012] * 4, -15], "it ends by the signal itself"),
}
HYPERCORN: Final[dict[str, tuple[Any, str]]] = {
    "refused": ([403, 1000], NO_CODE),
    **whoever("closed by the client", 1006, NO_CODE),
    **whoever("closed by the consumer", [[4001, "enough"], 1000], NO_CODE),
}
NO_REASON: Final = (
    "the reason of a close is left out; a client has a second to answer it, or it is 1006"
)
NO_HEADERS: Final = "headers of an acceptance are left out"
NO_EMPTY: Final = "an empty message is not sent"
DAPHNE: Final[dict[str, tuple[Any, str]]] = {
    **whoever("empty text", "after", NO_EMPTY),
    **whoever("headers of accept", "none", NO_HEADERS),
    **whoever(
        "closed by the consumer", OneOf([[4001, None], 4001], [[4001, None], 1006]), NO_REASON
    ),
    "no route": ([403, 1, False], "it knows no denial response, so a refusal is always 403"),
    "stopped": (
        [[1006] * 4, [None] * 4, 0],
        "it drops connections and never resumes an application",
    ),
}
DIFFERENT: Final[dict[str, dict[str, tuple[Any, str]]]] = {
    "greenroom": {},
    "uvicorn": UVICORN,
    "hypercorn": {
        **HYPERCORN,
        "stopped": (
            [[1011] * 4, [1012] * 4, 0],
            "it cancels applications without an event; the consumer then takes 1012 for it",
        ),
    },
    "hypercorn-trio": {
        **HYPERCORN,
        "stopped": (
            [[1006] * 4, [1012] * 4, 0],
            "it drops connections, and cancels applications without an event",
        ),
    },
    "daphne": DAPHNE,
}

# From Python 3.12 on asyncio's own servers, of which it closes one, wait for clients to leave.
UNSTOPPABLE: Final = {"hypercorn"} if sys.version_info >= (3, 12) else set()


@pytest.mark.parametrize("name", SERVERS)
async def test_a_session_is_the_same_on_every_server_but_for_what_the_server_cannot_do(
    name: str, tmp_path: Path, database: Path
) -> None:
    async with open_world(name, tmp_path, database) as world:
        await world.get("/where/")
        seen = await gather(**{step: partial(run, world) for step, (run, _) in SESSION.items()})
        unexpected = [line for line in world.output.splitlines() if UNEXPECTED.search(line)]
        if name not in UNSTOPPABLE:
            seen |= await gather(stopped=partial(stopped, world))
    expected = {step: result for step, (_, result) in SESSION.items()} | {"stopped": STOPPED}
    expected |= {step: result for step, (result, _) in DIFFERENT[name].items()}
    if name in UNSTOPPABLE:
        del expected["stopped"]
    assert seen == expected
    assert unexpected == []
