"""`greenroom run` behind a proxy: what Django's views, consumers and the logs call the client."""

from pathlib import Path
from typing import Any

import click
import pytest
import trio
from tests.commands import Start
from tests.runtime.serving import RawClient
from trio_websocket import wrap_client_stream

from greenroom.bridges.command._options import check_usage, server_config
from greenroom.bridges.command._run import run

# A Django project in one file: a view, and a consumer that breaks at its first message.
PROJECT = """
from django.conf import settings

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="s", ALLOWED_HOSTS=["localhost"])

from greenroom.bridges.django.asgi import get_asgi_application

pages = get_asgi_application()

from django.http import HttpResponse
from django.urls import path
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer
from greenroom.bridges.channels.routing import ProtocolTypeRouter

def view(request):
    meta = request.META
    words = meta["REMOTE_ADDR"], meta["REMOTE_PORT"], request.build_absolute_uri()
    return HttpResponse(" ".join(map(str, words)))

class Consumer(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.send(f"{self.scope['client']} {self.scope['scheme']}")

    async def receive(self, text_data):
        raise RuntimeError("it breaks")

urlpatterns = [path("page", view)]
app = ProtocolTypeRouter({"http": pages, "websocket": Consumer.as_asgi()})
"""

HEADERS = [
    (b"X-Forwarded-For", b"10.9.9.9, 203.0.113.7"),
    (b"X-Forwarded-Proto", b"https"),
]


def given(*arguments: str) -> dict[str, Any]:
    return run.make_context("run", ["site:app", *arguments]).params


async def page_of(stream: trio.abc.Stream) -> str:
    lines = b"".join(b"%b: %b\r\n" % header for header in HEADERS)
    request = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines + b"\r\n"
    async with RawClient(stream) as client:
        return (await client.ask(request)).decode().partition("\r\n\r\n")[2]


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--uds", "app.sock"]])
async def test_views_consumers_and_logs_name_the_client(
    start_command: Start, app_file: Path, tmp_path: Path, arguments: list[str]
) -> None:
    app_file.write_text(PROJECT)
    command = await start_command("run", "website:app", "--proxy-headers", *arguments)
    found = await command.line(r" on (?:http://127\.0\.0\.1:(\d+)|unix:)")

    async def connect() -> trio.SocketStream:
        if found[1]:
            return await trio.open_tcp_stream("127.0.0.1", int(found[1]))
        return await trio.open_unix_socket(tmp_path / "app.sock")

    assert await page_of(await connect()) == "203.0.113.7 0 https://localhost/page"
    await command.line(r'203\.0\.113\.7:0 "GET /page HTTP/1.1" 200')
    async with await connect() as stream, trio.open_nursery() as nursery:
        websocket = await wrap_client_stream(
            nursery, stream, "localhost", "/socket", extra_headers=HEADERS
        )
        await command.line(r'203\.0\.113\.7:0 "WebSocket /socket" accepted 101')
        assert await websocket.get_message() == "('203.0.113.7', 0) wss"
        await websocket.send_message("break")
        await command.line(r"^in Consumer, websocket /socket of 203\.0\.113\.7:0")
        await websocket.aclose()
    assert await command.stop() == 0


LOCAL = "127.0.0.1,::1,unix"


@pytest.mark.parametrize(
    ("environment", "arguments", "trusted"),
    [
        (None, [], ()),
        (None, ["--no-proxy-headers"], ()),
        (None, ["--proxy-headers"], LOCAL),
        (None, ["--forwarded-allow-ips", "*"], "*"),
        (None, ["--proxy-headers", "--forwarded-allow-ips", "10.0.0.0/8,::1"], "10.0.0.0/8,::1"),
        (None, ["--proxy-headers", "--forwarded-allow-ips", ""], ""),
        (None, ["--no-proxy-headers", "--forwarded-allow-ips", "*"], ()),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["--proxy-headers"], "10.0.0.1"),
        ("10.0.0.1", ["--no-proxy-headers"], ()),
        ("10.0.0.1", ["--forwarded-allow-ips", "::1"], "::1"),
        ("", [], ()),
        ("", ["--proxy-headers"], LOCAL),
    ],
)
def test_proxies_are_trusted_that_are_named_or_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
    environment: str | None,
    arguments: list[str],
    trusted: object,
) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    if environment is not None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", environment)
    assert server_config(given(*arguments)).forwarded_allow_ips == trusted


def test_the_header_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    chosen = given("--proxy-headers", "--forwarded-header", "forwarded")
    check_usage(chosen)
    assert server_config(chosen).forwarded_header == "forwarded"
    assert server_config(given("--proxy-headers")).forwarded_header == "x-forwarded-for"
    with pytest.raises(click.UsageError, match="--forwarded-header needs --proxy-headers"):
        check_usage(given("--forwarded-header", "forwarded"))


def test_a_name_is_a_mistake_of_the_command_line() -> None:
    with pytest.raises(click.UsageError, match="forwarded_allow_ips has 'localhost'"):
        server_config(given("--forwarded-allow-ips", "localhost"))
