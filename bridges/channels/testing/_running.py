"""How an application under test runs: natively, on whatever runs the test.

In an asyncio test it is a task on the test's own loop. In a trio test it is a system task,
since a communicator is handed no nursery: it outlives the function that made it, ends
with the trio run at the latest, and keeps what it raises to itself until somebody asks.
What is written for asyncio needs a loop there. If the test has opened none, one is hosted
from the first application on, until the test is over and the applications have ended.

`KeyboardInterrupt` and `SystemExit` of an application end the test. Under asyncio they end its
loop. Under trio, where a system task can raise nothing, they end all applications of the test,
and each call of any communicator raises them; a test that waits for something else is
interrupted as by Ctrl-C. The loop goes on, so that no application that starts meanwhile
finds itself on one that is about to close.
"""

import asyncio
import contextvars
import inspect
import logging
import signal
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, Protocol, final

import outcome
import trio
from asgiref.compatibility import guarantee_single_callable

from ....runtime import App, Receive, Scope, Send
from ....runtime._errors import ApplicationExited
from ....runtime.layers import Waiter
from ...asyncio import TaskCancelled, call_app, current_hosted_loop
from ...asyncio._lasting import open_unending_loop
from ...django._shared_connections import lend, test_connections
from ._clock import hold_clock_for_threads
from ._thread import thread_of_its_own

TICKS: Final = 20  # of trio: more than an error takes to a call that waits

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
    try:
        with lend(await test_connections()):
            async with thread_of_its_own(scope):
                return await call_app(app, scope, receive, send)
    except ApplicationExited as error:
        # On a server it ends one scope. Here it ends the test, as it does with Channels.
        if not isinstance(error.__cause__, SystemExit):
            raise
        exits = error.__cause__
    try:
        raise exits
    finally:
        del exits  # its traceback leads here: no reference cycle


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
class _Notice:
    """Whether somebody has learnt how an application ended, or how all of them did."""

    given = False


@final
class TrioRun:
    """An application that runs in a trio system task."""

    def __init__(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = trio.CancelScope()
        self._token = trio.lowlevel.current_trio_token()
        self._ended: outcome.Outcome[object] | None = None
        self._cancelled = False
        self._notice = _Notice()
        self._interruption: BaseException | None = None
        self._callbacks: list[Callable[[Any], object]] = []
        hold_clock_for_threads()
        trio.lowlevel.spawn_system_task(
            _run_in_trio,
            self,
            self._scope,
            _host_for(self),
            (app, scope, receive, send),
            name=app,
            context=contextvars.Context(),
        )

    def interrupt(self, error: BaseException, notice: "_Notice") -> None:
        """Let it end with `error`, which ends the test; whoever gives `notice`."""
        self._interruption = error
        self._notice = notice
        self._scope.cancel()

    def end(self, ended: outcome.Outcome[object] | None) -> None:
        """Note how it has ended: None if it was cancelled."""
        if self._interruption is not None:
            ended = outcome.Error(self._interruption)
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
        self._notice.given = True
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
        if isinstance(getattr(self, "_ended", None), outcome.Error) and not self._notice.given:
            assert isinstance(self._ended, outcome.Error)
            self._notice.given = True
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
    run: TrioRun,
    cancel_scope: trio.CancelScope,
    host: "_Host",
    call: tuple[App, Scope, Receive, Send],
) -> None:
    ended: outcome.Outcome[object] | None = None
    exit_: BaseException | None = None
    try:
        with cancel_scope:
            await host.ready.wait()
            ended = outcome.Value(await _run(*call))
    except TaskCancelled:  # the loop that it used has ended
        ended = None
    except BaseException as error:  # noqa: BLE001 -- else trio itself would crash
        exit_ = exit_in(error)
        if exit_ is not None:
            host.interrupt(exit_)
        ended = None if _is_cancelled(error) else outcome.Error(exit_ or error)
    finally:
        host.left(run)
        run.end(ended)
        del ended, run, exit_  # its traceback leads here: no reference cycle


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


def exit_in(error: BaseException) -> BaseException | None:
    """Give what in `error` ends the test: alone, as a group of asyncio's tasks raises it."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(exit_in, error.exceptions)), None)
    return error if isinstance(error, KeyboardInterrupt | SystemExit) else None


async def _insist(notice: _Notice) -> None:
    """Interrupt a test that makes no call of a communicator."""
    for _ in range(TICKS):
        await trio.lowlevel.checkpoint()
    handler = signal.getsignal(signal.SIGINT)
    if not notice.given and getattr(handler, "__module__", "").startswith("trio."):
        signal.raise_signal(signal.SIGINT)


@final
class _Host:
    """What the applications of one trio run share: an asyncio loop, and an early end."""

    def __init__(self) -> None:
        self.ready = trio.Event()
        self._runs: set[TrioRun] = set()
        self._none_left = trio.Event()
        self._interruption: BaseException | None = None
        self._keeps = False

    def joined(self, run: TrioRun) -> None:
        if not self._runs:
            self._none_left = trio.Event()
        self._runs.add(run)
        if current_hosted_loop() is None and not self._keeps:
            self._keeps = True
            self.ready = trio.Event()
            trio.lowlevel.spawn_system_task(self._keep, name="asyncio loop of communicators")
        elif not self._keeps:
            self.ready.set()  # the test has opened the loop

    def left(self, run: TrioRun) -> None:
        self._runs.discard(run)
        if not self._runs:
            self._none_left.set()

    def interrupt(self, error: BaseException) -> None:
        """Let all applications end with `error`, of which we may hear twice."""
        if error is not self._interruption:
            self._interruption = error
            notice = _Notice()
            loop = current_hosted_loop()
            notice.given = loop is not None and loop.escaped is error  # by the test's own block
            for run in self._runs:
                run.interrupt(error, notice)
            if isinstance(error, KeyboardInterrupt):
                trio.lowlevel.spawn_system_task(_insist, notice)

    async def _keep(self) -> None:
        try:
            async with open_unending_loop(self.interrupt):
                self.ready.set()
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        while self._runs:
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


def _host_for(run: TrioRun) -> _Host:
    """Give what `run` shares with the others of this trio run, one of which it now is."""
    host = _host.get()
    if host is None:
        host = _Host()
        _host.set(host)
    host.joined(run)
    return host
