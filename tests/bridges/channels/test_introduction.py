"""The seven programs of the Channels introduction, over real sockets."""

import sys
from http.client import HTTPConnection
from typing import Any

import pytest
import trio
import trio.testing
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
)
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from examples.telegram import bot
from tests.bridges.channels import introduction
from tests.bridges.channels.serving import open_websocket, query, refusal, say, served
from tests.django_project.models import Log

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.layers import channel_layers
from greenroom.bridges.channels.worker import serve_channels


async def test_program_1_sync_chat_welcomes_renames_and_echoes() -> None:
    async with (
        served(introduction.ChatConsumer.as_asgi()) as address,
        open_websocket(address, "/") as ada,
        open_websocket(address, "/") as bob,
    ):
        assert await ada.get_message() == "[Welcome Anonymous!]"
        assert await bob.get_message() == "[Welcome Anonymous!]"
        assert await say(ada, "/name Ada") == "[set your username to Ada]"
        assert await say(ada, "hello") == "Ada: hello"
        assert await say(bob, "hello") == "Anonymous: hello"


async def test_program_2_sync_consumer_writes_through_the_orm_in_connect(database: None) -> None:
    async with served(introduction.LogConsumer.as_asgi()) as address:
        # It neither accepts nor refuses, so the handshake stays open until we give up.
        host, port = address.split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        client = list(stream.socket.getsockname())
        with trio.fail_after(10):
            while (row := await query(Log.objects.first)) is None:
                await trio.lowlevel.checkpoint()
        await stream.aclose()
    assert (row.type, row.client) == ("connected", client)


async def test_program_3_thirty_async_consumers_sleep_side_by_side(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pongs: list[Any] = []

    async def ping(address: str) -> None:
        async with open_websocket(address, "/") as websocket:
            pongs.append(await say(websocket, "ping"))

    async with served(introduction.PingConsumer.as_asgi()) as address:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(ping, address)
        assert trio.current_time() - began == pytest.approx(1.0, abs=0.01)
    assert pongs == ["pong"] * 30


async def test_program_4_url_router_finds_the_consumer_of_each_path() -> None:
    async with served(introduction.url_router) as address:
        async with open_websocket(address, "/chat/admin/") as websocket:
            assert await say(websocket, "hi") == "admin: hi"
        async with open_websocket(address, "/chat/") as websocket:
            assert await say(websocket, "hi") == "public: hi"
        assert await refusal(address, "/elsewhere/") == (404, b"Not Found")


async def test_program_5_chatbot_and_websockets_share_one_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bot, "application", introduction.two_protocols)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with (
        served(introduction.two_protocols) as address,
        open_hosted_loop(),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(bot.serve_telegram, listeners)
        async with await trio.open_tcp_stream("127.0.0.1", port) as phone:
            await phone.send_all(b"ada\nkitchen: hello\n")
            assert await phone.receive_some() == b"kitchen: You said: hello\n"
            await phone.send_all(b"garden: is it dry?\n")
            assert await phone.receive_some() == b"garden: You said: is it dry?\n"
            await phone.send_all(b"nonsense\n")
            assert await phone.receive_some() == b"! say it as 'chat: text'\n"
            async with open_websocket(address, "/chat/") as websocket:
                assert await say(websocket, "hi") == "public: hi"
        nursery.cancel_scope.cancel()


async def test_program_6_messages_cross_between_consumers_through_named_channels() -> None:
    channels = ["event", "myproject.thumbnail_notifications"]
    async with (
        served(introduction.across) as address,
        open_hosted_loop(),
        trio.open_nursery() as nursery,
    ):
        await nursery.start(serve_channels, introduction.across, channels)
        async with (
            open_websocket(address, "/event/") as ada,
            open_websocket(address, "/event/") as bob,
        ):
            assert await say(ada, "of ada") == "event: of ada"
            assert await say(bob, "of bob") == "event: of bob"
        async with (
            open_websocket(address, "/thumbnails/") as ada,
            open_websocket(address, "/thumbnails/") as bob,
        ):
            assert await say(ada, "please") == "ready: 90902949"
            assert await bob.get_message() == "ready: 90902949"
        nursery.cancel_scope.cancel()
    assert channel_layers["default"].groups == {}


def fetch(address: str, path: str, session: str) -> tuple[int, str]:
    connection = HTTPConnection(address, timeout=10)
    connection.request("GET", path, headers={"Cookie": f"sessionid={session}"})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def log_ada_in() -> str:
    user = User.objects.create_user("ada", password="secret")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    assert session.session_key is not None
    return session.session_key


async def test_program_7_django_and_a_guarded_chat_share_one_port_and_one_session(
    database: None,
) -> None:
    session = await query(log_ada_in)
    async with served(introduction.application) as address:
        page = await trio.to_thread.run_sync(fetch, address, "/hello/", session)
        assert page == (200, "hello ada")
        cookie = [(b"cookie", f"sessionid={session}".encode())]
        ours = [(b"origin", f"http://{address}".encode())]
        async with open_websocket(
            address, "/frontend/", extra_headers=[*cookie, *ours]
        ) as websocket:
            assert await say(websocket, "hi") == "ada at end: hi"
        async with open_websocket(address, "/frontend/", extra_headers=ours) as websocket:
            assert await say(websocket, "hi") == "stranger at end: hi"
        assert (await refusal(address, "/frontend/", Origin="http://evil.example"))[0] == 403
        assert (await refusal(address, "/frontend/"))[0] == 403


async def test_telegram_example_says_where_it_listens(tmp_path: Any) -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, bot.__file__, "0", "0"], stdout=-1, cwd=tmp_path
    )
    assert process.stdout is not None
    async with process.stdout:
        try:
            with trio.fail_after(30):
                said = await process.stdout.receive_some()
            assert b"telegram at localhost:" in said
        finally:
            process.kill()
            await process.wait()
