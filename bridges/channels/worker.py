"""Serving named channels: consumers for what is sent to a fixed name, without a client.

```python
application = ProtocolTypeRouter({
    "websocket": ...,
    "channel": ChannelNameRouter({"thumbnails": ThumbnailConsumer.as_asgi()}),
})
nursery.start_soon(serve_channels, application, ["thumbnails"])
```

Beside the server in one trio program, this works with the in-memory layer too. In a process
of its own, `manage.py runworker thumbnails` does the same with a `Worker`.

Each channel has one instance of the application, which is kept from message to message and
handles one at a time; with `concurrency` there may be more, each with a state of its own,
and messages no longer end in the order in which they came. A message is taken from the
layer when an instance is ready for it and not before, so one that fails takes no other
with it, and what a worker has no time for stays for the next.

Source: the scope type `channel` and its messages, as `channels.worker` 4.3 makes them, and
the names of `asgiref.server.StatelessServer` that its subclasses use.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Any, ClassVar, Final

import trio

from ...runtime import App, Message, Scope, describe, last_resort
from ...runtime.flavours import Flavour
from ..asyncio import open_hosted_loop
from ..asyncio._lasting import lasting_hosted_loop
from ._both_worlds import Start, open_tasks
from ._layers_of_others import itself, require_channel_name
from ._outages import outage_of
from ._worker_lines import Line, receiver_of
from ._worker_seats import Crew, Seat, nobody_reads
from ._worker_shift import Shift
from .layers import get_channel_layer

__all__ = ["Worker", "serve_channels"]

# Seconds for running handlers to end in. Kubernetes and Heroku kill 30 s after they have
# asked; what could not end is to be cancelled and named before that.
GRACEFUL_TIMEOUT: Final = 25.0

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

# What code written for Channels overrides, and awaits asyncio in.
OVERRIDABLE: Final = frozenset(
    {"application_exception", "application_send", "arun", "handle", "listener"}
)

logger = logging.getLogger("greenroom.channels.worker")
worker_logger = logging.getLogger("django.channels.worker")


class Worker:
    """Serves named channels until it is stopped.

    A subclass may override `handle`, `listener`, `application_exception` and
    `application_send`. It is then awaited under asyncio, unless its class says
    `greenroom_flavour = "trio"`.

    Args:
        application: an ASGI application for scopes of type `channel`.
        channels: names; one that is named twice is served once.
        channel_layer: the layer that they are received from.
        max_applications: instances that live at once. For one more, the one that is idle
            for longest is ended, if any is.
        concurrency: messages of one channel that are handled at once. 1 keeps their order
            and the one instance's state, which code written for Channels relies on; more
            give up both.
        graceful_timeout: seconds that `stop` lets handlers go on for.

    Raises:
        ValueError: there is no layer, or a number is out of its range.
    """

    greenroom_flavour: ClassVar[Flavour] = "both"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        overridden = not OVERRIDABLE.isdisjoint(cls.__dict__)
        if overridden and "greenroom_flavour" not in cls.__dict__:
            cls.greenroom_flavour = "asyncio"  # what such code awaits is asyncio's

    def __init__(
        self,
        application: App,
        channels: Iterable[str],
        channel_layer: Any,
        max_applications: int = 1000,
        *,
        concurrency: int = 1,
        graceful_timeout: float = GRACEFUL_TIMEOUT,
    ) -> None:
        if channel_layer is None:
            raise ValueError("Channel layer is not valid")
        if concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more; it is {concurrency!r}")
        if not graceful_timeout >= 0:
            raise ValueError(f"graceful_timeout must not be negative; it is {graceful_timeout!r}")
        self.application = application
        self.channels = channels
        self.channel_layer = itself(channel_layer)
        self.max_applications = max_applications
        self.concurrency = concurrency
        self.graceful_timeout = graceful_timeout
        self.signals: Sequence[signal.Signals] = SIGNALS  # which of them stop it
        self._shift: Shift | None = None
        self._stops_asked = 0

    @property
    def application_instances(self) -> dict[Any, dict[str, Any]]:
        """What is known of the instances that live now, by channel."""
        shift = self._shift
        seats = [] if shift is None else shift.crew.running()
        return {seat.key: _details(seat) for seat in seats}

    def run(self) -> None:
        """Serve in a trio program of its own, until `stop`; from other code than async.

        In the main thread also until SIGINT or SIGTERM. A second signal cancels what
        handlers still do, and what can't be cancelled, such as a sync handler in its thread,
        keeps the process alive for two seconds at most.

        Raises:
            RuntimeError: an asyncio loop runs here already.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("run() would block the loop that runs here; await arun() instead")
        in_main_thread = threading.current_thread() is threading.main_thread()
        try:
            trio.run(self._run, self.signals if in_main_thread else ())
        except KeyboardInterrupt:  # it came before there was somebody to take it
            worker_logger.info("Interrupted at its start")

    async def arun(self) -> None:
        """Serve until `stop`, or until cancelled, in trio or on an asyncio loop."""
        if not trio.lowlevel.in_trio_task():
            await self.handle()
            return
        if self.greenroom_flavour == "asyncio":
            loop = await lasting_hosted_loop()
            await loop.run_asyncio(self.handle)
        else:
            await self.handle()

    def stop(self) -> None:
        """Take no more messages, and end when those in hand are handled.

        After `graceful_timeout`, or when it is called again, they are cancelled and named.
        It may be called from any thread, and before the worker runs: then it won't.
        """
        self._stops_asked += 1
        shift = self._shift
        if shift is not None:
            shift.home.call_soon(shift.obey)

    async def handle(self) -> None:
        """Run a `listener` for each channel, until `stop` or until they have all returned.

        One that fails is started again.

        Raises:
            TypeError: one of `channels` is no name of a channel.
        """
        names = list(dict.fromkeys(self.channels))
        for name in names:
            require_channel_name(self.channel_layer, name)
        try:
            async with open_tasks() as start_timer:
                async with open_tasks() as start:
                    self._shift = shift = Shift(self, self._make_crew(start), start_timer)
                    for name in names:
                        shift.listen(name)
                    shift.obey()  # it may have been told to stop by now
                shift.end()
        finally:
            self._shift = None
            self._stops_asked = 0

    async def listener(self, channel: str) -> None:
        """Take messages of `channel`, each when an instance is free to handle it."""
        receive = receiver_of(self.channel_layer)
        shift = self._shift
        if shift is not None:
            await shift.line(channel).run(receive)
            return
        async with open_tasks() as start:
            crew = self._make_crew(start)
            outage = outage_of(self.channel_layer)
            await Line(crew, channel, self.concurrency, outage).run(receive)

    def get_or_create_application_instance(self, scope_id: Any, scope: Scope) -> Seat:
        """Give the queue of the instance with this id, for a `listener` of a subclass's own.

        The instance is started by the first message; if it fails, another one handles what
        waits in the queue.

        Raises:
            RuntimeError: the worker does not run.
        """
        if self._shift is None:
            raise RuntimeError("the worker does not run; await its arun() or handle()")
        return self._shift.seat(scope_id, scope)

    async def application_send(self, scope: Scope, message: Message) -> None:  # noqa: ARG002
        """Take what an instance sends, which has no client here.

        Raises:
            RuntimeError: always; override it to do something else.
        """
        raise nobody_reads(message)

    async def application_exception(
        self, exception: Exception, application_details: dict[str, Any]
    ) -> None:
        """Learn that an instance has failed; this logs it.

        Args:
            exception: what it raised.
            application_details: the `scope`, and the `message` that was being handled,
                None if there was none.
        """
        message = application_details["message"]
        logger.error(
            "the application failed in %s%s; the next message starts another instance",
            describe(application_details["scope"]),
            "" if message is None else f" at a message of type {message['type']!r}",
            exc_info=exception,
        )

    def _make_crew(self, start: Start) -> Crew:
        return Crew(
            self.application,
            start,
            lambda scope: partial(self.application_send, scope),
            self._report,
            self.max_applications,
        )

    async def _report(self, error: Exception, seat: Seat, message: Message | None) -> None:
        try:
            await self.application_exception(error, {**_details(seat), "message": message})
        except Exception:
            logger.exception("application_exception of %s failed", type(self).__name__)

    async def _run(self, signals: Sequence[signal.Signals]) -> None:
        failure: Exception | None = None
        async with open_hosted_loop() as loop, trio.open_nursery() as nursery:
            if signals:
                await nursery.start(self._obey_signals, signals)
            try:
                if self.greenroom_flavour == "asyncio":
                    await loop.run_asyncio(self.arun)
                else:
                    await self.arun()
            except Exception as error:  # noqa: BLE001 -- raised outside of the nursery
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _obey_signals(
        self, signals: Sequence[signal.Signals], *, task_status: trio.TaskStatus[None]
    ) -> None:
        seconds = self.graceful_timeout
        disarm: Callable[[], None] = lambda: None  # noqa: E731
        try:
            with trio.open_signal_receiver(*signals) as arrived:
                task_status.started()
                async for number in arrived:
                    worker_logger.info(
                        "%s: stopping, %s", signal.Signals(number).name, self._plan(seconds)
                    )
                    self.stop()
                    if seconds < inf:
                        disarm()
                        disarm = last_resort.arm(seconds + last_resort.MARGIN, self._left)
                    seconds = 0
        finally:
            disarm()

    def _plan(self, seconds: float) -> str:
        left = self._left()
        if not left:
            return "nothing is being handled"
        return f"within {seconds:g} s for {', '.join(left)}"

    def _left(self) -> list[str]:
        shift = self._shift
        return [] if shift is None else shift.crew.left()


def _details(seat: Seat) -> dict[str, Any]:
    return {"scope": seat.scope, "input_queue": seat, "last_used": seat.last_used}


async def serve_channels(
    application: App,
    channels: Iterable[str],
    *,
    layer: Any = None,
    concurrency: int = 1,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve each of `channels` by an instance of the application, until cancelled.

    An instance starts with its channel's first message and handles one message at a time.
    When it fails, that is logged, and the next message starts another; not at once, if the
    last ones have failed at their first message.

    Args:
        application: an ASGI application for scopes of type `channel`.
        channels: names; each is served once here, whatever else receives from it.
        layer: the channel layer, the default one if None.
        concurrency: messages of one channel that are handled at once, by as many instances.
        task_status: for `nursery.start`; by then messages are received.

    Raises:
        ValueError: the settings have no channel layer, or `concurrency` is below 1.
        TypeError: one of `channels` is no name of a channel.
    """
    worker = Worker(application, channels, layer or get_channel_layer(), concurrency=concurrency)
    task_status.started()
    await worker.handle()
