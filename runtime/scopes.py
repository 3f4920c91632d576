"""An ASGI scope as an actor: its mailbox, its `receive` and its `send`.

A scope actor's life is one call of the application, or more if that goes on after a crash.
Two feeds fill its mailbox: the server's events in wire order, never dropped, and
channel-layer messages, bounded. `http/_scope.py` and `websocket/_scope.py` are the scopes
that this package serves itself; `open_scopes` opens scopes of any other protocol, for
servers written outside.

Source: the ASGI specification 3.0, "Connection Scope" and "Events".
"""

import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Final, final

import trio

from ..actors import (
    Actor,
    ActorRef,
    ChildSpec,
    Context,
    Crash,
    Delivery,
    DynamicSupervisor,
    ExitReason,
    Lane,
    Mailbox,
    Restart,
    open_dynamic_supervisor,
)
from ._errors import ClientDisconnected, LocalProtocolError, instead_of_exit
from ._types import App, Message, Scope, Send
from .restarting import ANSWERED_ONCE, EXTENSION, ScopeRestarts, restarts_of

EVENTS: Final = 0  # the lane of the server's events
MESSAGES: Final = 1  # the lane of channel-layer messages
MESSAGES_CAPACITY: Final = 100  # Channels' default for one channel
BUDGET: Final = 64  # messages an application may take or send before others get a turn

_EVENTS_LANE: Final = Lane()
_BOUNDED_EVENTS_LANE: Final = Lane(capacity=BUDGET)
_MESSAGES_LANE: Final = Lane(capacity=MESSAGES_CAPACITY)

logger = logging.getLogger("greenroom.scopes")


def open_mailbox() -> Mailbox:
    """Make the mailbox of one scope: a lane for each of its two feeds."""
    return Mailbox(_EVENTS_LANE, _MESSAGES_LANE)


def describe(scope: Scope) -> str:
    r"""Say in a few words which scope this is, for logs.

    >>> describe({"type": "websocket", "path": "/chat/", "client": ("127.0.0.1", 5000)})
    'websocket /chat/ of 127.0.0.1:5000'
    >>> describe({"type": "http", "method": "GET", "path": "/", "client": None})
    'http GET /'

    What a client chose can't break a line, or steer a terminal:

    >>> print(describe({"type": "http", "path": "/a" + chr(10) + "FORGED" + chr(27) + "[31m"}))
    http /a\nFORGED\x1b[31m
    """
    words = [str(scope["type"])]
    words += [_printable(str(scope[key])) for key in ("method", "path", "channel") if key in scope]
    client = scope.get("client")
    if client:
        words.append(f"of {_printable(str(client[0]))}:{client[1]}")
    return " ".join(words)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


class AppActor(Actor[Message]):
    """An actor whose life is one call of an ASGI application, for one scope.

    After a crash it may be one call more; see `restarts_in_place`.
    """

    __slots__ = ("app", "mailbox", "scope")

    def __init__(self, app: App, scope: Scope, mailbox: Mailbox) -> None:
        self.app = app
        self.scope = scope
        self.mailbox = mailbox

    def __str__(self) -> str:
        return describe(self.scope)

    async def run(self, ctx: Context) -> None:  # noqa: ARG002 - an application knows no actors
        """Call the application; its end is the actor's end."""
        restarts = restarts_of(self.app)
        task = trio.lowlevel.current_task()
        try:
            if restarts is None:
                await self.app(self.scope, self.receive, self.send)
            else:
                await self._run_in_place(restarts)
        except BaseException as error:
            # Who closes the coroutine, as the garbage collector does, is not its own task.
            runs = trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() is task
            crash = instead_of_exit(error) if runs else None
            if crash is None:
                raise
            try:
                raise crash from error
            finally:
                del crash  # its traceback holds this frame: no reference cycle

    async def _run_in_place(self, restarts: ScopeRestarts) -> None:
        """Call an application that `restarts_in_place`, and after a crash call it again."""
        scope = self.scope
        extensions: dict[str, Any] = {}
        try:
            while True:
                try:
                    await self.app(scope, self.receive, self.send)
                    return
                except Exception as error:
                    stopping = trio.current_effective_deadline() == -inf
                    possible = self.restartable and not stopping
                    restart = restarts.after(error, trio.current_time(), possible=possible)
                    if restart is None:
                        raise
                    logger.warning(
                        "the application failed in %s and is called again (restart %d)",
                        self,
                        restart.count,
                        exc_info=error,
                    )
                # A dict of our own: a server may give the same one to all its scopes.
                extensions = {**(scope.get("extensions") or {}), EXTENSION: restart}
                scope["extensions"] = extensions
                del restart
                self.mailbox.wake = None  # who waited in the call that failed has ended with it
                await trio.lowlevel.checkpoint()
        finally:
            extensions.pop(EXTENSION, None)  # its traceback leads back here: a reference cycle

    @property
    def restartable(self) -> bool:
        """Whether an application that fails now could go on in place.

        Its client is connected, expects more than one answer, and was not told of an end.
        """
        return False

    # Not the actor's handler of messages, which an actor with a `run` of its own has none of.
    @abstractmethod
    async def receive(self) -> Message:  # type: ignore[override]
        """Wait for the next event, as ASGI's `receive`."""

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Hand on one message of the application, as ASGI's `send`."""

    @abstractmethod
    def ended(self, reason: ExitReason) -> None:
        """Learn of the application's end, and tell whom it concerns."""


class ScopeActor(AppActor):
    """A scope that this server serves, between its events and its `send`.

    `receive` and `send` are handed to the application, awaited under trio. The methods
    `send_nowait`, `wake_writer_with` and `read_ready` are the same without the waiting,
    for bridges that wait in another way; they belong to the trio thread. `budget` is what
    the application may still send and receive before others get a turn: 64 messages, of
    which each 4 KiB sent count as one more.
    """

    __slots__ = ("budget",)

    def __init__(self, app: App, scope: Scope) -> None:
        super().__init__(app, scope, open_mailbox())
        self.budget = BUDGET

    async def receive(self) -> Message:  # type: ignore[override]
        """Wait for the next event of the server, as ASGI's `receive`."""
        mailbox = self.mailbox
        while not mailbox.depth(EVENTS):
            self.budget = BUDGET
            self.read_ready()
            if not mailbox.depth(EVENTS):
                await mailbox.wait()
        self.budget -= 1
        if self.budget <= 0:
            await self._let_others_run()
        message: Message = mailbox.get_nowait_from(EVENTS)
        return message

    async def send(self, message: Message) -> None:
        """Hand one message of the application to the client, as ASGI's `send`.

        Waits while more is on the way to the client than the transport holds.
        """
        if not self.send_nowait(message):
            self.budget = BUDGET
            while self.congested:
                await self._wait_writable()
            return
        self.budget -= 1
        if self.budget <= 0:
            await self._let_others_run()

    async def _wait_writable(self) -> None:
        task = trio.lowlevel.current_task()
        waiting = True

        def wake() -> None:
            if waiting:
                trio.lowlevel.reschedule(task)

        def give_up(_raise_cancel: Callable[[], object]) -> trio.lowlevel.Abort:
            nonlocal waiting
            waiting = False
            return trio.lowlevel.Abort.SUCCEEDED

        self.wake_writer_with(wake)
        await trio.lowlevel.wait_task_rescheduled(give_up)

    async def _let_others_run(self) -> None:
        self.budget = BUDGET
        await trio.lowlevel.checkpoint()

    def read_ready(self) -> None:
        """Learn that the application waits for an event and none is there.

        A scope that had stopped reading its socket reads again, and one that can say
        at once what comes next puts it into the mailbox.
        """

    @property
    @abstractmethod
    def congested(self) -> bool:
        """Whether a sender should wait for the client to read."""

    @abstractmethod
    def send_nowait(self, message: Message) -> bool:
        """Hand on one message; False asks the sender to wait until no longer congested.

        Raises:
            LocalProtocolError: the message breaks a rule of ASGI, named in the text.
            ClientDisconnected: the client has gone.
        """

    @abstractmethod
    def wake_writer_with(self, wake: Callable[[], object]) -> None:
        """Call `wake` once when the client has read enough, or has gone."""


SCOPE_SPEC: Final = ChildSpec(
    id="scope",
    factory=lambda actor: actor,  # made by the connection, which keeps it
    restart=Restart.TEMPORARY,
)


def scope_ended(_ref: ActorRef[Any], actor: Actor[Any], reason: ExitReason) -> None:
    """Log a scope's crash, once, and let it say goodbye to its client.

    For `open_dynamic_supervisor(on_exit=...)` of a supervisor of scopes.
    """
    assert isinstance(actor, AppActor)
    if isinstance(reason, Crash) and not isinstance(reason.error, ClientDisconnected):
        logger.error("the application failed in %s", actor, exc_info=reason.error)
    actor.ended(reason)


@final
class Conversation(AppActor):
    """One scope of a protocol that this package does not serve itself; see `open_scopes`."""

    def __init__(self, app: App, scope: Scope, send: Send) -> None:
        super().__init__(app, scope, Mailbox(_BOUNDED_EVENTS_LANE, _MESSAGES_LANE))
        self.ref: ActorRef[Message]
        self._send = send

    async def receive(self) -> Message:  # type: ignore[override]
        """Wait for the next event, as ASGI's `receive`."""
        while not self.mailbox.depth(EVENTS):
            await self.mailbox.wait()
        message: Message = self.mailbox.get_nowait_from(EVENTS)
        return message

    async def send(self, message: Message) -> None:
        """Hand one message of the application to the server's own `send`.

        Raises:
            LocalProtocolError: the message is no dict with a str `type`.
        """
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise LocalProtocolError(f"send() takes a dict with a str 'type', not {message!r}")
        await self._send(message)

    @property
    def restartable(self) -> bool:
        """Whether an application that fails now could go on in place: not in ASGI's own scopes.

        How far those have come is known to the server alone.
        """
        return self.scope["type"] not in ANSWERED_ONCE | {"websocket"}

    def put(self, event: Message) -> Delivery:
        """Hand one event to the application, unless 64 wait there already."""
        return self.mailbox.put(event, EVENTS)

    async def feed(self, event: Message) -> Delivery:
        """Hand one event to the application once it has room; the result says if it lives.

        A server that reads its next line only after `feed` slows its client down to
        the application's own speed.
        """
        return await self.mailbox.feed(event, EVENTS)

    def stop(self) -> None:
        """Cancel the application."""
        self.ref.stop()

    async def join(self) -> ExitReason:
        """Wait for the application's end, and tell how it came."""
        return await self.ref.join()

    def ended(self, _reason: ExitReason) -> None:
        """Take no more events."""
        self.mailbox.close()


@final
class Scopes:
    """Scopes of one application, each a supervised actor; made by `open_scopes`."""

    def __init__(self, app: App, supervisor: DynamicSupervisor) -> None:
        self._app = app
        self._supervisor = supervisor

    def open(self, scope: Scope, send: Send) -> Conversation:
        """Start the application for `scope`, at once; `send` gets what it sends.

        `scope` needs a str `type`; `asgi`, with the version, is added where it is missing.
        What the application raises is logged and ends this scope alone.

        Raises:
            ValueError: `scope` has no str `type`.
        """
        if not isinstance(scope.get("type"), str):
            raise ValueError(  # noqa: TRY004 - what is wrong is the scope, not its Python type
                f"a scope needs a str 'type', this one has only {sorted(scope)}"
            )
        scope.setdefault("asgi", {"version": "3.0", "spec_version": "2.5"})
        conversation = Conversation(self._app, scope, send)
        conversation.ref = self._supervisor.start_child(SCOPE_SPEC, conversation)
        return conversation

    def __len__(self) -> int:
        return len(self._supervisor)


@asynccontextmanager
async def open_scopes(app: App) -> AsyncIterator[Scopes]:
    """Serve scopes of a protocol of your own: the server's part is to read and write.

    `app` is awaited in trio tasks; `greenroom.bridges.asyncio.hosted` makes one of any
    application written for asyncio. At the end of the block the running ones are
    cancelled.
    """
    async with open_dynamic_supervisor(on_exit=scope_ended) as supervisor:
        yield Scopes(app, supervisor)
