"""`KeyboardInterrupt` and `SystemExit` of an application end the test, in every world."""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from django.urls import path

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter
from greenroom.bridges.channels.testing import (
    ApplicationCommunicator,
    WebsocketCommunicator,
    virtual_time,
)
from greenroom.bridges.channels.testing.fixtures import Communicators
from greenroom.runtime import speaks

Main = Callable[[], Awaitable[Any]]
Run = Callable[[Main], Any]
LONG = 50  # seconds, that nobody shall wait for


def in_trio_with_a_loop(main: Main) -> Any:
    async def run() -> Any:
        async with open_hosted_loop():
            return await main()

    return trio.run(run)


WORLDS: dict[str, Run] = {
    "asyncio": lambda main: asyncio.run(main()),  # type: ignore[arg-type]
    "trio": trio.run,
    "trio with a loop": in_trio_with_a_loop,
    "asyncio in virtual time": lambda main: virtual_time(main)(),
    "trio in virtual time": lambda main: trio.run(
        main, clock=trio.testing.MockClock(autojump_threshold=0)
    ),
}


@pytest.fixture(params=WORLDS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Each world, one after the other; whatever is run in it ends soon."""
    began = time.monotonic()
    yield WORLDS[request.param]
    assert time.monotonic() - began < LONG / 2


@pytest.fixture(params=[KeyboardInterrupt, SystemExit])
def error(request: pytest.FixtureRequest) -> BaseException:
    """What an application raises."""
    made: BaseException = request.param("mine")
    return made


App = Any


def raised_by_the_application(error: BaseException) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise error

    return app


def raised_in_trio(error: BaseException) -> App:
    return speaks("trio")(raised_by_the_application(error))


def raised_behind_a_router(error: BaseException) -> App:
    routes = [path("", raised_by_the_application(error))]
    return ProtocolTypeRouter({"websocket": URLRouter(routes)})


def raised_by_a_task(error: BaseException) -> App:
    async def fail() -> None:
        raise error

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        task = asyncio.create_task(fail())
        await asyncio.sleep(LONG)
        await task

    return app


def raised_by_a_callback(error: BaseException) -> App:
    def fail() -> None:
        raise error

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(LONG)

    return app


def raised_by_a_consumer(error: BaseException) -> App:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            raise error

    return Consumer.as_asgi()


def raised_by_a_thread(error: BaseException) -> App:
    class Consumer(WebsocketConsumer):
        def connect(self) -> None:
            raise error

    return Consumer.as_asgi()


RAISED = [
    raised_by_the_application,
    raised_in_trio,
    raised_behind_a_router,
    raised_by_a_task,
    raised_by_a_callback,
    raised_by_a_consumer,
    raised_by_a_thread,
]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    while True:
        await send(await receive())


def assert_ends_with(error: BaseException, run: Run, main: Main) -> None:
    with pytest.raises((type(error), BaseExceptionGroup)) as failure:
        run(main)
    raised = failure.value
    while isinstance(raised, BaseExceptionGroup):
        assert len(set(map(id, raised.exceptions))) == 1
        raised = raised.exceptions[0]
    assert raised is error


async def together(*calls: Main) -> None:
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)
    else:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(call())  # type: ignore[arg-type]


@pytest.mark.parametrize("raised", RAISED)
def test_the_call_that_waits_raises_it(
    run: Run, raised: Callable[[BaseException], App], error: BaseException
) -> None:
    app = raised(error)

    async def main() -> None:
        await WebsocketCommunicator(app, "/").connect(LONG)

    assert_ends_with(error, run, main)


@pytest.mark.parametrize("raised", RAISED)
def test_calls_that_wait_for_other_applications_raise_it(
    run: Run, raised: Callable[[BaseException], App], error: BaseException
) -> None:
    app = raised(error)

    async def main() -> None:
        one, two = (ApplicationCommunicator(echo, {"type": "websocket"}) for _ in range(2))
        await one.send_input({"type": "x"})
        assert await one.receive_output(LONG) == {"type": "x"}
        other = WebsocketCommunicator(app, "/")
        await other.send_input({"type": "websocket.connect"})
        await together(
            lambda: one.receive_output(LONG),
            lambda: two.wait(LONG),
            lambda: two.receive_nothing(LONG),
        )

    assert_ends_with(error, run, main)


@pytest.mark.parametrize("call", ["receive_output", "receive_nothing", "wait"])
def test_each_call_that_waits_raises_it(run: Run, call: str, error: BaseException) -> None:
    async def main() -> None:
        one = ApplicationCommunicator(echo, {"type": "websocket"})
        other = WebsocketCommunicator(raised_by_the_application(error), "/")
        assert not one.future.done()
        await other.send_input({"type": "websocket.connect"})
        await getattr(one, call)(LONG)

    assert_ends_with(error, run, main)


@pytest.mark.parametrize("turns", range(12))
def test_applications_that_start_while_it_is_told_end_with_the_test(
    run: Run, error: BaseException, turns: int
) -> None:
    started = []

    async def main() -> None:
        first = WebsocketCommunicator(raised_by_the_application(error), "/")
        await first.send_input({"type": "websocket.connect"})
        for _ in range(turns):
            await pause()
        for _ in range(3):
            other = ApplicationCommunicator(echo, {"type": "websocket"})
            started.append(other)
            other.future.add_done_callback(lambda _run: None)
            await pause()
        await first.receive_output(LONG)

    assert_ends_with(error, run, main)
    assert all(other.future.done() for other in started)


async def pause() -> None:
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


@pytest.mark.parametrize("raised", [raised_by_the_application, raised_in_trio, raised_by_a_task])
def test_a_test_that_waits_for_something_else_is_interrupted(
    run: Run, raised: Callable[[BaseException], App]
) -> None:
    error = KeyboardInterrupt("mine")
    app = raised(error)
    cleaned_up = []

    async def main() -> None:
        communicator = ApplicationCommunicator(app, {"type": "websocket"})
        await communicator.send_input({"type": "websocket.connect"})
        try:
            await forever()
        finally:
            cleaned_up.append(communicator)

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert cleaned_up
    cleaned_up.clear()
    error.__traceback__ = error.__context__ = None  # it leads to everything
    gc.collect()  # what logs here where it was raised


async def forever() -> None:
    if trio.lowlevel.in_trio_task():
        await trio.sleep_forever()
    await asyncio.Event().wait()


@pytest.mark.parametrize("world", ["trio", "trio in virtual time"])
@pytest.mark.parametrize("raised", RAISED)
def test_in_trio_it_can_be_caught_and_the_next_application_runs(
    world: str,
    raised: Callable[[BaseException], App],
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[BaseException | None] = []

    async def main() -> None:
        neighbour = ApplicationCommunicator(echo, {"type": "websocket"})
        await neighbour.send_input({"type": "x"})
        for _ in range(2):
            async with ApplicationCommunicator(echo, {"type": "websocket"}) as communicator:
                await communicator.send_input({"type": "x"})
                assert await communicator.receive_output(LONG) == {"type": "x"}
            again = type(error)("mine")
            made.append(again)
            with pytest.raises(type(error)) as failure:
                await WebsocketCommunicator(raised(again), "/").connect(LONG)
            assert failure.value is again
        with pytest.raises(type(error)):
            await neighbour.receive_output(LONG)

    WORLDS[world](main)
    assert not [each for each in caplog.records if each.exc_info and each.exc_info[1] in made]


def test_a_fixture_tells_only_once_of_what_has_ended_all_applications() -> None:
    error = SystemExit("mine")
    communicators = Communicators()

    async def main() -> None:
        for _ in range(2):
            communicators.application(echo, {"type": "websocket"}).future.done()
        await communicators(raised_by_the_application(error), "/").connect(LONG)

    with pytest.raises(SystemExit) as failure:
        trio.run(main)
    assert failure.value is error
    communicators.close()


SUITE = """
import asyncio

import pytest
import trio

from greenroom.bridges.channels.testing import WebsocketCommunicator, virtual_time

pytest_plugins = ["greenroom.bridges.channels.testing.fixtures"]


async def app(scope, receive, send):
    await receive()
    raise ERROR("mine")


async def connect():
    await WebsocketCommunicator(app, "/").connect(timeout=50)


@pytest.mark.trio
async def test_trio():
    await connect()


@pytest.mark.trio
async def test_jumping(autojump_clock):
    await connect()


@pytest.mark.asyncio
async def test_asyncio():
    await connect()


@virtual_time
async def test_virtual():
    await connect()


def test_by_itself():
    trio.run(connect)


async def echo(scope, receive, send):
    await send(await receive())


async def talk():
    communicator = WebsocketCommunicator(echo, "/")
    await communicator.send_input({"type": "x"})
    assert await communicator.receive_output(timeout=50) == {"type": "x"}


@pytest.mark.trio
async def test_trio_next():
    await talk()


@pytest.mark.asyncio
async def test_asyncio_next():
    await talk()
"""


@pytest.mark.timeout(180)  # processes that start at once on a busy machine
def test_pytest_is_interrupted_by_the_application_or_goes_on_with_a_fresh_loop(
    tmp_path: Path,
) -> None:
    """With each plugin in use; `SystemExit` fails a test, of `KeyboardInterrupt` pytest ends."""

    def start(kind: str, *arguments: str) -> subprocess.Popen[str]:
        suite = tmp_path / f"test_{kind}.py"
        suite.write_text(SUITE.replace("ERROR", kind))
        plugins = ("pytest_asyncio.plugin", "pytest_trio.plugin")
        options = [argument for plugin in plugins for argument in ("-p", plugin)]
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "--tb=line", *options, *arguments, suite],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).resolve().parents[4] / ".src"),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    failed = start("SystemExit")
    names = ("test_trio", "test_asyncio", "test_virtual")
    interrupted = [start("KeyboardInterrupt", "-k", f"{name} and not next") for name in names]
    said, _ = failed.communicate()
    assert "5 failed, 2 passed" in said
    assert said.count(" - SystemExit: mine") == 5, said
    for process in interrupted:
        said, _ = process.communicate()
        assert process.returncode == 2, said  # pytest's for an interruption
        assert "KeyboardInterrupt" in said
        assert "test_KeyboardInterrupt.py:14: " in said
