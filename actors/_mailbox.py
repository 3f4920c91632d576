"""The queue in front of one actor, in lanes: first come first served within a lane, lanes by rank.

A mailbox never waits on the sender's side: `put` answers at once with a `Delivery`, and what
it had to lose goes to `on_loss`, exactly once. The receiving side may be a trio task (`wait`,
`get`) or anything else that can be woken by a call (`wake`), such as a future of another
event loop in the same thread. A mailbox belongs to one thread.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import outcome
import trio

from ._lanes import Delivery, Lane, LaneCounts, Loss, Overflow

# Messages that one task may take before others get a turn. A turn costs about 4 us.
BUDGET: Final = 64
GLANCE: Final = 4  # so many between two looks at the clock, each of 0.3 us
PATIENCE: Final = 0.01  # seconds that others wait for their turn, give or take one message

_ACCEPTED: Final = Delivery.ACCEPTED


class _Queue:
    """One lane at work. Its deque comes with the first message: an empty one takes 600 bytes."""

    __slots__ = (
        "accepted",
        "blocked",
        "evicted",
        "index",
        "items",
        "lane",
        "limit",
        "refused",
        "sealed",
    )

    def __init__(self, lane: Lane, index: int) -> None:
        self.lane = lane
        self.index = index
        self.limit: float = float("inf") if lane.capacity is None else lane.capacity
        self.items: deque[Any] | None = None
        self.blocked: deque[tuple[trio.lowlevel.Task | None, Any]] | None = None
        self.accepted = 0
        self.evicted = 0
        self.refused = 0
        self.sealed = False


@final
class Mailbox:
    """The messages that wait for one actor, in one or more lanes.

    Lane 0 comes first: a message in lane 1 is taken only while lane 0 is empty.

    Args:
        lanes: the lanes, the most urgent first; one unlimited lane if none is given.

    >>> mailbox = Mailbox(Lane(), Lane(capacity=1))
    >>> mailbox.put("later", lane=1), mailbox.put("refused", lane=1), mailbox.put("first")
    (<Delivery.ACCEPTED: 'accepted'>, <Delivery.REJECTED: 'rejected, the lane is full'>, \
<Delivery.ACCEPTED: 'accepted'>)
    >>> mailbox.get_nowait(), mailbox.get_nowait()
    ('first', 'later')
    """

    __slots__ = ("_closed", "_queues", "_since", "_streak", "on_loss", "on_overload", "wake")

    wake: Callable[[], object] | None
    """Called and forgotten by the next `put`; see `wait_with`."""

    on_loss: Callable[[Any, int, Loss], None] | None
    """Told of every message that is lost, with its lane; it must not raise."""

    on_overload: Callable[[], object] | None
    """Called when a lane with `Overflow.CLOSE` refuses a message; it must not raise."""

    def __init__(self, *lanes: Lane) -> None:
        self._queues = tuple(_Queue(lane, at) for at, lane in enumerate(lanes or (Lane(),)))
        self._streak = 0  # items in a row
        self._since = 0.0  # when the first of them was taken
        self._closed = False
        self.wake = None
        self.on_loss = None
        self.on_overload = None

    def put(self, item: Any, lane: int = 0) -> Delivery:
        """Add `item` to a lane, or do what the lane's overflow policy says; never wait.

        Wakes the receiver only if the item went in. Never raises because of the receiver.
        """
        queue = self._queues[lane]
        items = queue.items
        if items is None:
            if self._closed:
                return self._refuse(queue, item, Loss.DEAD, Delivery.DEAD)
            items = queue.items = deque()
        elif len(items) >= queue.limit:
            return self._overflow(queue, items, item)
        items.append(item)
        queue.accepted += 1
        wake = self.wake
        if wake is not None:
            self.wake = None
            wake()
        return _ACCEPTED

    async def feed(self, item: Any, lane: int = 0) -> Delivery:
        """Add `item` to a lane as soon as it has room; a checkpoint in any case.

        Those who wait are let in by turns, before anybody who puts later. Cancelled
        while it waits, the item was not added.

        Returns:
            `ACCEPTED`, or `DEAD` or `STOPPING` if the mailbox or the lane was closed meanwhile.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        queue = self._queues[lane]
        if self._takes_at_once(queue):
            delivery = self.put(item, lane)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return delivery
        if queue.blocked is None:
            queue.blocked = deque()
        blocked = queue.blocked
        entry: tuple[trio.lowlevel.Task | None, Any] = (trio.lowlevel.current_task(), item)
        blocked.append(entry)

        def give_up(_: object) -> trio.lowlevel.Abort:
            blocked.remove(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(give_up)  # type: ignore[no-any-return]

    def put_soon(self, item: Any, lane: int = 0) -> None:
        """Add `item` to a lane now or as soon as it has room, as `feed` does, without waiting."""
        queue = self._queues[lane]
        if self._takes_at_once(queue):
            self.put(item, lane)
            return
        if queue.blocked is None:
            queue.blocked = deque()
        queue.blocked.append((None, item))

    def seal(self, lane: int, last: Any) -> None:
        """Let nothing more into a lane, after `last`, which comes behind what waits there."""
        queue = self._queues[lane]
        if queue.sealed or self._closed:
            return
        queue.sealed = True
        queue.limit = -1
        self._dismiss(queue, Loss.STOPPING, Delivery.STOPPING)
        if queue.items is None:
            queue.items = deque()
        queue.items.append(last)
        queue.accepted += 1
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    async def take_turn(self) -> None:
        """Count an item that the receiver has from elsewhere; at times a checkpoint, see `get`."""
        self._streak += 1
        if self._streak > BUDGET:
            self._streak = 0
            await trio.lowlevel.checkpoint()

    def get_nowait(self) -> Any:
        """Take the next item of the most urgent lane that has one.

        Raises:
            trio.WouldBlock: every lane is empty.
        """
        for queue in self._queues:
            if queue.items:
                return self._take(queue)
        raise trio.WouldBlock

    def get_nowait_from(self, lane: int) -> Any:
        """Take the next item of one lane.

        Raises:
            trio.WouldBlock: the lane is empty.
        """
        queue = self._queues[lane]
        if queue.items:
            return self._take(queue)
        raise trio.WouldBlock

    async def wait(self) -> None:
        """Park until the next `put`, even if something is in the mailbox already.

        Raises:
            trio.BusyResourceError: somebody else waits here.
        """
        self.wait_with(partial(trio.lowlevel.reschedule, trio.lowlevel.current_task()))
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def wait_with(self, wake: Callable[[], object]) -> None:
        """Have the next `put` call `wake`, which is how others than trio tasks wait here.

        Raises:
            trio.BusyResourceError: somebody else waits here.
        """
        if self.wake is not None:
            raise trio.BusyResourceError("another task waits for this mailbox")
        for queue in self._queues:
            if not queue.items and not queue.sealed:
                queue.items = None  # who waits may wait for long: see `_Queue`
        self.wake = wake

    async def get(self) -> Any:
        """Take the next item, and wait for one if there is none.

        A checkpoint only if it waits, and after 64 items in a row without waiting, or after
        fewer that have taken 10 ms or more.

        Raises:
            trio.BusyResourceError: somebody else waits here.
        """
        if not self._streak % GLANCE:
            now = trio.current_time()
            if not self._streak:
                self._since = now
            elif self._streak >= BUDGET or now - self._since >= PATIENCE:
                self._streak = 0
                await trio.lowlevel.checkpoint()
                self._since = trio.current_time()
        while True:
            for queue in self._queues:
                items = queue.items
                if items:
                    self._streak += 1
                    return self._take(queue) if queue.blocked else items.popleft()
            self._streak = 0
            # As `wait` does, without a frame more for each of the many that are parked here.
            self.wait_with(partial(trio.lowlevel.reschedule, trio.lowlevel.current_task()))
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def depth(self, lane: int) -> int:
        """Tell how many items wait in a lane."""
        items = self._queues[lane].items
        return len(items) if items else 0

    def set_capacity(self, lane: int, capacity: int | None) -> None:
        """Let a lane hold up to `capacity` items from now on; any number if it is None.

        What waits in it already stays. Those who wait for room that there is now are let in.

        Raises:
            ValueError: `capacity` is below 1.
        """
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity must be 1 or more, or None; it is {capacity!r}")
        queue = self._queues[lane]
        if not queue.sealed:
            queue.limit = float("inf") if capacity is None else capacity
            while queue.blocked and self.depth(lane) < queue.limit:
                self._let_in(queue)

    def counts(self, lane: int) -> LaneCounts:
        """Tell what has passed through a lane so far."""
        queue = self._queues[lane]
        waiting = self.depth(lane)
        taken = queue.accepted - queue.evicted - waiting
        return LaneCounts(queue.accepted, taken, queue.evicted, queue.refused, waiting)

    @property
    def closed(self) -> bool:
        """Whether the mailbox takes nothing any more."""
        return self._closed

    def clear(self, lane: int) -> None:
        """Lose what waits in a lane, and let in those who wait for room."""
        queue = self._queues[lane]
        for _ in range(len(queue.items or ())):
            queue.evicted += 1
            self._lose(self._take(queue), queue, Loss.LEFT_OVER)

    def close(self) -> None:
        """Lose what waits here, refuse what comes, and let go those who wait for room."""
        if self._closed:
            return
        self._closed = True
        # Taken away first: who is told of a loss may put something in answer to it.
        left = [queue.items or () for queue in self._queues]
        for queue, items in zip(self._queues, left, strict=True):
            queue.items = None
            queue.evicted += len(items)
        for queue in self._queues:
            self._dismiss(queue, Loss.DEAD, Delivery.DEAD)
        for queue, items in zip(self._queues, left, strict=True):
            for item in items:
                self._lose(item, queue, Loss.LEFT_OVER)

    def _takes_at_once(self, queue: _Queue) -> bool:
        """Tell whether a `put` finds room, or somebody who never will be there again."""
        items = queue.items
        return self._closed or queue.sealed or items is None or len(items) < queue.limit

    def _dismiss(self, queue: _Queue, loss: Loss, delivery: Delivery) -> None:
        """Let go those who wait for room, with what they have."""
        blocked, queue.blocked = queue.blocked, None
        while blocked:  # who is told of a loss may cancel somebody who waits
            task, item = blocked.popleft()
            if task is not None:
                trio.lowlevel.reschedule(task, outcome.Value(delivery))
            self._refuse(queue, item, loss, delivery)

    def _take(self, queue: _Queue) -> Any:
        assert queue.items
        item = queue.items.popleft()
        if queue.blocked:
            self._let_in(queue)
        return item

    def _let_in(self, queue: _Queue) -> None:
        """Add the item of the first of those who wait for room."""
        assert queue.blocked
        assert queue.items is not None
        task, waiting = queue.blocked.popleft()
        queue.items.append(waiting)
        queue.accepted += 1
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(_ACCEPTED))

    def _overflow(self, queue: _Queue, items: deque[Any], item: Any) -> Delivery:
        lane = queue.lane
        if queue.sealed:
            return self._refuse(queue, item, Loss.STOPPING, Delivery.STOPPING)
        match lane.overflow:
            case Overflow.DROP_OLDEST:
                return self._replace(queue, items, 0, item, Delivery.DROPPED_OLDEST)
            case Overflow.DROP_NEW:
                return self._refuse(queue, item, Loss.DROPPED, Delivery.DROPPED_NEW)
            case Overflow.COALESCE:
                at = lane.find_the_key_of(item, items)
                if at is not None:
                    return self._replace(queue, items, at, item, Delivery.COALESCED)
            case Overflow.CLOSE:
                delivery = self._refuse(queue, item, Loss.OVERLOAD, Delivery.CLOSED)
                if self.on_overload is not None:
                    self.on_overload()
                return delivery
            case Overflow.REJECT:
                pass
        return self._refuse(queue, item, Loss.REJECTED, Delivery.REJECTED)

    def _replace(
        self, queue: _Queue, items: deque[Any], at: int, item: Any, delivery: Delivery
    ) -> Delivery:
        """Lose the item at `at` and add `item` at the end, so that order stays sending order."""
        lost = items[at]
        del items[at]
        items.append(item)
        queue.accepted += 1
        queue.evicted += 1
        loss = Loss.COALESCED if delivery is Delivery.COALESCED else Loss.DROPPED
        self._lose(lost, queue, loss)
        wake = self.wake
        if wake is not None:  # the receiver waits for another lane
            self.wake = None
            wake()
        return delivery

    def _refuse(self, queue: _Queue, item: Any, loss: Loss, delivery: Delivery) -> Delivery:
        queue.refused += 1
        self._lose(item, queue, loss)
        return delivery

    def _lose(self, item: Any, queue: _Queue, loss: Loss) -> None:
        if self.on_loss is not None:
            self.on_loss(item, queue.index, loss)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self.wake = None
        return trio.lowlevel.Abort.SUCCEEDED
