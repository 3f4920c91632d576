"""What tests do with communicators, and what comes of it, for Channels' and for ours.

Run as a program it plays everything under asyncio with Channels' own, and prints the
outcomes as JSON. The clock jumps to the next timeout when nothing is left to do.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from django.conf import settings

TIMEOUT = 1  # seconds; answers come at once, or never

Step = tuple[str, tuple[Any, ...]]
Situation = tuple[str, str, tuple[Any, ...], tuple[Step, ...]]


class Boom(Exception):
    """What applications raise here."""


async def hang(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(1000)


async def stubborn(scope: Any, receive: Any, send: Any) -> None:
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        raise Boom("stubborn") from None


async def graceful(scope: Any, receive: Any, send: Any) -> None:
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return


async def end(scope: Any, receive: Any, send: Any) -> None:
    return


async def fail(scope: Any, receive: Any, send: Any) -> None:
    raise Boom("at once")


async def send_and_end(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "only"})


async def send_and_fail(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "only"})
    raise Boom("after sending")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    while (message := await receive())["type"] != "last":
        await send(message)


async def fail_when_told(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise Boom("told")


APPLICATIONS = [
    *(hang, stubborn, graceful, end, fail, send_and_end, send_and_fail, echo, fail_when_told)
]
STEPS: list[Step] = [
    ("send_input", ({"type": "first"},)),
    ("send_input", ({"type": "last"},)),
    ("receive_output", (TIMEOUT,)),
    ("receive_nothing", (TIMEOUT,)),
    ("wait", (TIMEOUT,)),
    ("stop", ()),
]


def websocket(*answers: dict[str, Any]) -> Any:
    """Make an application that answers each event with the next of `answers`, then ends."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for answer in answers:
            await receive()
            await send(answer)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return app


def http(*answers: dict[str, Any]) -> Any:
    """Make an application that sends `answers` once the request is there."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = await receive()
        for answer in answers:
            # A copy, since Channels' communicator changes what it is sent.
            message = dict(answer)
            if message.get("body") == b"echo":
                message["body"] = repr((scope, request)).encode()
            await send(message)

    return app


ACCEPT = {"type": "websocket.accept"}
FRAMES: list[dict[str, Any]] = [
    {"type": "websocket.send", "text": "text"},
    {"type": "websocket.send", "text": ""},
    {"type": "websocket.send", "bytes": b"bytes"},
    {"type": "websocket.send", "text": '{"a": [1, null]}'},
    {"type": "websocket.send", "text": "{"},
    {"type": "websocket.send", "text": b"no str"},
    {"type": "websocket.send", "bytes": "no bytes"},
    {"type": "websocket.send", "text": "both", "bytes": b"both"},
    {"type": "websocket.send"},
    {"type": "websocket.close", "code": 4001},
    {"type": "something"},
]
START = {"type": "http.response.start", "status": 200}
MAKERS: dict[str, Callable[..., Any]] = {
    **{application.__name__: lambda app=application: app for application in APPLICATIONS},
    "websocket": websocket,
    "http": http,
}


def situations() -> Iterator[Situation]:
    """Give all situations: a class, an application, arguments, and what the test does."""
    for application in APPLICATIONS:
        for steps in itertools.product(STEPS, repeat=3):
            yield "ApplicationCommunicator", application.__name__, (), steps
    connect, leave = ("connect", (TIMEOUT,)), ("disconnect", (4000, TIMEOUT))
    for answer in (
        ACCEPT,
        {**ACCEPT, "subprotocol": "b", "headers": [(b"a", b"b")]},
        {"type": "websocket.close"},
        {"type": "websocket.close", "code": 4003},
        {"type": "websocket.send", "text": "too early"},
    ):
        yield "WebsocketCommunicator", "websocket", (answer,), (connect, leave, leave)
    for frame in FRAMES:
        for receive in ("receive_from", "receive_json_from", "receive_output"):
            steps = (connect, ("send_to", ("x",)), (receive, (TIMEOUT,)), leave)
            yield "WebsocketCommunicator", "websocket", (ACCEPT, frame), steps
    for arguments in (("x", b"x"), (None, None), (b"x",), (None, "x"), ("", b""), ("x", b"")):
        steps = (connect, ("send_to", arguments), leave)
        yield "WebsocketCommunicator", "websocket", (ACCEPT,), steps
    for answers in (
        (START, {"type": "http.response.body", "body": b"echo"}),
        ({**START, "headers": [(b"a", b"b")]}, {"type": "http.response.body", "body": b"1"}),
        (
            START,
            {"type": "http.response.body", "body": b"1", "more_body": True},
            {"type": "http.response.body", "body": b"2"},
        ),
        (START, {"type": "http.response.body", "body": "no bytes"}),
        (START,),
        (),
        ({"type": "http.response.body", "body": b"first"},),
        (START, START),
    ):
        steps = (("get_response", (TIMEOUT,)), ("get_response", (TIMEOUT,)))
        yield "HttpCommunicator", "http", answers, steps


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ApplicationCommunicator": ({"type": "any"},),
    "HttpCommunicator": ("post", "/a%20b/?c=%20d&e", b"the body", [(b"x", b"y")]),
    "WebsocketCommunicator": ("/a%20b/?c=%20d", [(b"x", b"y")], ["a", "b"], "2.3"),
}


async def play(testing: Any, situation: Situation) -> list[str]:
    """Do what a test does, and tell what came of each step."""
    kind, maker, parts, steps = situation
    communicator = getattr(testing, kind)(MAKERS[maker](*parts), *ARGUMENTS[kind])
    outcomes = [repr(sorted(communicator.scope.items()))] if maker != kind else []
    for name, arguments in steps:
        try:
            result = getattr(communicator, name)(*arguments)
            if name != "stop":
                result = await result
            outcomes.append(repr(sorted(result.items()) if isinstance(result, dict) else result))
        except Boom as error:
            outcomes.append(repr(error))
        except asyncio.CancelledError:
            outcomes.append("CancelledError")
        except Exception as error:  # noqa: BLE001
            outcomes.append(type(error).__name__)
    if hasattr(communicator, "response_headers"):
        outcomes.append(repr(communicator.response_headers))
    return outcomes


async def play_all(testing: Any) -> list[list[str]]:
    """Play all situations at once, under asyncio."""
    return await asyncio.gather(*(play(testing, each) for each in situations()))


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that never sleeps, but for others' threads."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            ready = select(0 if timeout is not None else None)
            if not ready and timeout:
                self.now += timeout
            return ready

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def play_with_channels() -> list[list[str]]:
    """Play all situations with Channels' communicators."""
    import asgiref.testing
    from channels import testing

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        clock: Any = runner.get_loop()
        module: Any = asgiref.testing
        module.time = SimpleNamespace(monotonic=lambda: clock.now)
        return runner.run(play_all(testing))


if __name__ == "__main__":
    logging.disable()
    settings.configure()
    print(json.dumps(play_with_channels()))
