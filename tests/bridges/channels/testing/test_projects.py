"""Users' test suites, in processes of their own, with each kind of database.

The suites are in `project`: one for pytest with its plugins, one for Django's test runner.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
PROJECT = Path(__file__).resolve().parent / "project"
PLUGINS = ("pytest_django.plugin", "pytest_asyncio.plugin", "pytest_trio.plugin", "pytest_timeout")
WITH_PYTEST = (
    *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", PROJECT / "pytest.ini"),
    *(argument for plugin in PLUGINS for argument in ("-p", plugin)),
    PROJECT / "with_pytest.py",
)
WITH_DJANGO = (
    *("-W", "error", PROJECT / "manage.py", "test", "--noinput"),
    "tests.bridges.channels.testing.project.notes.tests",
)

pytestmark = pytest.mark.timeout(180)  # processes that start at once on a busy machine


def start(database: str, *command: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={
            **{key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"},
            "PYTHONPATH": f"{ROOT / '.src'}{os.pathsep}{ROOT}",
            "NOTES_DATABASE": database,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # those that nobody needs take seconds to load
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def suites(tmp_path: Path, postgres_url: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All suites, started together: most of their time is Python's start."""
    started = {
        "pytest, in memory": start("memory", *WITH_PYTEST),
        "pytest, a file": start(str(tmp_path / "one.sqlite3"), *WITH_PYTEST),
        "pytest, PostgreSQL": start(postgres_url, *WITH_PYTEST, NOTES_TEST_DATABASE="notes_one"),
        "django, in memory": start("memory", *WITH_DJANGO),
        "django, PostgreSQL": start(postgres_url, *WITH_DJANGO, NOTES_TEST_DATABASE="notes_two"),
    }
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def test_consumers_see_what_the_test_has_written_with_every_runner_and_database(
    suites: dict[str, subprocess.Popen[str]],
) -> None:
    for name, process in suites.items():
        said, _ = process.communicate()
        assert process.returncode == 0, f"{name}:\n{said}"
