"""The test case with a server behind it, run as `unittest` runs it."""

import socket
import threading
import time
import unittest
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from tests.django_project.models import Log
from tests.examples.chat.test_browser import CHROMIUM, Browser
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from greenroom.bridges.channels.generic.websocket import WebsocketConsumer
from greenroom.bridges.channels.routing import ProtocolTypeRouter
from greenroom.bridges.channels.security.websocket import AllowedHostsOriginValidator
from greenroom.bridges.channels.testing import ChannelsLiveServerTestCase, _live_server
from greenroom.bridges.django.asgi import get_asgi_application
from greenroom.runtime import LifespanFailed

pytestmark = pytest.mark.usefixtures("database")


class Logger(WebsocketConsumer):
    left: ClassVar[list[int]] = []

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        Log.objects.create(type=str(text_data))
        self.send(str(Log.objects.count()))

    def disconnect(self, code: int) -> None:
        self.left.append(code)


class Case(ChannelsLiveServerTestCase):
    @classmethod
    def get_application(cls) -> Any:
        websocket = AllowedHostsOriginValidator(Logger.as_asgi())
        return ProtocolTypeRouter({"http": get_asgi_application(), "websocket": websocket})


def run(case: type[unittest.TestCase]) -> str:
    """Run the tests of a class, and give what went wrong."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun or result.errors
    return "\n".join(text for _, text in [*result.errors, *result.failures])


def open_websocket(case: ChannelsLiveServerTestCase) -> ClientConnection:
    return connect(case.live_server_ws_url, origin=Origin(case.live_server_url))


def ask(url: str, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_tests_talk_to_the_server_over_sockets_and_share_its_database() -> None:
    ports = []

    class Live(Case):
        def test_all(self) -> None:
            Log.objects.create(type="mine")
            assert self.live_server_url == f"http://localhost:{self._port}"
            assert self.live_server_ws_url == f"ws://localhost:{self._port}"
            assert type(self).live_server_url == self.live_server_url
            assert "localhost" in settings.ALLOWED_HOSTS
            assert ask(self.live_server_url, "/nowhere/")[0] == 404
            for _ in range(2):  # TransactionTestCase empties the tables after each test only
                with open_websocket(self) as websocket:
                    websocket.send("theirs")
                    assert int(websocket.recv(timeout=20)) == Log.objects.count()
            ports.append(self._port)

        test_again = test_all

    allowed = list(settings.ALLOWED_HOSTS)
    assert run(Live) == ""
    assert list(settings.ALLOWED_HOSTS) == allowed
    assert len(ports) == 2
    assert ports[0] == ports[1]
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", ports[0]))
    assert "live server" not in [thread.name for thread in threading.enumerate()]


def test_static_files_are_served_as_the_class_says(tmp_path: Path) -> None:
    path = "/static/tests/hello.txt"

    class WithFiles(Case):
        def test_it(self) -> None:
            assert ask(self.live_server_url, path) == (200, b"hello")

    class Without(Case):
        serve_static = False

        def test_it(self) -> None:
            assert ask(self.live_server_url, path)[0] == 404

    def wrap(_app: Any) -> Any:
        return get_asgi_application()

    class Wrapped(Case):
        static_wrapper = wrap

        def test_it(self) -> None:
            with pytest.raises(InvalidStatus), connect(self.live_server_ws_url):
                pass

    def find(self: Any, name: str, **kwargs: Any) -> str | list[str]:
        return str(hello) if name == "tests/hello.txt" else []

    hello = tmp_path / "hello.txt"
    hello.write_bytes(b"hello")
    finder = "django.contrib.staticfiles.finders.AppDirectoriesFinder.find"
    with mock.patch(finder, find):
        assert [run(case) for case in (WithFiles, Without, Wrapped)] == ["", "", ""]


def test_websockets_that_a_class_leaves_open_are_told_at_its_end() -> None:
    opened: list[ClientConnection] = []

    class Live(Case):
        def test_it(self) -> None:
            opened.append(after.enter_context(open_websocket(self)))
            opened[0].send("x")
            opened[0].recv(timeout=20)

    Logger.left.clear()
    with ExitStack() as after:
        assert run(Live) == ""
        with pytest.raises(ConnectionClosed):
            opened[0].recv(timeout=20)
        assert opened[0].close_code == 1012
    assert Logger.left == [1012]


def test_what_goes_wrong_at_the_start_is_told_by_the_class() -> None:
    class Refused(Case):
        @classmethod
        def get_application(cls) -> Any:
            async def refuse(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": "no pool"})

            return refuse

        def test_it(self) -> None: ...

    class Missing(ChannelsLiveServerTestCase):
        def test_it(self) -> None: ...

    class Elsewhere(Case):
        host = "192.0.2.1"  # nobody's address

        def test_it(self) -> None: ...

    with pytest.raises(LifespanFailed, match="no pool"):
        Refused.setUpClass()
    Refused.doClassCleanups()
    with override_settings(ASGI_APPLICATION="no.such.application"):
        with pytest.raises(ImproperlyConfigured, match=r"no\.such"):
            Missing.setUpClass()
        Missing.doClassCleanups()
    assert "no pool" in run(Refused)
    assert "192.0.2.1" in run(Elsewhere)
    assert "live server" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, r"Live\.get_application\(\) must give .* gave None; has it no `return`\?"),
        ("project.asgi", r"Live\.get_application\(\) must give .* gave 'project\.asgi'"),
    ],
)
def test_what_is_no_application_is_not_served(given: Any, told: str) -> None:
    class Live(Case):
        @classmethod
        def get_application(cls) -> Any:
            return given

        def test_it(self) -> None: ...

    class Wrapped(Case):
        static_wrapper = lambda _app: given  # noqa: E731

        def test_it(self) -> None: ...

    for case, source in ((Live, told), (Wrapped, r"Wrapped\.static_wrapper must give")):
        with pytest.raises(TypeError, match=source):
            case.setUpClass()
        case.doClassCleanups()
    assert "live server" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_live_server, "STOP_WITHIN", 0.2)
    monkeypatch.setattr(_live_server, "MARGIN", 0.2)
    yield
    while any(thread.name == "live server" for thread in threading.enumerate()):
        time.sleep(0.01)  # a thread that a test has let go on


def test_a_handler_that_does_not_end_is_named_and_does_not_hold_up_the_tests(
    impatient: None,
) -> None:
    may_end = threading.Event()

    class Stuck(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            self.send("stuck")
            may_end.wait(20)

    class Live(ChannelsLiveServerTestCase):
        @classmethod
        def get_application(cls) -> Any:
            return Stuck.as_asgi()

        def test_it(self) -> None:
            websocket = after.enter_context(connect(self.live_server_ws_url + "/somewhere/"))
            websocket.send("x")
            assert websocket.recv(timeout=20) == "stuck"

    with ExitStack() as after:
        said = run(Live)
        may_end.set()
    assert "The live server did not end within 0.4 seconds." in said
    assert "Still running: websocket /somewhere/" in said
    assert "test_live.py" in said
    assert "may_end.wait(20)" in said


def test_an_application_that_never_says_that_it_has_started_is_not_waited_for(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live_server, "START_WITHIN", 0.3)

    class Live(Case):
        @classmethod
        def get_application(cls) -> Any:
            async def sleepy(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                await receive()

            return sleepy

        def test_it(self) -> None: ...

    assert "did not start within 0.3 seconds" in run(Live)


def test_a_class_for_the_servers_process_is_ignored_with_a_warning() -> None:
    class Live(Case):
        ProtocolServerProcess = threading.Thread

        def test_it(self) -> None:
            assert ask(self.live_server_url, "/")[0]

    with pytest.warns(UserWarning, match="ProtocolServerProcess is ignored"):
        assert run(Live) == ""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed here")
@pytest.mark.timeout(180)  # a browser takes its time to start on a busy machine
@override_settings(ROOT_URLCONF="tests.bridges.channels.testing.views")
def test_a_browser_talks_to_the_project(tmp_path: Path) -> None:
    class Live(Case):
        def test_it(self) -> None:
            site: Any = SimpleNamespace(url=self.live_server_url)
            browser = Browser(site, tmp_path)
            try:
                browser.go("/page/")
                browser.wait_for_text("#answer", "answer 1")
                assert browser.complaints() == []
            finally:
                browser.driver.quit()
            assert [log.type for log in Log.objects.all()] == ["from a browser"]

    assert run(Live) == ""
