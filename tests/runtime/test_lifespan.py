"""The lifespan protocol as an application sees it, and its table of states."""

import logging

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime._errors import UnexpectedMessage
from greenroom.runtime._types import App, Receive, Scope, Send
from greenroom.runtime.lifespan import NEXT, LifespanFailed, State, advance, open_lifespan


class Recorder:
    """An application that answers as it should and writes down what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        while True:
            kind = (await receive())["type"]
            self.events.append(kind)
            if kind == "lifespan.startup":
                scope["state"]["database"] = "open"
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                break
        self.events.append("returned")


async def test_the_body_runs_between_startup_and_shutdown_and_sees_the_state() -> None:
    app = Recorder()
    state: dict[str, object] = {}
    async with open_lifespan(app, state):
        assert app.events == ["lifespan.startup"]
        assert state == {"database": "open"}
    assert app.events == ["lifespan.startup", "lifespan.shutdown", "returned"]


async def test_an_application_that_waits_for_more_after_its_shutdown_is_let_go() -> None:
    released = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal released
        try:
            while True:
                await send({"type": f"{(await receive())['type']}.complete"})
        finally:
            released = True

    async with open_lifespan(app, {}):
        pass
    assert released


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_a_startup_that_the_application_calls_failed_stops_the_server(mode: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        await receive()

    with pytest.raises(LifespanFailed, match=r"startup failed: no database") as failure:
        async with open_lifespan(app, {}, mode):  # type: ignore[arg-type]
            pytest.fail("served after a failed start-up")
    assert failure.value.phase == "startup"


async def raises_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("No application configured for scope type 'lifespan'")


async def raises_on_startup(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise LookupError("database")


async def raises_a_group(scope: Scope, receive: Receive, send: Send) -> None:
    raise BaseExceptionGroup("two at once", [ValueError("one"), ValueError("two")])


async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    pass


@pytest.mark.parametrize(
    "app", [raises_at_once, raises_on_startup, raises_a_group, returns_at_once]
)
async def test_auto_serves_an_application_that_knows_no_lifespan(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    served = False
    async with open_lifespan(app, {}):
        served = True
    assert served
    assert all(record.levelno < logging.WARNING for record in caplog.records)


async def test_auto_tells_of_an_exception_on_startup_that_may_be_a_real_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="greenroom"):
        async with open_lifespan(raises_on_startup, {}):
            pass
    assert ["LookupError: database" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("app", [raises_at_once, raises_on_startup, raises_a_group])
async def test_on_needs_an_answer_and_keeps_the_exception_given_instead(app: App) -> None:
    with pytest.raises(LifespanFailed, match="it raised") as failure:
        async with open_lifespan(app, {}, "on"):
            pytest.fail("served without a start-up")
    assert failure.value.__cause__ is not None


async def test_on_refuses_an_application_that_returns_without_an_answer() -> None:
    with pytest.raises(LifespanFailed, match="without an answer"):
        async with open_lifespan(returns_at_once, {}, "on"):
            pytest.fail("served without a start-up")


async def test_off_does_not_ask_the_application() -> None:
    app = Recorder()
    async with open_lifespan(app, {}, "off"):
        pass
    assert app.events == []


async def test_a_mode_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="mode is 'maybe'"):
        async with open_lifespan(returns_at_once, {}, "maybe"):  # type: ignore[arg-type]
            pass


async def test_a_failed_shutdown_is_raised_after_the_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "not flushed"})

    with pytest.raises(LifespanFailed, match=r"shutdown failed: not flushed"):
        async with open_lifespan(app, {}):
            pass


async def crashes_in_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise OSError("disk full")


async def test_a_crash_during_shutdown_is_a_failed_shutdown() -> None:
    with pytest.raises(LifespanFailed, match=r"OSError: disk full") as failure:
        async with open_lifespan(crashes_in_shutdown, {}):
            pass
    assert isinstance(failure.value.__cause__, OSError)


async def test_the_body_s_exception_comes_out_unwrapped_and_the_failed_shutdown_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(RuntimeError, match="of the body"):
        async with open_lifespan(crashes_in_shutdown, {}):
            raise RuntimeError("of the body")
    assert ["disk full" in record.message for record in caplog.records] == [True]


async def test_a_crash_while_serving_is_logged_once_and_the_serving_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crash = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await crash.wait()
        raise OSError("background task")

    async with open_lifespan(app, {}):
        crash.set()
        await trio.testing.wait_all_tasks_blocked()
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_a_deadline_around_it_ends_a_shutdown_that_hangs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()

    with trio.move_on_after(10) as scope:
        async with open_lifespan(app, {}):
            pass
    assert scope.cancelled_caught


async def test_an_answer_out_of_turn_raises_in_the_application_and_names_the_rule() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with pytest.raises(LifespanFailed, match=r"while the scope is starting") as failure:
        async with open_lifespan(app, {}, "on"):
            pytest.fail("served after a wrong answer")
    assert isinstance(failure.value.__cause__, UnexpectedMessage)


answers = st.sampled_from(sorted({kind for _, kind in NEXT} | {"http.response.start"}))


@given(st.lists(answers, max_size=6))
def test_whatever_is_sent_an_ended_lifespan_stays_ended(kinds: list[str]) -> None:
    state = State.STARTING
    for kind in kinds:
        try:
            state = advance(state, kind)
        except UnexpectedMessage:
            assert (state, kind) not in NEXT
        else:
            assert state is not State.STARTING
    for kind in kinds:
        with pytest.raises(UnexpectedMessage):
            advance(State.ENDED, kind)
