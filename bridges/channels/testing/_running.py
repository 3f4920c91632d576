"""How an application under test runs: natively, on whatever runs the test.

In an asyncio test it is a task on the test's own loop. In a trio test it is a system task,
since a communicator is handed no nursery: it outlives the function that made it, ends
with the trio run at the latest, and keeps what it raises to itself until somebody asks.
What is written for asyncio needs a loop there. If the test has opened none, one is hosted
from the first application on, until the test is over and the applications have ended.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, Protocol, final

import outcome
import trio
from asgiref.compatibility import guarantee_single_callable

from ....runtime._types import App, Receive, Scope, Send
from ....runtime.layers import Waiter
from ...asyncio import TaskCancelled, call_app, current_hosted_loop, open_hosted_loop
from ...django._shared_connections import lend, test_connections
from ._clock import hold_clock_for_threads

logger = logging.getLogger("greenroom.channels.testing")


class Running(Protocol):
    """A running application: of `asyncio.Future` the part that tests use."""

    def done(self) -> bool:
        """Tell whether it has ended."""

    def cancelled(self) -> bool:
        """Tell whether it has ended because it was cancelled."""

    def cancel(self) -> object:
        """Ask it to end."""

    def result(self) -> Any:
        """Give what it returned, or raise what it raised."""

    def exception(self) -> BaseException | None:
        """Give what it raised."""

    def add_done_callback(self, fn: Callable[[Any], object]) -> object:
        """Have `fn(self)` called at its end."""

    def remove_done_callback(self, fn: Callable[[Any], object]) -> object:
        """Do not call `fn`."""

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for its end."""


def start(app: App, scope: Scope, receive: Receive, send: Send) -> Running:
    """Start `app`, in an empty context, as a server would.

    Raises:
        RuntimeError: neither trio nor asyncio runs here.
    """
    if trio.lowlevel.in_trio_task():
        return TrioRun(app, scope, receive, send)
    running = _run(app, scope, receive, send)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        running.close()
        raise
    if trio.lowlevel.in_trio_run():
        hold_clock_for_threads()
    return loop.create_task(running, context=contextvars.Context())


async def _run(app: App, scope: Scope, receive: Receive, send: Send) -> object:
    with lend(await test_connections()):
        return await call_app(app, scope, receive, send)


def single_callable(app: Any) -> App:
    """Make an ASGI 3 application of one of ASGI 2, whose first call takes the scope alone."""
    # asgiref looks for coroutine functions, and would take a plain function that returns
    # an awaitable for ASGI 2.
    target = app.__init__ if inspect.isclass(app) else app
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return app  # type: ignore[no-any-return]
    places = [each for each in parameters if each.kind in _POSITIONAL]
    expected = 2 if inspect.isclass(app) else 1
    if len(places) == expected and not any(each.kind is each.VAR_POSITIONAL for each in parameters):
        app = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
    return app  # type: ignore[no-any-return]


_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


@final
class TrioRun:
    """An application that runs in a trio system task."""

    def __init__(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = trio.CancelScope()
        self._token = trio.lowlevel.current_trio_token()
        self._ended: outcome.Outcome[object] | None = None
        self._cancelled = False
        self._asked = False  # somebody has learnt how it ended
        self._callbacks: list[Callable[[Any], object]] = []
        hold_clock_for_threads()
        trio.lowlevel.spawn_system_task(
            _run_in_trio,
            self._scope,
            _current_host(),
            (app, scope, receive, send),
            self._end,
            name=app,
            context=contextvars.Context(),
        )

    def _end(self, ended: outcome.Outcome[object] | None) -> None:
        self._ended = ended
        self._cancelled = ended is None
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self._cancelled or self._ended is not None

    def cancelled(self) -> bool:
        """Tell whether it has ended because it was cancelled."""
        return self._cancelled

    def cancel(self) -> bool:
        """Ask it to end; False if it has."""
        if self.done():
            return False
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._scope.cancel()
        else:  # such as the garbage collector, in any thread
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)
        return True

    def result(self) -> object:
        """Give what it returned, or raise what it raised.

        Raises:
            asyncio.CancelledError: it was cancelled.
            asyncio.InvalidStateError: it is still running.
        """
        error = self.exception()
        try:
            if error is not None:
                raise error
        finally:
            del error
        assert isinstance(self._ended, outcome.Value)
        return self._ended.value

    def exception(self) -> BaseException | None:
        """Give what it raised; the rest as `result`."""
        if self._cancelled:
            raise asyncio.CancelledError
        if self._ended is None:
            raise asyncio.InvalidStateError("the application is still running")
        self._asked = True
        return self._ended.error if isinstance(self._ended, outcome.Error) else None

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have `fn(self)` called at its end; at once if that has come."""
        if self.done():
            fn(self)
        else:
            self._callbacks.append(fn)

    def remove_done_callback(self, fn: Callable[[Any], object]) -> int:
        """Do not call `fn`; the result tells how often it was to be called."""
        before = len(self._callbacks)
        self._callbacks = [each for each in self._callbacks if each != fn]
        return before - len(self._callbacks)

    def __await__(self) -> Generator[Any, Any, object]:
        return self._wait().__await__()

    async def _wait(self) -> object:
        await wait_for_end(self)
        return self.result()

    def __del__(self) -> None:
        # As asyncio does: a crash that no line of the test has noticed shall not be silent.
        if isinstance(getattr(self, "_ended", None), outcome.Error) and not self._asked:
            assert isinstance(self._ended, outcome.Error)
            logger.error("the application failed unnoticed", exc_info=self._ended.error)


async def wait_for_end(running: Running) -> None:
    """Wait until an application has ended, however it does; being cancelled does not end it."""
    if running.done():
        return
    waiter = Waiter()

    def wake(_running: object) -> None:
        waiter.wake()

    running.add_done_callback(wake)
    try:
        await waiter.wait()
    finally:
        running.remove_done_callback(wake)


async def _run_in_trio(
    cancel_scope: trio.CancelScope,
    host: "_Host | None",
    call: tuple[App, Scope, Receive, Send],
    end: Callable[[outcome.Outcome[object] | None], object],
) -> None:
    ended: outcome.Outcome[object] | None = None
    try:
        with cancel_scope:
            if host is not None:
                await host.ready.wait()
            ended = outcome.Value(await _run(*call))
    except TaskCancelled:  # the loop that it used has ended
        ended = None
    except BaseException as error:  # noqa: BLE001 -- else trio itself would crash
        ended = None if _is_cancelled(error) else outcome.Error(error)
    finally:
        if host is not None:
            host.left()
        end(ended)
        del ended, end  # its traceback leads here: no reference cycle


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


@final
class _Host:
    """Keeps an asyncio loop open for the applications of one trio run."""

    def __init__(self) -> None:
        self.ready = trio.Event()
        self._apps = 0
        self._none_left = trio.Event()
        self._none_left.set()

    def joined(self) -> None:
        self._apps += 1
        if self._none_left.is_set():
            self._none_left = trio.Event()

    def left(self) -> None:
        self._apps -= 1
        if self._apps == 0:
            self._none_left.set()

    async def keep(self) -> None:
        try:
            async with open_hosted_loop():
                self.ready.set()
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._none_left.wait()
        except trio.Cancelled:
            pass
        except Exception:
            # Such as on Windows. What is written for asyncio says so itself, the rest works.
            logger.debug("no asyncio loop can be hosted here", exc_info=True)
        finally:
            self.ready.set()


_host: Final[trio.lowlevel.RunVar["_Host | None"]] = trio.lowlevel.RunVar(
    "greenroom_testing_host", None
)


def _current_host() -> _Host | None:
    """Give who hosts the loop of this run, None if the test does it by itself."""
    host = _host.get()
    if host is None:
        if current_hosted_loop() is not None:
            return None
        host = _Host()
        _host.set(host)
        trio.lowlevel.spawn_system_task(host.keep, name="asyncio loop of communicators")
    host.joined()
    return host
