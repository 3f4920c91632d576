"""Talking to any ASGI application in a test, without a server.

Source: `channels.testing` 4.3 and `asgiref.testing`, by observing them. Unlike there, a
test may run under trio as well as under asyncio, and nobody waits for a message that can't
come any more, because the application has ended.
"""

import asyncio
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Any, ClassVar, Self

import trio

from ....runtime import App, Message, Scope
from ....runtime.layers import Waiter
from ._errors import ApplicationStopped
from ._queue import MessageQueue
from ._running import Running, single_callable, start, wait_for_end

__all__ = ["ApplicationCommunicator", "ApplicationStopped"]


class ApplicationCommunicator:
    """Runs an ASGI application, sends messages to it, and receives what it sends.

    The application starts when it is first needed, and runs beside the test: on the same
    asyncio loop, or under trio, where what is written for asyncio gets a loop by itself.

    ```python
    async def test_something():
        communicator = ApplicationCommunicator(application, {"type": "http", ...})
        await communicator.send_input({"type": "http.request", "body": b"chunk one"})
        message = await communicator.receive_output()
        await communicator.wait()
    ```

    As a context manager, `async with ApplicationCommunicator(...) as communicator`, it ends
    the application with the block, and raises what that has raised, unless the block has
    failed already.

    What an application has raised is raised by the next call of the test, and by each after
    it. `KeyboardInterrupt` and `SystemExit` end the test, whatever it waits for: under
    asyncio with its loop, under trio in the calls of all its communicators.

    Timeouts are in seconds. They are 1, as in Channels: much longer than what happens within
    one process takes, and short enough to wait for where a test fails. None waits for ever.
    In virtual time (`virtual_time`, `autojump_clock`) they take none.

    Args:
        application: an ASGI application: a consumer's `as_asgi()`, a router, a middleware,
            an instance of a consumer, or anything else.
        scope: what it is called with.
        destructive_timeouts: whether it is cancelled when `receive_output` or `wait` run out
            of time, as Channels does; the class attribute of this name if None.

    Attributes:
        application: the application, as one of ASGI 3.
        scope: what it is called with; it may be changed until the first call.
        input_queue: what it will receive.
        output_queue: what it has sent, and no call has taken.
    """

    destructive_timeouts: ClassVar[bool] = True
    """Whether an application that has not answered in time is cancelled, as in Channels.

    True, since tests rely on it. With False in a subclass, or as an argument, it goes on, and
    may be asked again. Then `wait` (and `disconnect`) raise TimeoutError, too; Channels
    passes over it in silence.
    """

    scope: Scope

    def __init__(
        self, application: Any, scope: Scope, *, destructive_timeouts: bool | None = None
    ) -> None:
        self._future: Running | None = None
        self._stopped: str | None = None  # why this communicator has cancelled it
        self._told = False  # what it has raised
        self._destructive = (
            self.destructive_timeouts if destructive_timeouts is None else destructive_timeouts
        )
        self.application: App = single_callable(application)
        self.scope = scope
        self.input_queue = MessageQueue()
        self.output_queue = MessageQueue()

    @property
    def future(self) -> Any:
        """The running application, started if it was not: an `asyncio.Task`.

        Under trio something with the methods that tests use of one: `done`, `result`,
        `exception`, `cancel`, `cancelled`; it may be awaited.

        Raises:
            RuntimeError: neither asyncio nor trio runs here.
        """
        return self._running()

    def _running(self) -> Running:
        if self._future is None:
            self._future = start(
                self.application, self.scope, self.input_queue.get, self.output_queue.put
            )
        return self._future

    async def send_input(self, message: Message) -> None:
        """Send one message to the application, which need not receive it; nobody waits for that.

        Raises:
            Exception: what the application has raised.
            ApplicationStopped: it was cancelled, such as by a timeout before.
        """
        self._raise_end()
        await self.input_queue.put(message)

    async def receive_output(self, timeout: float | None = 1) -> Message:
        """Receive the next message that the application sends, or has sent.

        Args:
            timeout: seconds, 1 as in Channels; None waits for ever.

        Raises:
            Exception: what the application has raised, before this call or while it waits.
            ApplicationStopped: it was cancelled, such as by a timeout before.
            TimeoutError: there was no message within `timeout` seconds, and the application
                is cancelled, unless `destructive_timeouts` is False; or it has ended, and
                nothing is left.
        """
        self._raise_end()
        if await self._wait(timeout, for_output=True):
            return self.output_queue.get_nowait()
        self._raise_end()
        if self._running().done():
            raise TimeoutError("the application has ended, and sends nothing any more")
        if self._destructive:
            await self._cancel(f"it had sent nothing within the {timeout} s of receive_output()")
        raise TimeoutError(f"the application has sent nothing within {timeout} seconds")

    async def receive_nothing(self, timeout: float = 0.1, interval: float = 0.01) -> bool:  # noqa: ARG002
        """Tell whether the application sends nothing for `timeout` seconds, or ends before.

        A message that comes is not taken. The application is never cancelled.

        Args:
            timeout: seconds, 0.1 as in Channels, since most tests wait for all of it. In
                virtual time (`virtual_time`, `autojump_clock`) an hour takes none.
            interval: there for Channels' sake: nothing is polled.

        Raises:
            Exception: what the application had raised before.
            ApplicationStopped: it was cancelled before, such as by a timeout.
        """
        self._raise_end()
        nothing = not await self._wait(timeout, for_output=True)
        if isinstance(self._failure(), KeyboardInterrupt | SystemExit):
            self._raise_end()
        return nothing

    async def wait(self, timeout: float | None = 1) -> None:
        """Wait for the end of the application; one that does not end in time is cancelled.

        In silence, as in Channels; one that was cancelled before is not complained of either.

        Args:
            timeout: seconds, 1 as in Channels; None waits for ever.

        Raises:
            Exception: what the application has raised, also while it was cancelled.
            TimeoutError: with `destructive_timeouts` off it is not cancelled, and goes on.
        """
        running = self._running()
        in_time = False
        try:
            await self._wait(timeout, for_output=False)
            in_time = running.done()
        finally:
            # The test's own cancellation ends the application, too.
            if not in_time and self._destructive:
                await self._cancel(f"it had not ended within the {timeout} s of wait()")
        if not running.done():
            raise TimeoutError(f"the application has not ended within {timeout} seconds")
        self._raise_failure()

    def stop(self, exceptions: bool = True) -> None:
        """Cancel the application, without waiting for its end; or say how it has ended.

        One that has not started is left alone. A communicator that nobody refers to any more
        does this by itself.

        Args:
            exceptions: False raises nothing.

        Raises:
            Exception: the application has ended before, and this is what it has raised.
            ApplicationStopped: it was cancelled before.
        """
        if self._future is None:
            return
        if not self._future.done():
            self._stopped = "stop() was called"
            self._future.cancel()
        elif exceptions:
            self._raise_end()

    def __del__(self) -> None:
        try:
            if getattr(self, "_future", None) is not None:
                self.stop(exceptions=False)
        except RuntimeError:  # its loop has ended before
            pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = self._future
        if running is None:
            return
        over = "the block of its communicator has ended"
        if error is not None:
            self._told = True  # or never: one failure is enough
            with suppress(Exception):
                await self._cancel(over)
            return
        try:
            if not running.done():
                await self._say_goodbye()
        finally:
            await self._cancel(over)
        self._raise_failure()

    async def _say_goodbye(self) -> None:
        """Let the application know that its block ends well."""

    def _raise_end(self) -> None:
        """Raise what the application has raised, if it has ended."""
        running = self._running()
        if not running.done():
            return
        if running.cancelled():
            raise ApplicationStopped(self._stopped or "by itself, or by the test")
        self._raise_failure()

    def _raise_failure(self) -> None:
        running = self._running()
        if not running.cancelled():
            self._told = True
            running.result()

    def _failure(self) -> BaseException | None:
        """Give what the application has raised, if it has ended with that."""
        running = self._future
        if running is None or not running.done() or running.cancelled():
            return None
        return running.exception()

    async def _cancel(self, reason: str) -> None:
        """Cancel the application, and wait for its end; raise what it raises meanwhile."""
        running = self._running()
        if running.done():
            return
        self._stopped = reason
        running.cancel()
        await wait_for_end(running)
        self._raise_failure()

    async def _wait(self, seconds: float | None, *, for_output: bool) -> bool:
        """Wait for a message or the application's end; tell whether there is a message.

        Only for its end, if not `for_output`.
        """
        if trio.lowlevel.in_trio_task():
            deadline = inf if seconds is None else trio.current_time() + max(seconds, 0)
            in_time = True
            # Another task of the test may have taken the message for which this one woke up.
            while in_time and not self._is_over(for_output=for_output):
                with trio.move_on_at(deadline) as scope:
                    await self._wait_for_change(for_output=for_output)
                # What fails right after it has sent something has failed, as under asyncio,
                # before the test goes on, although its end takes a way through two tasks.
                for _ in range(2):
                    await trio.lowlevel.checkpoint()
                in_time = not scope.cancelled_caught
        elif not self._is_over(for_output=for_output):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not self._is_over(for_output=for_output):
                        await self._wait_for_change(for_output=for_output)
        return not self.output_queue.empty()

    def _is_over(self, *, for_output: bool) -> bool:
        return self._running().done() or (for_output and not self.output_queue.empty())

    async def _wait_for_change(self, *, for_output: bool) -> None:
        running, queue = self._running(), self.output_queue
        waiter = Waiter()

        def wake(_running: object) -> None:
            waiter.wake()

        running.add_done_callback(wake)
        if for_output:
            queue.wake_with(waiter)
        try:
            await waiter.wait()
        finally:
            running.remove_done_callback(wake)
            if for_output:
                queue.forget(waiter)
