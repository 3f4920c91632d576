"""A server for ASGI applications: sockets in front, one supervised actor per scope behind.

```
 listener ─> Connection ─> mailbox ─> scope actor ─> application
 socket  <─────────────── send <──────────────────────┘
```

`serve` runs until it is stopped, and stops within one deadline: no new connection, close
frames for WebSockets, answers finished; what is left then is cancelled and named.
"""

import errno
import logging
import select
import signal
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

import trio

from ..actors import Actor, ActorRef, ExitReason, open_dynamic_supervisor
from . import _pump
from ._connection import Connection
from ._pump import Pump
from ._site import ServerConfig, Site
from ._stream import StreamTransport
from ._transport import SocketTransport
from ._types import Address, App
from .lifespan import LifespanFailed, open_lifespan
from .listeners import describe as describe_listener
from .scopes import ScopeActor, scope_ended

ACCEPTS_PER_TURN: Final = 64  # connections accepted before those already here get a turn
TICK: Final = 1.0  # seconds between looks at who has waited too long
APPLICATION_SHARE: Final = 0.8  # of the graceful timeout; the rest is for lifespan's shutdown
NAMED: Final = 20  # of the scopes that a stop had to cancel, how many the log names
OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

logger = logging.getLogger("greenroom.server")


class StoppedAtStart(Exception):
    """Raised by `serve` when a signal came before the application had started up."""

    def __str__(self) -> str:
        return "stopped before the application had started up"


@final
class _Stop:
    """How far a stop has gone; it may be asked for before there is a server."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.urged = trio.Event()
        self.started = False
        self.waiting = trio.CancelScope()  # for scopes and clients to end
        self.whole = trio.CancelScope()  # all of `serve`, from its start-up to its shutdown

    def ask(self) -> None:
        if not self.started:
            self.whole.cancel()
        elif self.asked.is_set():
            self.urged.set()
            self.waiting.cancel()
            # The application may still say goodbye, in the time of a breath.
            self.whole.deadline = min(self.whole.deadline, trio.current_time() + TICK)
        self.asked.set()


@final
class Server:
    """A running server, as `serve` hands it to who started it."""

    def __init__(self, site: Site, addresses: Sequence[str], stop: _Stop) -> None:
        self._site = site
        self._stop = stop
        self._changed = trio.Event()
        self.addresses = addresses

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._site.connections)

    @property
    def scopes(self) -> int:
        """How many scopes are running now."""
        return len(self._site.running)

    def running(self) -> list[str]:
        """Tell which scopes are running now, in words; callable from any thread."""
        return [str(scope) for scope in list(self._site.running)]

    async def wait_stopping(self) -> None:
        """Wait until somebody asks the server to stop."""
        await self._stop.asked.wait()

    async def wait_urged(self) -> None:
        """Wait until somebody asks a second time."""
        await self._stop.urged.wait()

    def stop(self) -> None:
        """Stop gracefully; asked a second time, stop waiting for anybody."""
        self._stop.ask()

    async def serve_stream(
        self, stream: trio.abc.Stream, client: Address = None, server: Address = None
    ) -> None:
        """Serve one connection over any trio stream, until it ends; then close the stream.

        Args:
            stream: such as a `trio.SSLStream`, or one half of a `trio.testing.memory_stream_pair`.
            client: host and port of the peer, for the scopes.
            server: host and port of this end, for the scopes.
        """
        transport = StreamTransport(stream)
        secure = isinstance(stream, trio.SSLStream)
        await transport.run(Connection(self._site, transport, client, server, secure=secure))

    def _notice(self) -> None:
        """Let `_drain` look again."""
        self._changed.set()

    async def _drain(self) -> None:
        """Ask everybody to come to an end, and wait for them within the deadline."""
        site = self._site
        config = site.config
        site.stopping = True
        self._stop.whole.deadline = trio.current_time() + config.graceful_timeout
        for connection in list(site.connections):
            connection.shut_down()
        with trio.move_on_after(config.graceful_timeout * APPLICATION_SHARE), self._stop.waiting:
            while site.connections or site.running:
                self._changed = trio.Event()
                await self._changed.wait()
        if site.running:
            names = sorted(map(str, site.running))
            logger.warning(
                "%d %s cancelled, not having ended in time: %s%s",
                len(names),
                "scope is" if len(names) == 1 else "scopes are",
                ", ".join(names[:NAMED]),
                ", ..." if len(names) > NAMED else "",
            )


async def serve(
    app: App,
    *,
    listeners: Sequence[socket.socket],
    config: ServerConfig | None = None,
    ssl_context: ssl.SSLContext | None = None,
    signals: Iterable[signal.Signals] = (),
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app`, awaited in trio tasks, until stopped or cancelled.

    An application for asyncio needs a hosted loop around it; `greenroom.bridges.asyncio`
    has a `serve` of its own for those.

    Args:
        app: an ASGI 3 application.
        listeners: listening sockets, as `greenroom.runtime.listeners` opens them; they
            are closed at the end. None at all is fine with `Server.serve_stream`.
        config: timeouts and limits.
        ssl_context: serve TLS.
        signals: ask for a graceful stop; the second one cuts it short. Only the main
            thread may receive signals.
        task_status: gets the `Server` once connections are served.

    Raises:
        LifespanFailed: the application refused to start, or failed while it did.
        StoppedAtStart: a signal came before it had started.
    """
    config = config or ServerConfig()
    state: dict[str, Any] = {}
    stop = _Stop()
    failure: LifespanFailed | None = None
    try:
        async with trio.open_nursery() as nursery:
            if signals:
                await nursery.start(_obey, stop, tuple(signals))
            try:
                with stop.whole:
                    async with open_lifespan(app, state, mode=config.lifespan):
                        await _serve_started(
                            app, listeners, config, ssl_context, state, stop, task_status
                        )
            except LifespanFailed as error:  # carried past the nursery, which would wrap it
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.close()
    if failure is not None:
        raise failure
    if not stop.started:
        raise StoppedAtStart
    if stop.whole.cancelled_caught:
        logger.warning("the application's lifespan did not end in time, and was cancelled")


async def _serve_started(
    app: App,
    listeners: Sequence[socket.socket],
    config: ServerConfig,
    ssl_context: ssl.SSLContext | None,
    state: dict[str, Any],
    stop: _Stop,
    task_status: trio.TaskStatus[Server],
) -> None:
    def on_exit(ref: ActorRef[Any], actor: Actor[Any], reason: ExitReason) -> None:
        assert isinstance(actor, ScopeActor)
        site.ended(actor)
        scope_ended(ref, actor, reason)
        server._notice()

    async with trio.open_nursery() as outer:
        nursery: trio.Nursery = await outer.start(_open_shielded_nursery)
        try:
            async with open_dynamic_supervisor(on_exit=on_exit) as supervisor:
                site = Site(app, config, state, supervisor)
                secure = ssl_context is not None
                addresses = [describe_listener(each, secure=secure) for each in listeners]
                server = Server(site, addresses, stop)
                accepting = _start_accepting(site, server, listeners, ssl_context, nursery)
                nursery.start_soon(_tick, site, server)
                stop.started = True
                task_status.started(server)
                try:
                    await stop.asked.wait()
                    accepting()
                    await server._drain()
                finally:
                    for connection in list(site.connections):
                        connection.shut_down()
        finally:
            for connection in list(site.connections):
                connection.transport.abort()
            nursery.cancel_scope.cancel()


async def _open_shielded_nursery(task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Run what carries bytes: it must work until the last close frame has left."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery)
        await trio.sleep_forever()


async def _tick(site: Site, server: Server) -> None:
    while True:
        await trio.sleep(TICK)
        site.tick()
        site.check()
        for connection in list(site.connections):
            connection.check(site.now)
        server._notice()


async def _obey(
    stop: _Stop, signals: tuple[signal.Signals, ...], task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(*signals) as received:
        task_status.started()
        async for number in received:
            logger.info("stopping: %s", signal.Signals(number).name)
            stop.ask()


def _start_accepting(
    site: Site,
    server: Server,
    listeners: Sequence[socket.socket],
    ssl_context: ssl.SSLContext | None,
    nursery: trio.Nursery,
) -> Callable[[], None]:
    """Accept connections from now on; the result ends that."""
    if _pump.AVAILABLE and ssl_context is None:
        pump = Pump()
        nursery.start_soon(pump.run)
        acceptors = [_Acceptor(site, pump, listener, nursery) for listener in listeners]

        def stop_accepting() -> None:
            for acceptor in acceptors:
                acceptor.close()

        return stop_accepting
    scope = trio.CancelScope()
    for listener in listeners:
        nursery.start_soon(_accept_streams, server, listener, ssl_context, scope, nursery)
    return scope.cancel


@final
class _Acceptor:
    """Accepts on one listening socket that the pump watches."""

    def __init__(
        self, site: Site, pump: Pump, listener: socket.socket, nursery: trio.Nursery
    ) -> None:
        self._site = site
        self._nursery = nursery
        self._closed = False
        self._pump = pump
        self._listener = listener
        self._server = _address(listener, listener.getsockname())
        listener.setblocking(False)
        pump.register(listener.fileno(), select.EPOLLIN, self._on_events)

    def _on_events(self, _events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES:
                    logger.warning("can't accept a connection now: %s", error)
                    self._pump.modify(self._listener.fileno(), 0)
                    self._nursery.start_soon(self._resume)
                return  # otherwise the peer left before we came
            self._open(sock, peer)

    def _open(self, sock: socket.socket, peer: Any) -> None:
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            # Small messages leave at once; what belongs together is written together.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = SocketTransport(self._pump, sock)
        transport.start(Connection(self._site, transport, _address(sock, peer), self._server))

    async def _resume(self) -> None:
        await trio.sleep(TICK)
        if not self._closed:
            self._pump.modify(self._listener.fileno(), select.EPOLLIN)

    def close(self) -> None:
        self._closed = True
        self._pump.unregister(self._listener.fileno())
        self._listener.close()


async def _accept_streams(
    server: Server,
    listener: socket.socket,
    ssl_context: ssl.SSLContext | None,
    scope: trio.CancelScope,
    nursery: trio.Nursery,
) -> None:
    address = _address(listener, listener.getsockname())
    listener.setblocking(False)
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    with scope:
        while True:
            try:
                stream = await accepting.accept()
            except OSError as error:
                if error.errno not in OUT_OF_RESOURCES:
                    raise
                logger.warning("can't accept a connection now: %s", error)
                await trio.sleep(TICK)
                continue
            nursery.start_soon(_serve_accepted, server, stream, ssl_context, address)
    listener.close()


async def _serve_accepted(
    server: Server,
    stream: trio.SocketStream,
    ssl_context: ssl.SSLContext | None,
    address: Address,
) -> None:
    try:
        client = _address(stream.socket, stream.socket.getpeername())
    except OSError:  # it has left already
        await trio.aclose_forcefully(stream)
        return
    if ssl_context is None:
        await server.serve_stream(stream, client, address)
        return
    secured = trio.SSLStream(stream, ssl_context, server_side=True)
    try:
        with trio.fail_after(server._site.config.head_timeout):
            await secured.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
        logger.debug("no TLS with %s: %s", client, error)
        await trio.aclose_forcefully(secured)
        return
    await server.serve_stream(secured, client, address)


def _address(sock: Any, name: Any) -> Address:
    """Give host and port as ASGI wants them; a Unix socket has a path and no port."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        return (name, None) if name else None
    return (name[0], name[1])
