"""Tests of sockets that notice that their user is not logged in any more, in virtual time."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from channels_redis.core import RedisChannelLayer
from django.contrib.auth import logout as django_logout
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from tests.bridges.channels.restarting import Restarting
from tests.bridges.channels.serving import open_websocket, query, served
from tests.bridges.channels.test_auth import session_of
from tests.runtime.serving import close_code
from trio_websocket import ConnectionClosed

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels import _ended_sessions as ended_sessions
from greenroom.bridges.channels.auth import AuthMiddlewareStack, login, logout
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.layers import channel_layers
from greenroom.bridges.channels.revalidation import RevalidationMiddleware

CLOSED = {"type": "websocket.close", "code": 4401, "reason": "logged out"}


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        if text_data == "logout":
            await logout(self.scope)
        elif text_data is not None and text_data.startswith("login "):
            user = await User.objects.aget(username=text_data.removeprefix("login "))
            await login(self.scope, user)
            if text_data != "login bob":
                await self.scope["session"].asave()
        await self.send(text_data)


class SyncEcho(WebsocketConsumer):
    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        self.send(text_data)


class Client:
    """A WebSocket, as an application's server has it: on trio."""

    def __init__(self, app: Any, session: Any) -> None:
        self._app = app
        cookie = f"sessionid={session.session_key}".encode()
        self._scope = {"type": "websocket", "path": "/", "headers": [(b"cookie", cookie)]}
        self._put, self._inbox = trio.open_memory_channel[Any](100)
        self._sent, self._get = trio.open_memory_channel[Any](100)
        self._over = trio.Event()

    async def run(self, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        self._put.send_nowait({"type": "websocket.connect"})
        self._started = task_status
        await self._app(self._scope, self._inbox.receive, self.send)
        self._over.set()

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.accept":
            self._started.started(self)
            return
        self._sent.send_nowait(message)
        if message["type"] == "websocket.close":
            self._put.send_nowait({"type": "websocket.disconnect", "code": message["code"]})

    async def say(self, text: str) -> Any:
        self._put.send_nowait({"type": "websocket.receive", "text": text})
        return await self._get.receive()

    async def end(self) -> Any:
        """Wait for the close, and for the end of the application."""
        message = await self._get.receive()
        await self._over.wait()
        return message

    async def is_open(self) -> bool:
        return bool((await self.say("still there?"))["text"] == "still there?")


def watched(inner: Any, **options: Any) -> Any:
    return AuthMiddlewareStack(RevalidationMiddleware(inner, **options))


@pytest.fixture
async def ada(database: None) -> Any:
    return await query(lambda: User.objects.create_user("ada"))


@pytest.fixture
async def bob(database: None) -> Any:
    return await query(lambda: User.objects.create_user("bob"))


@pytest.fixture
async def session(ada: Any) -> Any:
    return await query(session_of, ada)


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect(session: Any, nursery: trio.Nursery) -> AsyncIterator[Connect]:
    async with open_hosted_loop():

        async def connect(app: Any, session: Any = session) -> Client:
            client: Client = await nursery.start(Client(app, session).run)
            return client

        yield connect
        nursery.cancel_scope.cancel()


def log_out(session: Any) -> None:
    """Do what a view does in which somebody logs out."""
    request = HttpRequest()
    request.session = SessionStore(session.session_key)
    request.user = User.objects.get(pk=request.session["_auth_user_id"])
    django_logout(request)


@pytest.mark.parametrize("consumer", [Echo, SyncEcho])
async def test_logout_closes_all_sockets_of_the_session_at_once_and_no_other(
    connect: Connect, session: Any, ada: Any, consumer: Any
) -> None:
    app = watched(consumer.as_asgi())
    elsewhere = await connect(app, await query(session_of, ada))
    sockets = [await connect(app) for _ in range(2)]
    await query(log_out, session)
    for socket in sockets:
        assert await socket.end() == CLOSED
    assert await elsewhere.is_open()


def change_password(session: Any) -> None:
    user = User.objects.get()
    user.set_password("new")
    user.save()


def disable(session: Any) -> None:
    User.objects.update(is_active=False)


def delete_user(session: Any) -> None:
    User.objects.all().delete()


def delete_session(session: Any) -> None:
    SessionStore().delete(session.session_key)


def become_another(session: Any) -> None:
    stored = SessionStore(session.session_key)
    stored.update(session_of(User.objects.create_user("eve")).items())
    stored.save()


@pytest.mark.parametrize(
    "change", [change_password, disable, delete_user, delete_session, become_another]
)
async def test_what_else_ends_a_login_is_found_within_the_interval(
    connect: Connect, session: Any, mock_clock: trio.testing.MockClock, change: Any
) -> None:
    socket = await connect(watched(Echo.as_asgi(), every=60, code=4000))
    await query(change, session)
    mock_clock.jump(59)
    assert await socket.is_open()
    mock_clock.jump(2)
    assert await socket.end() == {**CLOSED, "code": 4000}


async def test_who_stays_logged_in_stays_connected(
    connect: Connect, mock_clock: trio.testing.MockClock
) -> None:
    looks = trio.open_memory_channel[bool](10)

    class Counts(RevalidationMiddleware):
        greenroom_flavour = "both"

        async def is_valid(self, scope: Any) -> bool:
            valid = await super().is_valid(scope)
            looks[0].send_nowait(valid)
            return valid

    socket = await connect(AuthMiddlewareStack(Counts(Echo.as_asgi(), every=10)))
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10)
        assert await looks[1].receive() is True
    assert await socket.is_open()


async def test_consumer_that_logs_its_user_out_keeps_its_own_socket(
    connect: Connect, mock_clock: trio.testing.MockClock
) -> None:
    app = watched(Echo.as_asgi())
    mine, other = await connect(app), await connect(app)
    assert (await mine.say("logout"))["text"] == "logout"
    assert await other.end() == CLOSED
    mock_clock.jump(1000)
    assert await mine.is_open()


@pytest.mark.parametrize("name", ["ada", "bob", "cyd"])
async def test_consumer_that_logs_somebody_in_is_watched_as_that_user(
    connect: Connect, mock_clock: trio.testing.MockClock, bob: Any, name: str
) -> None:
    await query(lambda: User.objects.create_user("cyd"))
    socket = await connect(watched(Echo.as_asgi()))
    await socket.say(f"login {name}")  # it leaves bob's session unsaved
    for _ in range(2):
        await trio.testing.wait_all_tasks_blocked(0.05)
        mock_clock.jump(61)
        assert await socket.is_open()
    await query(lambda: User.objects.all().delete())
    await trio.testing.wait_all_tasks_blocked(0.05)
    mock_clock.jump(61)
    if name == "bob":
        assert await socket.is_open()
    else:
        assert await socket.end() == CLOSED


async def test_sockets_of_nobody_are_left_alone(
    connect: Connect, mock_clock: trio.testing.MockClock
) -> None:
    app = watched(Echo.as_asgi())
    cart = SessionStore()
    cart["cart"] = 1
    await query(cart.save)
    sockets = [await connect(app, each) for each in (cart, SessionStore("no-such-key"))]
    assert ended_sessions._listeners == {}
    await query(lambda: cart.delete())
    mock_clock.jump(1000)
    for socket in sockets:
        assert await socket.is_open()


async def test_lookup_that_fails_logs_nobody_out(
    connect: Connect, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    asked = trio.open_memory_channel[None](10)

    class Fails(RevalidationMiddleware):
        greenroom_flavour = "trio"

        async def is_valid(self, scope: Any) -> bool:
            asked[0].send_nowait(None)
            raise OSError("no database")

    socket = await connect(AuthMiddlewareStack(Fails(Echo.as_asgi())))
    mock_clock.jump(61)
    await asked[1].receive()
    assert await socket.is_open()
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "could not look up the user of websocket /"


async def test_nothing_is_left_of_a_socket_that_is_over(connect: Connect, session: Any) -> None:
    socket = await connect(watched(Echo.as_asgi()))
    assert list(ended_sessions._listeners) == [session.session_key]
    await query(log_out, session)
    await socket.end()
    assert ended_sessions._listeners == {}


async def test_crash_of_the_application_is_raised_as_it_is(session: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("mine")

    async with open_hosted_loop():
        with pytest.raises(LookupError, match="mine"):
            await Client(watched(app), session).run()
    assert ended_sessions._listeners == {}


async def test_client_of_the_server_is_told_by_the_code_and_the_consumer_disconnects(
    session: Any,
) -> None:
    codes: list[int] = []

    class Tells(Echo):
        async def disconnect(self, code: int) -> None:
            codes.append(code)
            await self.send("too late")

    cookie = [(b"Cookie", f"sessionid={session.session_key}".encode())]
    async with (
        served(watched(Tells.as_asgi())) as address,
        open_websocket(address, "/", cookie) as websocket,
    ):
        await websocket.send_message("hello")
        assert await websocket.get_message() == "hello"
        await query(log_out, session)
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.get_message()
    assert closed.value.reason is not None
    assert (closed.value.reason.code, closed.value.reason.reason) == (4401, "logged out")
    assert codes == [4401]


def on_asyncio(app: Any, session: Any, act: Callable[[], Awaitable[object]]) -> list[Any]:
    """Serve one connection on asyncio, do something, and give what is sent until it is closed."""

    async def main() -> list[Any]:
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        sent: list[Any] = []
        accepted = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            accepted.set()
            if message["type"] == "websocket.close":
                inbox.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

        cookie = f"sessionid={session.session_key}".encode()
        scope = {"type": "websocket", "path": "/", "headers": [(b"cookie", cookie)]}
        inbox.put_nowait({"type": "websocket.connect"})
        serving = asyncio.ensure_future(app(scope, inbox.get, send))
        await accepted.wait()
        await act()
        await asyncio.wait_for(serving, 10)
        return sent

    return asyncio.run(main())


@pytest.fixture
def sync_session(database: None) -> SessionStore:
    return session_of(User.objects.create_user("ada"))


def test_natively_on_asyncio_a_logout_closes_too(sync_session: SessionStore) -> None:
    async def act() -> None:
        await asyncio.to_thread(in_thread, log_out, sync_session)

    app = watched(Echo.as_asgi(), every=1000)
    assert on_asyncio(app, sync_session, act)[1:] == [CLOSED]


def test_natively_on_asyncio_the_interval_passes_too(sync_session: SessionStore) -> None:
    async def act() -> None:
        await asyncio.to_thread(in_thread, delete_session, sync_session)

    assert on_asyncio(watched(Echo.as_asgi(), every=0.01), sync_session, act)[1:] == [CLOSED]


def in_thread(fn: Callable[[Any], None], session: Any) -> None:
    from greenroom.bridges.django.database import database_guard

    with database_guard():
        fn(session)


@pytest.fixture
async def redis(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A layer for others, that of Channels, in the place of the default one."""
    layer = RedisChannelLayer(hosts=[valkey_url])
    old = channel_layers.set("default", layer)
    yield valkey_url
    if old is not None:
        channel_layers.set("default", old)


async def test_other_processes_tell_of_logouts_by_the_layer_and_are_told(
    redis: str, session: Any
) -> None:
    group = ended_sessions.group_of(session.session_key)

    other = RedisChannelLayer(hosts=[redis])  # of another process

    async def tell() -> str:
        channel: str = await other.new_channel()
        await other.group_add(group, channel)
        members = other.connection(0)
        while await members.zcard(f"asgi:group:{group}") < 2:  # noqa: ASYNC110 -- a server's state
            await asyncio.sleep(0.005)  # until the socket is in it, too
        await other.group_send(group, ended_sessions.MESSAGE)
        assert await other.receive(channel) == ended_sessions.MESSAGE
        return channel

    cookie = [(b"Cookie", f"sessionid={session.session_key}".encode())]
    with trio.fail_after(20):
        async with (
            served(watched(Echo.as_asgi())) as address,
            open_websocket(address, "/", cookie) as websocket,
            open_hosted_loop() as loop,
        ):
            channel = await loop.run_asyncio(tell)
            code = await close_code(websocket)
            await query(log_out, session)
            assert await loop.run_asyncio(other.receive, channel) == ended_sessions.MESSAGE
    assert code == 4401


class OnALoop(Restarting):
    """A layer that asks for a running loop with each name that it lacks, as RedisPubSub does."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name, asyncio.get_running_loop())


@pytest.mark.parametrize("kind", [Restarting, OnALoop])
async def test_logout_in_another_process_is_heard_after_the_layer_was_away_and_forgot_its_groups(
    kind: type[Restarting], connect: Connect, session: Any
) -> None:
    layer = kind()
    old = channel_layers.set("default", layer)
    members = layer.groups[ended_sessions.group_of(session.session_key)]

    async def joined() -> str:
        while not any(layer.receiving[each] for each in members):  # noqa: ASYNC110 -- a server's state
            await trio.sleep(0.005)
        return min(members)

    with trio.fail_after(20):
        client = await connect(watched(Echo.as_asgi()))
        channel = await joined()
        members.clear()
        layer.interrupt()
        assert await joined() == channel
        layer.put(channel, ended_sessions.MESSAGE)
        assert await client.end() == CLOSED
    if old is not None:
        channel_layers.set("default", old)


def test_what_cannot_be_is_refused(sync_session: SessionStore) -> None:
    for wrong in ({"every": 0}, {"every": -1}, {"code": 1000}, {"code": 5000}):
        with pytest.raises(ValueError, match="it is"):
            RevalidationMiddleware(Echo.as_asgi(), **wrong)  # type: ignore[arg-type]

    async def nothing(*_: object) -> Any: ...

    with pytest.raises(ValueError, match="cannot find session in scope"):
        asyncio.run(RevalidationMiddleware(Echo.as_asgi())({"type": "websocket"}, nothing, nothing))


def test_other_protocols_are_passed_on() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def nothing(*_: object) -> Any: ...

    scope = {"type": "http"}
    asyncio.run(RevalidationMiddleware(app)(scope, nothing, nothing))
    assert seen == [scope]
    assert seen[0] is not scope
