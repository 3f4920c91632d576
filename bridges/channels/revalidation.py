"""Open sockets that notice when their user has logged out, changed the password, or is gone.

```python
application = ProtocolTypeRouter({
    "websocket": AuthMiddlewareStack(RevalidationMiddleware(URLRouter(routes), every=60)),
})
```

A socket is closed with the code 4401 soon after a logout from its session: in this process
at once, in others by way of the channel layer, if one is configured. Whatever else ends what
the user may do (a new password, a session that was deleted or has expired, an account that
was disabled) is found by looking it up every so often. A client that reconnects is then
whoever its cookie says.

Channels leaves this to each consumer: see its documentation of `get_user`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import closing, nullcontext
from functools import partial
from typing import Any, ClassVar, Final, final

import outcome
import trio
from django.contrib.auth import SESSION_KEY

from ...runtime import App, Message, Receive, Scope, Send, describe
from ...runtime.flavours import Flavour
from ...runtime.layers import InMemoryChannelLayer, Waiter
from ..asyncio import call_app
from . import DEFAULT_CHANNEL_LAYER
from ._both_worlds import current_time, wait_until
from ._ended_sessions import add_listener, group_of, listen_for_logouts, remove_listener
from ._layers_of_others import itself, layer_for_here
from ._outages import Outage, outage_of, receive_lastingly
from .auth import load_user
from .db import database_sync_to_async
from .layers import get_channel_layer
from .middleware import BaseMiddleware

__all__ = ["RevalidationMiddleware"]

logger = logging.getLogger("greenroom.channels")

EVERY: Final = 60.0
CODE: Final = 4401  # of the range for applications, after HTTP's 401
REASON: Final = "logged out"


class RevalidationMiddleware(BaseMiddleware):
    """Close a WebSocket when the user of its session is not logged in any more.

    Needs `AuthMiddleware` outside. Sockets of nobody, and of users who are not known by
    Django's session, are left alone. A consumer that calls `logout(scope)` itself keeps
    its socket; other sockets of the session are closed.

    Each socket costs one more task, and one look into the database per interval; with a
    channel layer that reaches other processes also one more channel.

    Args:
        inner: the application.
        every: seconds between two looks, more than 0.
        code: with which the socket is closed, 3000 to 4999.
        channel_layer_alias: of the layer by which other processes tell of logouts;
            None if they shall not.

    Raises:
        ValueError: `every` or `code` is out of its range.
    """

    greenroom_flavour: ClassVar[Flavour] = "both"

    def __init__(
        self,
        inner: App,
        *,
        every: float = EVERY,
        code: int = CODE,
        channel_layer_alias: str | None = DEFAULT_CHANNEL_LAYER,
    ) -> None:
        if not every > 0:
            raise ValueError(f"every must be more than 0 seconds, it is {every!r}")
        if not 3000 <= code <= 4999:
            raise ValueError(f"code must be from 3000 to 4999, it is {code!r}")
        super().__init__(inner)
        self.every = every
        self.code = code
        self.channel_layer_alias = channel_layer_alias
        listen_for_logouts(channel_layer_alias)

    async def is_valid(self, scope: Scope) -> bool:
        """Tell whether the session's user is still logged in; override it to ask for more."""
        return await database_sync_to_async(_is_logged_in)(scope["session"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass a WebSocket on, and watch its session meanwhile.

        Raises:
            ValueError: the scope has no session.
        """
        scope = dict(scope)
        if scope["type"] != "websocket":
            return await call_app(self.inner, scope, receive, send)
        if "session" not in scope:
            raise ValueError(
                "RevalidationMiddleware cannot find session in scope. AuthMiddleware must be "
                "above it."
            )
        if await database_sync_to_async(_user_id)(scope["session"]) is None:
            return await call_app(self.inner, scope, receive, send)
        socket = _Socket(send)
        watch = _Watch(self, scope, socket)
        return await _beside(watch.run, partial(call_app, self.inner, scope, receive, socket.send))


def _user_id(session: Any) -> str | None:
    """Give the user's id as the session has it, which was loaded when the user was."""
    user_id: str | None = session.get(SESSION_KEY)
    return user_id


def _is_logged_in(session: Any) -> bool:
    user_id, key = _user_id(session), session.session_key
    if user_id is None or key is None:
        # Without a key it was emptied, or a consumer has logged somebody in and not saved it.
        return user_id is not None
    stored = session.__class__(key)
    return load_user(stored).is_authenticated and _user_id(stored) == user_id


@final
class _Socket:
    """What is sent to a client, until it is closed because of its session."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._over = False

    async def send(self, message: Message) -> None:
        """Send a message of the application, unless nobody would read it."""
        if self._over:
            return
        if message["type"] == "websocket.close":
            self._over = True
        await self._send(message)

    async def close(self, code: int) -> None:
        """Close it, in place of the application."""
        if self._over:
            return
        self._over = True
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": REASON})
        except Exception:
            # Whatever a server raises after the client has left.
            logger.debug("a socket was closed already", exc_info=True)


@final
class _Watch:
    """Watches the session of one socket."""

    def __init__(self, middleware: RevalidationMiddleware, scope: Scope, socket: _Socket) -> None:
        self._middleware = middleware
        self._scope = scope
        self._session = scope["session"]
        self._socket = socket
        self._key: str | None = None  # the one whose end is told
        self._ended = False
        self._by_itself = False
        self._waiter: Waiter | None = None

    async def run(self) -> None:
        """Watch to the end of the session, and of the socket then."""
        try:
            layer = self._layer()
            if layer is None:
                await self._look_again_and_again()
            else:
                await _beside(partial(self._hear, layer), self._look_again_and_again)
        finally:
            self._listen(None)

    def _layer(self) -> Any:
        """Give the layer by which other processes tell of logouts, if there is one."""
        alias = self._middleware.channel_layer_alias
        layer = None if alias is None else itself(get_channel_layer(alias))
        if not hasattr(layer, "group_add") or isinstance(layer, InMemoryChannelLayer):
            return None  # an in-memory layer leads to no other process
        return layer

    async def _look_again_and_again(self) -> None:
        while not self._by_itself:
            self._waiter = Waiter()
            self._listen(self._session.session_key)
            if not self._ended:
                await wait_until(self._waiter, current_time() + self._middleware.every)
            if not self._by_itself and (self._ended or not await self._is_valid()):
                logger.info("closed, since its user has logged out: %s", describe(self._scope))
                await self._socket.close(self._middleware.code)
                return

    async def _is_valid(self) -> bool:
        try:
            return await self._middleware.is_valid(self._scope)
        except Exception:
            # Such as a database that restarts: nobody is logged out by that.
            logger.exception("could not look up the user of %s", describe(self._scope))
            return True

    def _listen(self, key: str | None) -> None:
        old, self._key = self._key, key
        if key != old:
            if key is not None:
                add_listener(key, self.end)
            if old is not None:
                remove_listener(old, self.end)

    def end(self, by: object) -> None:
        """Learn, in whatever thread, that the session has ended."""
        if by is not None and by is self._session:
            self._by_itself = True
        self._ended = True
        if self._waiter is not None:
            self._waiter.wake()

    async def _hear(self, layer: Any) -> None:
        """Learn of the session's end from other processes."""
        key: str | None = self._session.session_key
        if key is None:
            return
        try:
            await self._receive(layer_for_here(layer), group_of(key), outage_of(layer))
        except Exception:
            logger.exception("no logout in another process will be heard of by a socket")

    async def _receive(self, layer: Any, group: str, outage: Outage) -> None:
        channel = await layer.new_channel()

        async def ask() -> Message:
            # Each time: a server that has restarted may have forgotten who is in its groups.
            await layer.group_add(group, channel)
            message: Message = await layer.receive(channel)
            return message

        try:
            with closing(outage.follow(channel)):
                await receive_lastingly(ask, channel, outage)
        finally:
            with trio.CancelScope(shield=True) if trio.lowlevel.in_trio_task() else nullcontext():
                await layer.group_discard(group, channel)
        self.end(None)


async def _beside(
    watch: Callable[[], Awaitable[object]], fn: Callable[[], Awaitable[object]]
) -> object:
    """Await `fn()`, and `watch()` beside it, which is cancelled at the end."""
    if trio.lowlevel.in_trio_task():
        result: outcome.Outcome[object] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                result = outcome.Value(await fn())
            except Exception as error:  # noqa: BLE001 -- raised outside, not in a group
                result = outcome.Error(error)
            nursery.cancel_scope.cancel()
        assert result is not None
        return result.unwrap()
    task = asyncio.ensure_future(watch())
    try:
        return await fn()
    finally:
        task.cancel()
        await asyncio.wait([task])
