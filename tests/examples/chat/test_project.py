"""The chat project as a Django project: its commands, its servers' beginnings and ends."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.examples.chat.site import PROJECT, Site, Visitor
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.timeout(180)  # each test starts processes, some of them several


def test_the_projects_checks_find_nothing_and_no_migration_is_missing(own_site: Site) -> None:
    assert "no issues" in own_site.run("manage.py", "check", "--fail-level=WARNING")
    assert "No changes" in own_site.run("manage.py", "makemigrations", "--check")


def test_seeding_twice_leaves_what_is_there_alone(own_site: Site, database: Path) -> None:
    def rows() -> list[tuple[int]]:
        with closing(sqlite3.connect(database / "chat.sqlite3")) as connection:
            return [
                connection.execute(f"select count(*) from {table}").fetchone()
                for table in ("auth_user", "chat_room", "chat_message")
            ]

    before = rows()
    own_site.run("manage.py", "seed")
    assert rows() == before == [(2,), (2,), (2,)]


def test_greenroom_run_serves_the_whole_project(own_site: Site) -> None:
    server = own_site.serve("-m", "greenroom", "run", "config.asgi:application", "--port=0")
    ada = Visitor(own_site).log_in("ada")
    assert "Lobby" in ada.get("/")[1]
    assert ada.get("/static/admin/css/base.css")[0] == 200
    with ada.join("lobby", after=10**6) as tab:
        tab.send("here")
        assert '"text": "here"' in str(tab.recv(timeout=20))
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runserver_stops_on_a_signal_and_tells_its_websockets(
    own_site: Site, number: signal.Signals
) -> None:
    server = own_site.serve("manage.py", "runserver", "--noreload", "127.0.0.1:0")
    with Visitor(own_site).log_in("ada").join("lobby", after=10**6) as tab:
        status = server.stop(number)
        with pytest.raises(ConnectionClosed) as closed:
            tab.recv(timeout=20)
    assert status == 0
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def test_runserver_logs_each_request_and_each_websocket(own_site: Site) -> None:
    server = own_site.serve("manage.py", "runserver", "--noreload", "127.0.0.1:0")
    ada = Visitor(own_site).log_in("ada")
    ada.get("/nowhere/?a=%0Ab")
    with ada.join("lobby"):
        pass
    server.stop()
    said = server.said
    for line in (
        r"HTTP POST /login/ 302 \[\d\.\d\d, 127\.0\.0\.1:\d+\]",
        r"HTTP GET /nowhere/\?a=%0Ab 404 \[",
        r"WebSocket CONNECT /ws/rooms/lobby/ \[127\.0\.0\.1:\d+\]",
        r"WebSocket DISCONNECT /ws/rooms/lobby/",
    ):
        assert re.search(line, said), said


def test_runserver_starts_anew_after_a_change_and_tells_its_websockets(
    database: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("*.sqlite3", "__pycache__"))
    with Site(database, project) as site:
        server = site.serve("manage.py", "runserver", "127.0.0.1:0")
        server.wait_for("CONTROL-C")
        ada = Visitor(site).log_in("ada")
        assert ada.get("/new/")[0] == 404
        with ada.join("lobby", after=10**6) as tab:
            urls = project / "chat" / "urls.py"
            urls.write_text(urls.read_text() + 'urlpatterns.append(path("new/", views.rooms))\n')
            with pytest.raises(ConnectionClosed) as closed:
                tab.recv(timeout=30)
        site.url = server.wait_for(r"(http://[\w.:]+)")[1]
        assert ada.get("/new/")[0] == 200
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def test_runserver_says_when_its_port_is_taken(own_site: Site) -> None:
    own_site.serve("manage.py", "runserver", "--noreload", "127.0.0.1:0")
    taken = own_site.url.rpartition(":")[2]
    with pytest.raises(AssertionError, match=f"Error: cannot listen on 127.0.0.1:{taken}"):
        own_site.run("manage.py", "runserver", "--noreload", f"127.0.0.1:{taken}")


def test_runserver_asks_for_asgi_application() -> None:
    settings = "from config.settings import *\nASGI_APPLICATION = None\n"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, types\n"
            f"module = types.ModuleType('plain'); exec({settings!r}, module.__dict__)\n"
            "sys.modules['plain'] = module\n"
            "from django.core.management import execute_from_command_line as run\n"
            "run(['manage.py', 'runserver', '--settings=plain'])\n",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "You have not set ASGI_APPLICATION, which is needed to run the server." in done.stderr
