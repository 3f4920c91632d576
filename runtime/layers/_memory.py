"""The layer of one process: channels and groups in memory, for any thread and any flavour.

Nothing here waits except `receive`, so the other methods do their work when they are
called, under a lock that is never held for long, and return `DONE` for the caller's
`await`. They are marked as coroutine functions for those who ask, as `async_to_sync` does.
A channel is read in one of two ways: a consumer subscribes its mailbox, which then gets
each message in the sender's own step; or somebody awaits `receive`, and messages wait in
a queue meanwhile.

Source: `InMemoryChannelLayer` of Channels 4.3, whose `channels` and `groups` tests look
into. Unlike there, several loops and threads may use one layer, `channel_capacity`
works, and a subscribed channel leaves its groups when its reader ends, not after a day.
"""

import os
import time
import weakref
from collections.abc import Callable, Iterable
from copy import deepcopy
from logging import getLogger
from random import choices
from string import ascii_letters
from threading import RLock
from typing import ClassVar, Final

from asgiref.sync import markcoroutinefunction

from ...actors import Mailbox
from .._types import Message
from ._base import BaseChannelLayer, Capacities
from ._channel import Channel, Subscription
from ._done import DONE, Done
from ._errors import ChannelFull
from ._home import Waiter

FLAT: Final = frozenset({str, int, bytes, bool, float, type(None)})

logger = getLogger("greenroom.layers")


def copy_message(message: Message) -> Message:
    """Copy a message so that nothing of it is shared, as if it had gone over a network.

    >>> message = {"type": "chat.message", "tags": ["a"]}
    >>> copy_message(message)["tags"] is message["tags"]
    False
    """
    for value in message.values():
        if type(value) not in FLAT:
            return deepcopy(message)
    return message.copy()


class InMemoryChannelLayer(BaseChannelLayer):
    """A channel layer inside one process, without a server beside it.

    Args:
        expiry: seconds after which a message that nobody takes from its queue is dropped,
            and its channel leaves all groups. What a subscribed mailbox has got is taken.
        group_expiry: seconds after which a channel that nobody has subscribed leaves a
            group; a day, as in Channels.
        capacity: messages that wait on one channel at most.
        channel_capacity: other capacities by channel name, as in `BaseChannelLayer`.
        clock: gives the time in seconds; for tests.
    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]

    def __init__(
        self,
        expiry: int = 60,
        group_expiry: int = 86400,
        capacity: int = 100,
        channel_capacity: Capacities | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(expiry, capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.group_expiry = group_expiry
        self.channels: dict[str, Channel] = {}
        self.groups: dict[str, dict[str, float]] = {}  # group -> channel -> when it was added
        self._memberships: dict[str, set[str]] = {}  # channel -> its groups
        self._clock = clock
        self._next_expiry: float | None = None  # no queued message expires earlier
        self._lock = RLock()
        _layers.add(self)

    @markcoroutinefunction
    def send(self, channel: str, message: Message) -> Done:
        """Put a copy of `message` on `channel`, at once; awaiting what this returns is optional.

        Raises:
            ChannelFull: as many messages as its capacity wait there.
            TypeError: `channel` is no channel name.
            AssertionError: `message` is no dict.
        """
        self.require_valid_message(message)
        self.require_valid_channel_name(channel)
        with self._lock:
            if not self._put(channel, copy_message(message)):
                # A message that nobody took in time takes nobody's place.
                self._expire()
                if not self._put(channel, copy_message(message)):
                    raise ChannelFull(channel)
        return DONE

    @markcoroutinefunction
    def group_send(self, group: str, message: Message) -> Done:
        """Put copies of `message` on all channels of `group`, at once; full ones miss it.

        How many missed it is logged. A group that has no channels takes everything. In a
        subclass with a `send` of its own, that one is awaited for each channel.

        Raises:
            TypeError: `group` is no group name.
            AssertionError: `message` is no dict.
        """
        self.require_valid_message(message)
        self.require_valid_group_name(group)
        with self._lock:
            self._expire()
            names = self._members(group)
            if type(self).send is not InMemoryChannelLayer.send:
                # This one has to be awaited.
                return self._send_to_each(names, message, group)  # type: ignore[return-value]
            missed = 0
            for name in names:
                if not self._put(name, copy_message(message)):
                    missed += 1
        self._tell_missed(missed, names, group)
        return DONE

    async def _send_to_each(self, names: list[str], message: Message, group: str) -> None:
        # By a subclass that does something of its own with each message, such as counting.
        missed = 0
        for name in names:
            try:
                await self.send(name, message)
            except ChannelFull:
                missed += 1
        self._tell_missed(missed, names, group)

    def _tell_missed(self, missed: int, names: list[str], group: str) -> None:
        if missed:
            logger.info("%s of %s channels over capacity in group %s", missed, len(names), group)

    @markcoroutinefunction
    def group_add(self, group: str, channel: str) -> Done:
        """Let `channel` have what is sent to `group`, from now on.

        Raises:
            TypeError: `group` or `channel` is no such name.
        """
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        with self._lock:
            self.groups.setdefault(group, {})[channel] = self._clock()
            self._memberships.setdefault(channel, set()).add(group)
        return DONE

    @markcoroutinefunction
    def group_discard(self, group: str, channel: str) -> Done:
        """Undo `group_add`; nothing happens if there was none.

        Raises:
            TypeError: `group` or `channel` is no such name.
        """
        self.require_valid_channel_name(channel)
        self.require_valid_group_name(group)
        with self._lock:
            self._leave(channel, [group])
        return DONE

    @markcoroutinefunction
    def flush(self) -> Done:
        """Forget all messages that wait in queues, and all groups. Subscriptions stay."""
        with self._lock:
            self.groups.clear()
            self._memberships.clear()
            for name, channel in list(self.channels.items()):
                channel.queue.clear()
                self._drop_if_unused(name, channel)
        return DONE

    @markcoroutinefunction
    def close(self) -> Done:
        """Do nothing: there is no connection to close."""
        return DONE

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Make up a channel name that is not in use.

        The name starts with `prefix`, a dot and `inmemory!`, as in Channels.
        """
        return f"{prefix}.inmemory!{''.join(choices(ascii_letters, k=12))}"

    async def receive(self, channel: str) -> Message:
        """Wait for the next message on `channel`, in trio or in asyncio.

        Of several that wait, each message goes to one.

        Raises:
            RuntimeError: a mailbox has subscribed the channel, and gets all.
            TypeError: `channel` is no channel name.
        """
        self.require_valid_channel_name(channel)
        while True:
            with self._lock:
                self._expire()
                entry = self.channels.setdefault(channel, Channel())
                if entry.subscription is not None:
                    raise RuntimeError(
                        f"nothing can be received from {channel!r}: its messages go to whoever has "
                        "subscribed it, as a consumer has whose handlers they call"
                    )
                if entry.queue:
                    _, message = entry.queue.pop(0)
                    self._drop_if_unused(channel, entry)
                    return message
                waiter = Waiter()
                entry.waiters.append(waiter)
            try:
                await waiter.wait()
            except BaseException:  # cancelled: what it was woken for is another one's now
                with self._lock:
                    if waiter not in entry.waiters and entry.queue and entry.waiters:
                        entry.waiters.pop(0).wake()
                raise
            finally:
                with self._lock:
                    if waiter in entry.waiters:
                        entry.waiters.remove(waiter)
                    self._drop_if_unused(channel, entry)

    def subscribe(self, channel: str, mailbox: Mailbox, lane: int = 0) -> Subscription:
        """Feed a lane of `mailbox` with the messages of `channel`, those that wait there first.

        `mailbox` belongs to the calling task's thread. The lane gets the channel's capacity;
        a sender of one message more gets `ChannelFull`.

        Raises:
            ValueError: the channel has a subscription already.
        """
        self.require_valid_channel_name(channel)
        with self._lock:
            entry = self.channels.setdefault(channel, Channel())
            if entry.subscription is not None:
                raise ValueError(f"channel {channel!r} has a subscription already")
            subscription = Subscription(self, channel, mailbox, lane)
            mailbox.set_capacity(lane, max(1, self.get_capacity(channel)))
            self._expire()
            # Expiry may have dropped the entry with its last message.
            self.channels[channel] = entry
            while entry.queue and subscription.deliver(entry.queue[0][1]):
                entry.queue.pop(0)
            entry.queue.clear()
            entry.subscription = subscription
        return subscription

    def _end(self, subscription: Subscription) -> None:
        name = subscription.channel
        with self._lock:
            entry = self.channels.get(name)
            if entry is None or entry.subscription is not subscription:
                return
            entry.subscription = None
            self._leave(name, list(self._memberships.get(name, ())))
            self._drop_if_unused(name, entry)

    def _put(self, name: str, message: Message) -> bool:
        entry = self.channels.get(name)
        if entry is None:
            entry = self.channels[name] = Channel()
        subscription = entry.subscription
        capacity = self.get_capacity(name)
        if subscription is not None:
            return subscription.depth() < capacity and subscription.deliver(message)
        if len(entry.queue) >= capacity:
            return False
        expires = self._clock() + self.expiry
        entry.queue.append((expires, message))
        if self._next_expiry is None:
            self._next_expiry = expires
        if entry.waiters:
            entry.waiters.pop(0).wake()
        return True

    def _members(self, group: str) -> list[str]:
        """Give the channels of a group, without those that were added too long ago.

        One that a mailbox has subscribed stays: its reader is known to live.
        """
        members = self.groups.get(group)
        if members is None:
            return []
        oldest = self._clock() - self.group_expiry
        late = [name for name, added in members.items() if added < oldest]
        for name in late:
            entry = self.channels.get(name)
            if entry is None or entry.subscription is None:
                self._leave(name, [group])
        return list(members)

    def _expire(self) -> None:
        """Drop what nobody took in time; a channel that lost a message leaves its groups."""
        now = self._clock()
        if self._next_expiry is not None and self._next_expiry <= now:
            for name, entry in list(self.channels.items()):
                lost = False
                while entry.queue and entry.queue[0][0] <= now:
                    entry.queue.pop(0)
                    lost = True
                if lost:
                    self._leave(name, list(self._memberships.get(name, ())))
                    self._drop_if_unused(name, entry)
            self._next_expiry = min(
                (entry.queue[0][0] for entry in self.channels.values() if entry.queue),
                default=None,
            )

    def _leave(self, channel: str, groups: Iterable[str]) -> None:
        memberships = self._memberships.get(channel, set())
        for group in groups:
            memberships.discard(group)
            members = self.groups.get(group)
            if members is not None:
                members.pop(channel, None)
                if not members:
                    del self.groups[group]
        if not memberships:
            self._memberships.pop(channel, None)

    def _drop_if_unused(self, name: str, entry: Channel) -> None:
        unused = not (entry.queue or entry.waiters or entry.subscription)
        if unused and self.channels.get(name) is entry:
            del self.channels[name]

    def _forget_other_process(self) -> None:
        self._lock = RLock()
        self.channels.clear()
        self.groups.clear()
        self._memberships.clear()
        self._next_expiry = None


_layers: "weakref.WeakSet[InMemoryChannelLayer]" = weakref.WeakSet()


def _after_fork() -> None:
    # The parent's readers stay the parent's, and a lock may have been held by its threads.
    for layer in list(_layers):
        layer._forget_other_process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
