"""The restaurant's database, and its project in each of the ways that the guide tells of."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from tests.examples.moving.restaurant import MOVING, Restaurant

INSTALL = """
from greenroom.bridges.channels import install_as_channels

install_as_channels()
"""

FILL = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_user("ada", password="soup")
"""

REDIS_DATABASES = count(1)

Open = Callable[..., Restaurant]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a waiter and no orders."""
    database = tmp_path_factory.mktemp("filled") / "kitchen.sqlite3"
    with Restaurant(MOVING / "after", database) as restaurant:
        restaurant.run("-c", FILL)
    return database


@pytest.fixture
def database(filled: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test."""
    return Path(shutil.copy(filled, tmp_path))


def installed_project(folder: Path) -> Path:
    """Make the project for Channels with the one line of `install_as_channels`, and no daphne."""
    project = shutil.copytree(MOVING / "before", folder)
    package = project / "kitchen" / "__init__.py"
    package.write_text(package.read_text() + INSTALL)
    settings = project / "kitchen" / "settings.py"
    settings.write_text(settings.read_text().replace('"daphne"', '"greenroom.bridges.django"'))
    return project


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That project, for all tests."""
    return installed_project(tmp_path_factory.mktemp("installed") / "project")


@pytest.fixture
def redis(valkey_url: str) -> str:
    """The address of a Redis that no other test of this file has written to."""
    return valkey_url.removesuffix("0") + str(next(REDIS_DATABASES))


@pytest.fixture
def open_restaurant(installed: Path, database: Path, redis: str) -> Iterator[Open]:
    """Give the restaurant whose project is called `before`, `after` or `installed`.

    All that one test opens share a database and a Redis, unless it says `redis=""`.
    """
    with ExitStack() as stack:

        def opened(project: str, redis: str = redis) -> Restaurant:
            folder = installed if project == "installed" else MOVING / project
            return stack.enter_context(Restaurant(folder, database, redis))

        yield opened
