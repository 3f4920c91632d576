"""What users write with Django's own test cases."""

from typing import Any
from urllib.request import urlopen

from asgiref.sync import async_to_sync, sync_to_async
from channels.testing import (
    ChannelsLiveServerTestCase,
    HttpCommunicator,
    WebsocketCommunicator,
)
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase
from tests.bridges.channels.testing.project.asgi import application, stock_pages
from websockets.sync.client import connect

from greenroom.bridges.channels.layers import get_channel_layer
from greenroom.bridges.channels.testing import virtual_time

from .models import Note

ORIGIN = [(b"origin", b"http://testserver")]


class Mixin:
    """The same tests for both kinds of test case."""

    async def tell(self, url: str) -> None:
        """Talk to one consumer."""
        await Note.objects.acreate(text="mine")
        websocket = WebsocketCommunicator(application, url, headers=ORIGIN)
        connected, _ = await websocket.connect()
        assert connected
        for text, answer in (("theirs", "2"), ("theirs", "-1"), ("again", "3")):
            await websocket.send_to(text_data=text)
            assert await websocket.receive_from(timeout=20) == answer
        await websocket.disconnect()
        assert await sync_to_async(Note.objects.count)() == 3
        for path in ("/count/", "/acount/"):
            host = [(b"host", b"testserver")]
            request = HttpCommunicator(application, "GET", path, headers=host)
            assert (await request.get_response(timeout=20))["body"] == b"3"
            await request.wait()

    async def test_djangos_own_handler(self) -> None:
        """Django's own `get_asgi_application`."""
        await Note.objects.acreate(text="mine")
        for path, answer in (("/count/", b"1"), ("/acount/", b"1"), ("/write/", b"2")):
            host = [(b"host", b"testserver")]
            request = HttpCommunicator(stock_pages, "GET", path, headers=host)
            assert (await request.get_response(timeout=20))["body"] == answer
            await request.wait(timeout=20)
        assert await Note.objects.acount() == 2

    def test_djangos_own_handler_by_async_to_sync(self) -> None:
        """From a sync test."""
        async_to_sync(self.test_djangos_own_handler)()

    async def test_sync(self) -> None:
        """A sync consumer."""
        await self.tell("/sync/")

    async def test_async(self) -> None:
        """An async consumer."""
        await self.tell("/async/")

    async def test_trio(self) -> None:
        """A consumer written for trio."""
        await self.tell("/trio/")

    @virtual_time
    async def test_virtual(self) -> None:
        """In virtual time."""
        await self.tell("/trio/")

    def test_by_async_to_sync(self) -> None:
        """From a sync test."""
        async_to_sync(self.tell)("/sync/")


class InTransaction(Mixin, TestCase):
    """With a transaction that is rolled back."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Look that nothing is left."""
        assert Note.objects.count() == 0

    def tearDown(self) -> None:
        """Look that the transaction has survived."""
        assert connection.in_atomic_block
        assert connection.connection is not None


class Committed(Mixin, TransactionTestCase):
    """With transactions of their own."""


class Live(ChannelsLiveServerTestCase):  # type: ignore[misc]
    """With a server."""

    def talk(self) -> None:
        """Talk to the consumers over a real socket."""
        Note.objects.create(text="mine")
        with connect(self.live_server_ws_url + "/sync/", origin=self.live_server_url) as socket:
            socket.send("theirs")
            assert socket.recv(timeout=20) == "2"
        with connect(self.live_server_ws_url + "/async/", origin=self.live_server_url) as socket:
            socket.send("again")
            assert socket.recv(timeout=20) == "3"
        assert Note.objects.count() == 3

    def test_talk(self) -> None:
        """Talk."""
        self.talk()

    def test_talk_again(self) -> None:
        """Find nothing of what the other test has written."""
        self.talk()

    def test_layer(self) -> None:
        """Reach the server's consumers by the layer."""
        with connect(self.live_server_ws_url + "/group/", origin=self.live_server_url) as socket:
            socket.send("own")
            assert socket.recv(timeout=20) == "own of 1"
            send: Any = get_channel_layer()
            async_to_sync(send.group_send)("notes", {"type": "note", "text": "layer"})
            assert socket.recv(timeout=20) == "layer of 1"

    def test_transactions(self) -> None:
        """Transactions of the test are its own."""
        with transaction.atomic():
            Note.objects.create(text="mine")
        self.talk_to("/sync/", "2")

    def talk_to(self, path: str, answer: str) -> None:
        """Talk to one consumer."""
        with connect(self.live_server_ws_url + path, origin=self.live_server_url) as socket:
            socket.send("theirs")
            assert socket.recv(timeout=20) == answer


class LiveWithDjangosOwnHandler(ChannelsLiveServerTestCase):  # type: ignore[misc]
    """With a server of Django's own `get_asgi_application`, whose threads are asgiref's."""

    @classmethod
    def get_application(cls) -> Any:
        """Serve no consumers."""
        return stock_pages

    def test_pages(self) -> None:
        """Views see what the test has written, and the test what they have."""
        for number in (1, 2):
            Note.objects.create(text=f"mine {number}")
            for path in ("/count/", "/acount/"):
                assert self.ask(path) == str(number)
        assert self.ask("/write/") == "3"
        assert Note.objects.count() == 3

    test_pages_again = test_pages

    def ask(self, path: str) -> str:
        """Give what a page says."""
        with urlopen(self.live_server_url + path, timeout=20) as response:
            text: str = response.read().decode()
        return text
