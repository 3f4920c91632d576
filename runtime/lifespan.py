"""One application's lifespan: its start-up before the first scope, its shutdown after the last.

`open_lifespan` runs the application once more, beside the server, with a scope of type
"lifespan". Which message may come when is the table `NEXT`; the rest of the file waits.

Source: the ASGI specification, "Lifespan Protocol" 2.0.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, final

import trio

from ._errors import UnexpectedMessage
from ._types import App, Message, Scope

LifespanMode: TypeAlias = Literal["auto", "on", "off"]

logger = logging.getLogger("greenroom.lifespan")


class State(Enum):
    """Where a lifespan stands; an application without one goes from STARTING to ENDED."""

    STARTING = "starting"  # lifespan.startup waits for its answer
    SERVING = "serving"
    STOPPING = "stopping"  # lifespan.shutdown waits for its answer
    ENDED = "ended"  # answered to the last, failed, or returned


NEXT: Final[dict[tuple[State, str], State]] = {
    (State.STARTING, "lifespan.startup.complete"): State.SERVING,
    (State.STARTING, "lifespan.startup.failed"): State.ENDED,
    (State.STOPPING, "lifespan.shutdown.complete"): State.ENDED,
    (State.STOPPING, "lifespan.shutdown.failed"): State.ENDED,
}

# What ends the process or belongs to trio itself: never a fault of the application.
_PASSING: Final = (
    trio.Cancelled,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    trio.TrioInternalError,
)


def advance(state: State, message_type: str) -> State:
    """Give the state that follows `message_type` from the application.

    Raises:
        UnexpectedMessage: the application sent what has no place here.

    >>> advance(State.STARTING, "lifespan.startup.complete")
    <State.SERVING: 'serving'>
    """
    try:
        return NEXT[state, message_type]
    except KeyError:
        raise UnexpectedMessage(state.value, message_type) from None


class LifespanFailed(Exception):
    """Raised when the application reports, or shows by an exception, that it can't start or stop.

    `__cause__` is the application's exception where there was one. After a failed
    `startup` nothing has been served; after a failed `shutdown` everything has.
    """

    def __init__(self, phase: Literal["startup", "shutdown"], reason: str) -> None:
        super().__init__(phase, reason)
        self.phase = phase
        self.reason = reason

    def __str__(self) -> str:
        return f"the application's {self.phase} failed: {self.reason or 'it gave no reason'}"


@asynccontextmanager
async def open_lifespan(
    app: App, state: dict[str, Any], mode: LifespanMode = "auto"
) -> AsyncIterator[None]:
    """Start `app` up, keep its lifespan while the body runs, and shut it down afterwards.

    The shutdown is waited for without limit: wrap the whole in a cancel scope, whose end
    also ends the application's lifespan. An application that crashes while it serves is
    logged once, and the serving goes on: its scopes don't depend on the lifespan's task.

    Args:
        app: awaited in a trio task, as every application of the runtime is.
        state: the namespace that the application fills; requests get shallow copies of it.
        mode: "on" needs an application that answers. "auto" accepts one that raises or
            returns instead, since most know nothing of lifespan, and goes on without.
            "off" does not ask.

    Raises:
        LifespanFailed: the start-up or, after the body, the shutdown failed. A failed shutdown
            is only logged when the body raised too.
        ValueError: `mode` is none of the three.
    """
    if mode not in ("auto", "on", "off"):
        raise ValueError(f"mode is {mode!r}; it must be 'auto', 'on' or 'off'")
    if mode == "off":
        yield
        return
    lifespan = _Lifespan(app, state)
    body_failure: Exception | None = None
    # Only this nursery's own body and a task that never raises run here, so failures are
    # carried past its end, where no exception group wraps them.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lifespan.run)
        await lifespan.answered.wait()
        failure = lifespan.startup_failure(mode)
        if failure is None:
            try:
                yield
            except Exception as error:  # noqa: BLE001 (raised again below, whole)
                body_failure = error
            lifespan.ask_to_stop()
        await lifespan.finished.wait()
        nursery.cancel_scope.cancel()
    if body_failure is not None:
        if lifespan.failure is not None:
            logger.error("%s", lifespan.failure, exc_info=lifespan.failure)
        raise body_failure
    if failure := failure or lifespan.failure:
        raise failure


@final
class _Lifespan:
    """The application's side of one lifespan: its task, and what it was told and answered."""

    def __init__(self, app: App, state: dict[str, Any]) -> None:
        self.app = app
        self.scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": state,
        }
        self.state = State.STARTING
        self.asked: list[str] = []  # the events that the application has received
        self.crash: BaseException | None = None
        self.failure: LifespanFailed | None = None
        self.answered = trio.Event()  # the start-up's outcome is known
        self.stop = trio.Event()  # no longer serving: hand out what is left to receive
        self.finished = trio.Event()  # the application returned, or waits for what never comes

    async def run(self) -> None:
        """Await the application to its end; every fault of its own is kept, none is raised."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except BaseExceptionGroup as group:
            passing, crash = group.split(_PASSING)
            self._crashed(crash)
            if passing is not None:
                raise passing from None
        except _PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 (asyncio's CancelledError is one too)
            self._crashed(error)
        finally:
            if self.state in (State.SERVING, State.STOPPING):
                logger.debug("the application left its lifespan while %s", self.state.value)
            self.state = State.ENDED
            self.answered.set()
            self.finished.set()

    async def receive(self) -> Message:
        """Give the application its next event; after the last it waits until it is cancelled."""
        if not self.asked:
            self.asked.append("lifespan.startup")
            await trio.lowlevel.checkpoint()
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        if self.state is State.STOPPING and "lifespan.shutdown" not in self.asked:
            self.asked.append("lifespan.shutdown")
            return {"type": "lifespan.shutdown"}
        self.finished.set()
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def send(self, message: Message) -> None:
        """Take the application's answer."""
        kind = message["type"]
        phase: Literal["startup", "shutdown"]
        phase = "startup" if self.state is State.STARTING else "shutdown"
        self.state = advance(self.state, kind)
        if kind.endswith(".failed"):
            self.failure = LifespanFailed(phase, message.get("message", ""))
        if self.state is State.ENDED:
            self.stop.set()
        self.answered.set()
        await trio.lowlevel.checkpoint()

    def startup_failure(self, mode: LifespanMode) -> LifespanFailed | None:
        """Tell why the server must not start, once `answered` is set."""
        if self.state is State.SERVING or self.failure is not None:
            return self.failure
        if mode == "on":
            failure = LifespanFailed("startup", "it ended without an answer to lifespan.startup")
            if self.crash is not None:
                failure = LifespanFailed("startup", f"it raised {_summary(self.crash)}")
                failure.__cause__ = self.crash
            return failure
        # The specification: "the server must continue but not send any lifespan events".
        if self.crash is None or not self.asked:
            logger.debug("the application does not support lifespan", exc_info=self.crash)
        else:
            # It may only know nothing of lifespan.startup, or its start-up may have gone wrong.
            logger.info(
                "serving without lifespan: on lifespan.startup the application raised %s",
                _summary(self.crash),
            )
            logger.debug("its traceback:", exc_info=self.crash)
        return None

    def ask_to_stop(self) -> None:
        """Let the application shut down, if it is still there."""
        if self.state is State.SERVING:
            self.state = State.STOPPING
        self.stop.set()

    def _crashed(self, crash: BaseException | None) -> None:
        if crash is None:
            return
        self.crash = crash
        if self.state is State.SERVING:
            logger.error("the application's lifespan crashed; serving goes on", exc_info=crash)
        elif self.state is State.STOPPING:
            self.failure = LifespanFailed("shutdown", f"it raised {_summary(crash)}")
            self.failure.__cause__ = crash
        elif self.state is State.ENDED:
            logger.error("the application's lifespan crashed after its end", exc_info=crash)


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
