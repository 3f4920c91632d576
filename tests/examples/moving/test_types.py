"""A typed project's view of the API: what is right is no error, and what is wrong is one.

A strict mypy with the plugin of django-stubs checks the project that was moved, and beside
it a module full of mistakes: they would pass if an annotation were only Any.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.examples.moving.restaurant import MOVING

ROOT = MOVING.parent.parent

SETTINGS = """
[mypy]
strict = true
plugins = mypy_django_plugin.main
[mypy.plugins.django-stubs]
django_settings_module = kitchen.settings
"""

# What people write, and must not be an error.
RIGHT = """
from typing import Any, assert_type

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import TransactionTestCase
from django.urls import path, re_path

from greenroom.actors import Crash, Restart
from greenroom.bridges.channels import install_as_channels
from greenroom.bridges.channels.auth import AuthMiddlewareStack, get_user, login, logout
from greenroom.bridges.channels.consumer import SyncConsumer
from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.exceptions import ChannelFull, DenyConnection
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.layers import get_channel_layer
from greenroom.bridges.channels.middleware import BaseMiddleware
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter
from greenroom.bridges.channels.security.websocket import OriginValidator
from greenroom.bridges.channels.testing import WebsocketCommunicator, virtual_time
from greenroom.bridges.django.asgi import get_asgi_application
from greenroom.runtime import App, Receive, Scope, Send


class Json(AsyncJsonWebsocketConsumer):
    groups = ["all"]
    channel_layer_alias = "other"
    greenroom_flavour = "trio"
    restart = Restart.TRANSIENT

    def __init__(self) -> None:
        super().__init__()
        self.rooms: list[str] = []

    async def receive_json(self, content: dict[str, Any]) -> None:
        assert_type(await self.count(4), int)
        self.scope["session"]["seen"] = self.scope["user"].pk
        await self.send_json({"all": self.rooms}, close=4000)
        try:
            await self.channel_layer.group_send("all", {"type": "all.hear"})
        except ChannelFull:
            await self.close(reason="busy")

    async def restarted(self, cause: Crash, previous: "Json") -> None:
        self.rooms = previous.rooms

    async def disconnect(self, close_code: int) -> None:
        await super().disconnect(close_code)

    @database_sync_to_async
    def count(self, table: int) -> int:
        return table

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        return str(content)


class Plain(AsyncWebsocketConsumer):
    groups = ("all", "others")

    async def connect(self) -> None:
        await self.accept(self.scope["subprotocols"][0], headers=[(b"x", b"y")])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        user = await get_user(self.scope)
        await login(self.scope, user, backend="django.contrib.auth.backends.ModelBackend")
        await logout(self.scope)
        assert_type(await database_sync_to_async(User.objects.count)(), int)
        await self.send(bytes_data=b"", close=True)


class Sync(JsonWebsocketConsumer):
    pinned = True

    def connect(self) -> None:
        if self.scope["user"].is_anonymous:
            raise DenyConnection
        async_to_sync(self.channel_layer.group_add)("all", self.channel_name)
        self.accept()

    def receive_json(self, content: list[int], **kwargs: Any) -> None:
        self.send_json(sum(content))

    def all_hear(self, event: dict[str, Any]) -> None:
        self.send(text_data=event["text"])


class Job(SyncConsumer):
    def job(self, message: dict[str, Any]) -> None:
        self.send({"type": "done"})


class Page(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await self.send_response(200, b"", headers=[(b"Content-Type", b"text/plain")])


class Counted(BaseMiddleware):
    def __init__(self, inner: App, limit: int = 5) -> None:
        super().__init__(inner)
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        scope["limit"] = self.limit
        return await super().__call__(scope, receive, send)


async def plain_middleware(scope: Scope, receive: Receive, send: Send) -> None:
    await Plain.as_asgi()(scope, receive, send)


class InVirtualTime(TransactionTestCase):
    @virtual_time
    async def test_hours(self) -> None:
        async with WebsocketCommunicator(Json.as_asgi(), "/") as communicator:
            communicator.scope["user"] = User()
            connected, _ = await communicator.connect()
            assert connected
            text: str = await communicator.receive_from(timeout=3600)
            assert text.startswith("{")
            await communicator.send_json_to([1])


install_as_channels()
application = ProtocolTypeRouter(
    {
        "http": URLRouter([path("page/", Page.as_asgi()), re_path("", get_asgi_application())]),
        "websocket": OriginValidator(
            AuthMiddlewareStack(
                URLRouter(
                    [
                        path("json/", Counted(Json.as_asgi())),
                        path("sync/", URLRouter([path("", Sync.as_asgi(greeting="hello"))])),
                    ]
                )
            ),
            ["*"],
        ),
        "other": plain_middleware,
    }
)
if (layer := get_channel_layer("missing")) is not None:
    async_to_sync(layer.group_send)("all", {"type": "all.hear"})
"""

# Each comment is the code of the error in its line.
WRONG = """
from typing import Any

from asgiref.sync import async_to_sync
from django.urls import path

from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.generic.websocket import (
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.layers import get_channel_layer
from greenroom.bridges.channels.middleware import BaseMiddleware
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter


class Wrong(AsyncWebsocketConsumer):
    groups = 5  # E: assignment
    channel_layer_alias = None  # E: assignment
    greenroom_flavour = "curio"  # E: assignment
    restart = True  # E: assignment

    async def connect(self) -> None:
        self.accept()  # E: unused-coroutine
        await self.accept(5)  # E: arg-type
        await self.send({"type": "websocket.send"})  # E: arg-type
        await self.close("4000")  # E: arg-type
        await self.count("four")  # E: arg-type
        await self.count()  # E: call-arg
        self.count(4) + 1  # E: operator
        await self.channel_layer.group_send({"type": "all.hear"}, "all")  # E: arg-type
        await self.channel_layer.group_say("all", {})  # E: union-attr
        self.chanel_name  # E: attr-defined

    async def receive(self, text_data: int, bytes_data: None) -> None: ...  # E: override

    def disconnect(self, code: int) -> None: ...  # E: override

    @database_sync_to_async
    def count(self, table: int) -> int:
        return table


class WrongSync(WebsocketConsumer):
    async def connect(self) -> None: ...  # E: override

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(5)  # E: arg-type
        self.send_json({})  # E: attr-defined
        async_to_sync(self.channel_layer.group_add)("all")  # E: call-arg


class WrongPlain(SyncConsumer):
    def job(self, message: dict[str, Any]) -> None:
        self.send("done")  # E: arg-type


class WrongHttp(AsyncHttpConsumer):
    async def handle(self, body: str) -> None:  # E: override
        await self.send_response("200", b"")  # E: arg-type
        await self.send_body("text")  # E: arg-type


class WrongMiddleware(BaseMiddleware):
    def __init__(self) -> None:
        super().__init__()  # E: call-arg


class WrongAsync(AsyncConsumer):
    async def job(self, message: dict[str, Any]) -> None:
        await self.dispatch("job")  # E: arg-type


URLRouter({"chat/": Wrong.as_asgi()})  # E: arg-type
ProtocolTypeRouter([path("chat/", Wrong.as_asgi())])  # E: arg-type
get_channel_layer(5)  # E: arg-type
"""


@pytest.mark.timeout(180)  # on a machine that has no cache of mypy's yet
def test_a_strict_type_checker_finds_the_mistakes_of_a_project_and_nothing_else(
    tmp_path: Path,
) -> None:
    project = shutil.copytree(MOVING / "after", tmp_path / "project")
    (project / "kitchen" / "right.py").write_text(RIGHT)
    (project / "kitchen" / "wrong.py").write_text(WRONG)
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS)
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", settings),
            *("--no-pretty", "--cache-dir", ROOT / ".mypy_cache" / "moving", "kitchen"),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not checked.stderr
    found = re.findall(r"^(\S+?):(\d+): error: .*\[(\S+)\]$", checked.stdout, re.MULTILINE)
    assert set(found) == {
        ("kitchen/wrong.py", str(number), code)
        for number, line in enumerate(WRONG.splitlines(), start=1)
        for code in re.findall(r"# E: (\S+)", line)
    }, checked.stdout
