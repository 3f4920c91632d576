"""Normal channels of channels_redis' core layer, so that each message goes to one worker only.

Its own `receive` notes what it has popped in a second sorted set, `$inflight`, until it has been
handed over; and before it pops, it moves all that is noted there back into the queue, whoever
has noted it. So several processes on one channel get messages twice.

Here a message is popped, which is atomic, and nothing is noted: `$inflight` is neither written
nor read, also not for a worker of Channels that died, as its message may have been begun.
Popped is gone, so what could not be handed over is put back where it was:

    connecting ──> asked ──> popped ──> handed over
         │           │          │
         │         woken        │           `receive` is cancelled, or another server was first
         v           v          v
        over       over      put back

All the rest is the layer's: its connections, prefix, serializer and keys, and its servers, of
which each gets every n-th message. Written for asyncio, as it is.

Source: how `channels_redis.core.RedisChannelLayer` 4.3 was seen to behave.
"""

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from enum import Enum
from functools import cache
from inspect import Parameter, signature
from itertools import count
from typing import Any, Final, NamedTuple, final
from weakref import WeakSet

from ...runtime import Message

THEIRS: Final = ("channels_redis.core", "RedisChannelLayer")

# What its `receive` is made of. Who overrides one of these receives in a way of their own.
RECEIVING: Final = (
    "receive",
    "receive_single",
    "_brpop_with_clean",
    "_backup_channel_name",
    "_clean_receive_backup",
)
USED: Final = ("connection", "deserialize", "expiry", "prefix", "ring_size")

# Seconds for which a server waits for a message. Whole ones, for Redis 5; and few, since for so
# long it may pop for a machine that lost its power.
BLOCK: Final = 1
# Not redis-py's `socket_timeout`: who gives up reading loses what was popped meanwhile.
FOREVER: Final = 1e6
# A server that has not answered for so many ticks is gone. Ticks, because a handler that computes
# may hold up this process for any time, and then there is an answer that was not read yet.
TICKS: Final = 3
TICK: Final = 5.0
LAST_TICK: Final = 1.0  # when nobody waits for a message any more
MARK_EXPIRY: Final = 60  # seconds that keys last which are there for a moment

# A client repeats a command whose answer was lost. By then the message may have been put back, and
# taken by another worker.
PUT_BACK: Final = f"""
if redis.call('SET', KEYS[2], '', 'NX', 'EX', {MARK_EXPIRY}) then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
    if redis.call('TTL', KEYS[1]) == -1 then
        redis.call('EXPIRE', KEYS[1], ARGV[3])
    end
end
"""
WAKE: Final = f"""
redis.call('ZADD', KEYS[1], 0, '')
redis.call('EXPIRE', KEYS[1], {MARK_EXPIRY})
"""

logger = logging.getLogger("greenroom.channels.worker")

_told: Final[WeakSet[type]] = WeakSet()  # classes of layers that the log has a line of


class Popped(NamedTuple):
    """A message that this process alone has."""

    server: Any  # it came from there, and would go back there
    member: bytes
    score: bytes | str


@final
class RedisQueue:
    """Receives as `layer.receive` does, but for messages that nobody else gets."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._turns = count()

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of `channel`; cancelled, it leaves all messages there."""
        layer = self._layer
        if "!" in channel:
            message: Message = await layer.receive(channel)
            return message
        turn, servers = next(self._turns), layer.ring_size
        taking = Taking(
            [layer.connection((turn + at) % servers) for at in range(servers)],
            layer.prefix + channel,
            int(layer.expiry),
        )
        try:
            await asyncio.wait([taking.task])
        except asyncio.CancelledError:
            await to_the_end(taking.undo())
            raise
        popped = taking.task.result()
        if popped is None:
            raise asyncio.CancelledError  # of its tasks, by somebody who cancels whatever runs
        message = layer.deserialize(popped.member)
        if isinstance(message, dict):
            message.pop("__asgi_channel__", None)  # a group's message says whom it is for
        return message


def queue_of(layer: Any) -> RedisQueue | None:
    """Give what receives in place of `layer`, or None if it had better do so itself."""
    for base in type(layer).__mro__:
        if (base.__module__, base.__qualname__) == THEIRS:
            break
    else:
        return None
    reason = _why_not(layer, base)
    if reason is None:
        return RedisQueue(layer)
    if type(layer) not in _told:
        _told.add(type(layer))
        logger.warning(
            "channels are read by %s.receive, as it %s; whether several worker processes may get "
            "a message twice is up to that",
            type(layer).__qualname__,
            reason,
        )
    return None


def _why_not(layer: Any, base: type) -> str | None:
    missing = [name for name in (*RECEIVING, *USED) if not hasattr(layer, name)]
    if missing:
        return f"has no {', '.join(missing)}, unlike that of channels_redis 4.3"
    cls = type(layer)
    overridden = [
        name
        for name in RECEIVING
        if name in vars(layer) or getattr(cls, name) is not getattr(base, name)
    ]
    return f"overrides {', '.join(overridden)}" if overridden else None


@cache
def _names_command(pool: Any) -> tuple[str, ...]:
    """Give the arguments of `get_connection`: until redis-py 5.3 it has to be told what for."""
    command = signature(pool.get_connection).parameters.get("command_name")
    return ("BZPOPMIN",) if command is not None and command.default is Parameter.empty else ()


async def to_the_end(coroutine: Coroutine[Any, Any, object]) -> None:
    """Await what must not be left half done, however often the caller is cancelled."""
    task = asyncio.ensure_future(coroutine)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    task.result()


@final
class Taking:
    """Takes one message from whichever server has one, in a task that nobody cancels.

    Args:
        servers: clients of them, in the order in which they are looked at.
        key: the sorted set that the channel is.
        expiry: seconds that it lasts.
    """

    def __init__(self, servers: list[Any], key: str, expiry: int) -> None:
        self._servers = servers
        self._key = key
        self._expiry = expiry
        self._pops: list[Pop] = []
        self._over = False
        self.task = asyncio.ensure_future(self._take())

    async def undo(self) -> None:
        """Take nothing, and put back what has been taken."""
        self._over = True
        self._end_pops()
        await asyncio.wait([self.task])
        if self.task.cancelled() or self.task.exception() is not None:
            return
        popped = self.task.result()
        if popped is not None:
            await self._put_back(popped)

    async def _take(self) -> Popped | None:
        failures: list[Exception] = []
        try:
            if len(self._servers) > 1:
                # Not yet waiting: while there are messages, no more than one is popped.
                for server in self._servers:
                    popped = await self._race([server], failures, waits=False)
                    if popped is not None or self._over:
                        return popped
                if failures:
                    raise failures[0]
            popped = await self._race(self._servers, failures, waits=True)
            if popped is None and failures:
                raise failures[0]
            return popped
        finally:
            failures.clear()  # their tracebacks hold this frame: no reference cycle

    async def _race(
        self, servers: list[Any], failures: list[Exception], *, waits: bool
    ) -> Popped | None:
        """Ask all of `servers` at once, until one has answered; give the oldest message."""
        if self._over:
            return None
        self._pops = [Pop(server, self._key, waits=waits) for server in servers]
        tasks = [pop.task for pop in self._pops]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._end_pops()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        wakes = [pop.waking for pop in self._pops if pop.waking is not None]
        if wakes:
            await asyncio.wait(wakes, timeout=LAST_TICK)
            for wake in wakes:
                wake.cancel()
        failures += (result for result in results if isinstance(result, Exception))
        popped = [result for result in results if isinstance(result, Popped)]
        popped.sort(key=lambda one: float(one.score), reverse=True)
        while len(popped) > 1:
            await self._put_back(popped.pop(0))
        return popped[0] if popped else None

    def _end_pops(self) -> None:
        for pop in self._pops:
            pop.end()

    async def _put_back(self, popped: Popped) -> None:
        mark = f"{self._key}$put-back${uuid.uuid4().hex}"
        score, member = popped.score, popped.member
        try:
            await popped.server.eval(PUT_BACK, 2, self._key, mark, score, member, self._expiry)
        except Exception:
            logger.exception("a message of %s can't be put back and is lost", self._key)


class Step(Enum):
    """How far one command of a `Pop` is."""

    CONNECTING = "the server does not know of it"
    ASKED = "the server may pop, and we would not know yet"
    ANSWERED = "what it has popped is here"


@final
class Pop:
    """Asks one server for one message, in a task of its own.

    Args:
        server: a client of it.
        key: the sorted set that the channel is.
        waits: until there is a message, or until `end`.
    """

    def __init__(self, server: Any, key: str, *, waits: bool) -> None:
        self.waking: asyncio.Task[None] | None = None
        self._server = server
        # Of two sets to pop from, the second is for `end`: once it is filled, the server answers.
        self._wake_key = f"{key}$wake${uuid.uuid4().hex}"
        command = ("BZPOPMIN", key, self._wake_key, BLOCK) if waits else ("ZPOPMIN", key)
        self._waits = waits
        self._over = False
        self._step = Step.CONNECTING
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self.task = asyncio.ensure_future(self._pop(command))

    def end(self) -> None:
        """Have the task end soon; it may have popped a message by then."""
        if self._over or self.task.done():
            return
        self._over = True
        if self._step is Step.CONNECTING:
            self.task.cancel()
        elif self._step is Step.ASKED:
            self._watch(LAST_TICK)
            if self._waits:
                self.waking = asyncio.ensure_future(self._wake())

    async def _pop(self, command: tuple[Any, ...]) -> Popped | None:
        while not self._over:
            popped = await self._ask(command)
            if popped is not None or not self._waits:
                return popped
        return None

    async def _ask(self, command: tuple[Any, ...]) -> Popped | None:
        self._step = Step.CONNECTING
        pool = self._server.connection_pool
        connection = await pool.get_connection(*_names_command(pool.__class__))
        try:
            self._step = Step.ASKED
            self._watch(TICK)
            # Not by a method of the client, which would ask again after a failure, in secret.
            await connection.send_command(*command)
            answer = await connection.read_response(disable_decoding=True, timeout=FOREVER)
        except asyncio.CancelledError:
            if self._ticks < TICKS:
                raise
            raise ConnectionError("the server of the channel layer does not answer") from None
        finally:
            self._step = Step.ANSWERED
            self._stop_watching()
            await pool.release(connection)
        return self._read(answer)

    def _read(self, answer: Any) -> Popped | None:
        """Understand an answer as either version of the protocol has it."""
        if not answer:
            return None
        if self._waits:
            key, member, score = answer
            if key == self._wake_key.encode():
                return None
        else:
            member, score = answer[0] if isinstance(answer[0], list) else answer
        return Popped(self._server, member, score if isinstance(score, bytes) else repr(score))

    async def _wake(self) -> None:
        try:
            await self._server.eval(WAKE, 1, self._wake_key)
        except Exception:
            logger.debug("a wait can't be cut short; it ends by itself", exc_info=True)

    def _watch(self, tick: float) -> None:
        """Cancel the task when the server is silent for some ticks of so many seconds."""
        self._stop_watching()
        self._ticks = 0
        loop = asyncio.get_running_loop()

        def look() -> None:
            self._ticks += 1
            if self._ticks >= TICKS:
                self.task.cancel()
            else:
                self._timer = loop.call_later(tick, look)

        self._timer = loop.call_later(tick, look)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
