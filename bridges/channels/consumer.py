"""What a consumer is: handlers for messages, one instance for one scope.

A message's `type` names its handler: `websocket.receive` goes to `websocket_receive`. They
come from the client and from the channel layer, and are handled one at a time. What goes on
beside them is a task of `start_soon`, which ends with the consumer.

Source: `channels.consumer` 4.3. Unlike there: no thread is visited for a message of an async
consumer; sync handlers each lease a thread, so that one slow consumer does not stop the
others; a message of the channel layer calls only handlers that the user's class defines;
and when a handler fails or the server cancels the consumer, `websocket_disconnect` is still
called, so that groups are left; when `websocket_connect` fails, groups are left and nothing
else is called. An error tells in a note in which consumer it was, and what that was about.

A class with `restart = Restart.TRANSIENT` survives that: another instance takes the place
of the one that crashed, with the same connection, groups and waiting messages. It does so
while its WebSocket is accepted and open; in a scope of a protocol of your own at any time;
with HTTP never.

Like there with daphne, and here on every server: what is sent after the client has left, or
after the consumer has closed, is ignored. Unlike there only a hundred times: then `send`
raises `ClientDisconnected`, which ends the handler, though not the consumer.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, partial, update_wrapper
from types import MappingProxyType
from typing import Any, ClassVar, Self

import trio

from ...actors import Crash, Restart
from ...runtime import CannotRestart, Message, Receive, Scope, Send
from ...runtime.flavours import Flavour, speaks
from ...runtime.layers import DONE
from ...runtime.restarting import ANSWERED_ONCE, EXTENSION, INTENSITY, PERIOD
from ...runtime.scopes import EVENTS, MESSAGES, ScopeActor
from ..asyncio import call_app
from ..threads import Lease, run_sync
from . import DEFAULT_CHANNEL_LAYER
from ._children import Child, Children, check_function, name_of, on_hosted_loop, own_tasks
from ._ends import GOODBYES, handle_all
from ._handlers import call_plain, find_handler, why_refused
from ._handlers import get_handler_name as get_handler_name
from ._incarnations import Incarnations, opts_in
from ._intake import LAST, DirectIntake, Intake, PumpedIntake, open_pumps, source_of
from ._layers_of_others import itself, layer_for_here, takes_subscriptions
from ._outages import outage_of, receive_lastingly
from ._outlet import DirectOutlet, Outlet, WrappedOutlet
from ._threads import guarding, live_pinned
from ._unheard import TURNING, Unheard
from ._words import note
from .db import aclose_old_connections as aclose_old_connections
from .db import database_sync_to_async as database_sync_to_async
from .exceptions import StopConsumer
from .layers import BaseChannelLayer, get_channel_layer
from .utils import await_many_dispatch as await_many_dispatch

__all__ = ["AsyncConsumer", "SyncConsumer", "get_handler_name"]


class AsyncConsumer:
    """A consumer whose handlers are coroutines.

    They are awaited under asyncio. A subclass whose handlers are written for trio says
    `greenroom_flavour = "trio"`.
    """

    _sync = False
    _can_restart: ClassVar[bool] = True
    channel_layer_alias: ClassVar[str] = DEFAULT_CHANNEL_LAYER
    greenroom_flavour: ClassVar[Flavour] = "asyncio"

    restart: ClassVar[Restart] = Restart.TEMPORARY
    """Whether it goes on after a handler has failed, its client still connected: TRANSIENT."""

    restart_intensity: ClassVar[float] = INTENSITY
    """Restarts of one consumer within `restart_period`; at one failure more it ends."""

    restart_period: ClassVar[float] = PERIOD
    """In seconds."""

    pinned: ClassVar[bool] = False
    """Whether one thread is kept for all its blocking calls, to its end: for thread-locals.

    Such a thread is nobody else's meanwhile, and the pool (`GREENROOM_THREADS`) keeps its
    last one for others: a consumer for which there is none fails with `NoThreadToPin`.
    """

    _thread: Lease | None = None  # the one that is pinned

    # Message type -> handler name, for types that were found to have one: two dicts a class,
    # and whichever is for the message in hand.
    _client_handlers: ClassVar[dict[str, str]] = {}
    _layer_handlers: ClassVar[dict[str, str]] = {}
    _handler_names = _client_handlers

    _told = True  # whether a goodbye that was taken has reached its handler
    _intake: Intake | None = None  # while it is served
    _children: Children | None = None

    _restarts: ClassVar[bool] = False
    _initkwargs: Mapping[str, Any] = MappingProxyType({})  # what another instance is made with

    scope: Scope
    channel_layer: BaseChannelLayer | Any
    channel_name: str
    channel_receive: Callable[[], Awaitable[Message]]
    base_send: Callable[[Message], Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._client_handlers = cls._handler_names = {}
        cls._layer_handlers = {}
        cls._restarts = opts_in(cls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the messages of one scope until a handler ends it by `StopConsumer`."""
        if EXTENSION in (scope.get("extensions") or ()):
            raise CannotRestart(
                f"an application with the mark of restarts_in_place called {type(self).__name__} "
                "again after a crash; to be restarted, a consumer's class says "
                "restart = Restart.TRANSIENT, and the mark is for other applications"
            )
        layer = itself(get_channel_layer(self.channel_layer_alias))
        flavour = self.greenroom_flavour
        if flavour == "both" and layer is not None and not takes_subscriptions(layer):
            flavour = "asyncio"  # a layer of somebody else, who wrote it for asyncio
        in_trio = trio.lowlevel.in_trio_task()
        if flavour == "both" or (flavour == "trio") == in_trio:
            if in_trio or on_hosted_loop():  # where each scope owns its tasks anyway
                await self._serve(layer, scope, receive, send)
            else:
                await own_tasks(self._serve, layer, scope, receive, send)
        else:
            serve = speaks(flavour)(partial(self._serve, layer))
            await call_app(serve, scope, receive, send)

    async def _serve(self, layer: Any, scope: Scope, receive: Receive, send: Send) -> None:
        vars(self).pop("_unheard", None)  # of the connection before, where an instance is the app
        self.scope = scope
        found, layer = layer, layer_for_here(layer)
        self.channel_layer = layer
        self.base_send = self._make_base_send(send)
        subscribe = layer.subscribe if takes_subscriptions(layer) else None
        source = source_of(receive)
        pumps: list[tuple[Callable[[], Awaitable[Message]], int]] = []
        intake: DirectIntake | PumpedIntake
        if source is not None and (layer is None or subscribe is not None):
            intake = DirectIntake(source)
        else:
            is_job = scope.get("type") == "channel"
            job = source if is_job and isinstance(source, ScopeActor) else None
            intake = PumpedIntake(self._unheard, scope, job)
            if job is None:
                pumps.append((receive, EVENTS))
        subscription = None
        try:
            if layer is not None:
                try:
                    self.channel_name = await layer.new_channel()
                except Exception as error:
                    note(error, self, "opening its channel")
                    raise
                self.channel_receive = partial(layer.receive, self.channel_name)
                if subscribe is not None:
                    subscription = subscribe(self.channel_name, intake.mailbox, MESSAGES)
                else:
                    ask, name, outage = self.channel_receive, self.channel_name, outage_of(found)
                    subscription = outage.follow(name)
                    wait = partial(receive_lastingly, ask, name, outage)
                    pumps.append((wait, MESSAGES))
            if isinstance(intake, PumpedIntake):
                async with open_pumps(intake, pumps):
                    await self._live(intake)
            else:
                await self._live(intake)
        finally:
            self._close_base_send()
            if subscription is not None:
                subscription.close()

    @cached_property
    def _unheard(self) -> Unheard:
        # Made by the first `send`; there is no scope where a test calls a method by hand.
        scope: Scope = getattr(self, "scope", {})
        return Unheard(asgi=scope.get("type") in GOODBYES)

    def _make_base_send(self, send: Send) -> Callable[[Message], Any]:
        return send

    def _close_base_send(self) -> None:
        """Let nobody send any more who can still do so."""

    def _live(self, intake: Intake) -> Awaitable[object]:
        live: Callable[[], Awaitable[object]] = partial(handle_all, self, intake)
        if self._restarts and self.scope.get("type") not in ANSWERED_ONCE:
            live = Incarnations(self, intake).run
        return live_pinned(self, live) if self.pinned is True else live()

    async def _leave_groups(self) -> None:
        """Leave the groups that the class has joined by itself."""

    def restarted(self, cause: Crash, previous: Self) -> Any:  # noqa: ARG002 -- for overriders
        """Take the place of an instance that has crashed: override it to carry state over.

        Called where `restart` is `Restart.TRANSIENT`. The connection is the same, groups
        are joined, and no `websocket_connect` comes; what waits is handled next, and the
        message in whose handling it crashed is not handled again. A failure here counts
        as another crash. It may be a coroutine function, but not in a sync consumer, where
        it runs in a leased thread.

        Args:
            cause: what ended `previous`; its `error` is the exception.
            previous: the instance that has crashed.
        """
        return DONE

    def start_soon(self, fn: Callable[..., Awaitable[object]], *args: Any) -> Child:
        """Start a task that runs `fn(*args)` beside the handlers, and ends with the consumer.

        It is cancelled and awaited after `disconnect`, whatever the reason. If it fails, so
        does the consumer, once the handler that runs has returned: it disconnects, or is
        restarted in place. The consumer's methods may be called in the task, `send` too.
        Without it, a long handler holds back all that is to be handled after it.

        Returns:
            The task, which has a `cancel()`.

        Raises:
            RuntimeError: nobody serves this consumer, or it has ended.
            TypeError: `fn` is no async function, or does not take `args`.
        """
        check_function(fn)
        if self._intake is None:
            raise RuntimeError(
                f"{name_of(fn)} can't be started: {type(self).__name__} is not being served"
            )
        if self._children is None:
            self._children = Children(self._intake.crash_with)
        return self._children.start_soon(fn, args)

    async def dispatch(self, message: Message) -> None:
        """Call the handler of `message`.

        Raises:
            ValueError: there is none.
        """
        await self._handler_of(message)(message)

    def _handler_of(self, message: Message) -> Callable[[Message], Any]:
        try:
            name = self._handler_names[message["type"]]
        except (KeyError, TypeError):
            name = ""
        # Not in the `except`, which would be told of with any error.
        handler: Callable[[Message], Any] = getattr(self, name or self._find_handler(message))
        return handler

    def _find_handler(self, message: Message) -> str:
        names = self._handler_names
        from_layer = names is self._layer_handlers
        name = find_handler(self, message, from_layer=from_layer)
        if name is None:
            if message["type"] in LAST and not from_layer:
                raise StopConsumer  # nothing follows it, and the class has nothing to clean up
            error = ValueError(f"No handler for message type {message['type']}")
            if from_layer and (why := why_refused(self, message)):
                error.add_note(why)
            raise error
        names[message["type"]] = name
        return name

    async def send(self, message: Message) -> None:
        """Send one message to the client, as ASGI's `send`.

        After the client has left, or the consumer itself has closed the connection, it is
        ignored, with a line in the debug log.

        Raises:
            ClientDisconnected: a hundred messages were ignored already.
        """
        unheard = self._unheard
        if unheard.since is not None and unheard.covers(message):
            return
        try:
            await self.base_send(message)
        except Exception as error:
            if not unheard.excuses(error, message):
                raise
        else:
            if message.get("type") in TURNING:
                unheard.sent(message)

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        """Give an ASGI application that makes an instance of this consumer for each scope.

        It may be awaited under trio and under asyncio. `initkwargs` go to the constructor.
        Typed as Any because Django's `path()` says that it takes views only.
        """

        @speaks("both")
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            consumer = cls(**initkwargs)
            if cls._restarts:
                consumer._initkwargs = initkwargs
            if cls.__call__ is AsyncConsumer.__call__:
                await consumer(scope, receive, send)  # it goes where it belongs by itself
            else:
                await call_app(consumer, scope, receive, send)

        app.consumer_class = cls  # type: ignore[attr-defined]
        app.consumer_initkwargs = initkwargs  # type: ignore[attr-defined]
        # Its name and documentation, not its attributes: those of a class are not the app's.
        return update_wrapper(app, cls, updated=())


class SyncConsumer(AsyncConsumer):
    """A consumer whose handlers are plain functions: each call runs in a leased thread."""

    _sync = True
    _told = False
    greenroom_flavour: ClassVar[Flavour] = "both"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        overridden = not {"__call__", "dispatch"}.isdisjoint(cls.__dict__)
        if overridden and "greenroom_flavour" not in cls.__dict__:
            cls.greenroom_flavour = "asyncio"  # what such code awaits is asyncio's

    def _make_base_send(self, send: Send) -> Callable[[Message], Any]:
        sink = source_of(send)
        self._outlet: Outlet = (
            DirectOutlet(sink, self._unheard)
            if isinstance(sink, ScopeActor)
            else WrappedOutlet(send, self._unheard)
        )
        return self._outlet

    def _close_base_send(self) -> None:
        self._outlet.close()

    def start_soon(self, fn: Callable[..., Awaitable[object]], *args: Any) -> Child:  # noqa: ARG002 -- refused
        """Refuse: a thread cannot be cancelled, and so it cannot end with its consumer.

        Raises:
            TypeError: always.
        """
        check_function(fn)
        raise TypeError(
            f"{name_of(fn)} can't be started: {type(self).__name__} is a sync consumer, and only "
            "an async one has tasks that end with it"
        )

    async def dispatch(self, message: Message) -> None:
        """Call the handler of `message` in a leased thread.

        Raises:
            ValueError: there is none.
            TypeError: it is a coroutine function.
        """
        await run_sync(self._handle, message, pool=self._thread, around=guarding(self, message))

    def _handle(self, message: Message) -> None:
        handler = self._handler_of(message)
        self._told = message["type"] in LAST
        call_plain(handler, message)

    def send(self, message: Message) -> None:  # type: ignore[override]  # no coroutine here
        """Send one message to the client, from a handler or from any other thread.

        After the client has left, or the consumer itself has closed the connection or has
        ended, it is ignored, with a line in the debug log.

        Raises:
            ClientDisconnected: a hundred messages were ignored already.
            RuntimeError: this is the event loop's own thread, which must not wait. Code
                there awaits `sync_to_async(consumer.send)(...)`.
        """
        self.base_send(message)
