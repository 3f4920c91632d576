"""One run of a worker: its listeners, its instances, and how far its end has come.

run ──stop──> no more messages ──all handled──> end
└──graceful timeout, or asked again──> cancelled and named ──> end
"""

import logging
from random import random
from typing import TYPE_CHECKING, Any, Final, final

from ...actors import Backoff
from ...runtime import Scope
from ...runtime.layers._home import current_home
from ._both_worlds import Cancel, Start, current_time, sleep
from ._outages import outage_of
from ._worker_lines import Line
from ._worker_seats import Crew, Seat

if TYPE_CHECKING:
    from .worker import Worker

# Between two starts of a subclass's own listener that has failed.
PAUSES: Final = Backoff(first=0.1, longest=5.0, reset_after=5.0)

logger = logging.getLogger("greenroom.channels.worker")


@final
class Shift:
    """What a worker does from `handle` to its end.

    Args:
        worker: whose shift it is.
        crew: who handles the messages.
        start_timer: starts the task that ends the crew's time.
    """

    def __init__(self, worker: "Worker", crew: Crew, start_timer: Start) -> None:
        self.crew = crew
        self.home = current_home()
        self._worker = worker
        self._outage = outage_of(worker.channel_layer)
        self._lines: dict[str, Line] = {}
        self._seats: dict[Any, Seat] = {}
        self._listeners: list[Cancel] = []
        self._listening = 0
        self._start_timer = start_timer
        self._stop_timer: Cancel | None = None
        self._hurried = False

    def line(self, channel: str) -> Line:
        """Give the line of a channel, made when it is first asked for."""
        line = self._lines.get(channel)
        if line is None:
            line = Line(self.crew, channel, self._worker.concurrency, self._outage)
            self._lines[channel] = line
        return line

    def seat(self, key: Any, scope: Scope) -> Seat:
        """Give the seat with this key, made when it is first asked for."""
        if key not in self._seats:
            self._seats[key] = Seat(self.crew, key, scope)
        return self._seats[key]

    def listen(self, channel: str) -> None:
        """Run the worker's listener for a channel, again whenever it fails."""
        self._listening += 1
        self._listeners.append(self.crew.start(self._listen, channel))

    async def _listen(self, channel: str) -> None:
        failures = 0
        try:
            while not self.crew.stopping:
                began = current_time()
                try:
                    await self._worker.listener(channel)
                    return
                except Exception:
                    logger.exception("the listener of channel %s is started again", channel)
                lasted = current_time() - began
                failures = 1 if lasted >= PAUSES.reset_after else failures + 1
                await sleep(PAUSES.pause(failures, random()))
        finally:
            self._listening -= 1
            if not self._listening:
                self.crew.stop()

    def obey(self) -> None:
        """Do what `Worker.stop` has asked for so far."""
        asked = self._worker._stops_asked
        if asked and self._stop_timer is None:
            for cancel in self._listeners:
                cancel()
            self.crew.stop()
            self._stop_timer = self._start_timer(self._wait)
        if asked > 1 and not self._hurried:
            self._hurry("It was told so again")

    async def _wait(self) -> None:
        seconds = self._worker.graceful_timeout
        await sleep(seconds)
        self._hurry(f"It was told to stop {seconds:g} s ago")

    def _hurry(self, reason: str) -> None:
        self._hurried = True
        left = self.crew.left()
        if left:
            logger.warning("%s, so the worker cancels what it handles: %s", reason, ", ".join(left))
        self.crew.cancel()

    def end(self) -> None:
        """Forget about the time, as everything has ended."""
        if self._stop_timer is None:
            self._stop_timer = lambda: None
        self._stop_timer()
