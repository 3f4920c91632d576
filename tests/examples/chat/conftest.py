"""One chat site for all tests of this folder that only visit it, and sites of their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.examples.chat.site import Site, Visitor


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's database, made once: hashing passwords takes its time."""
    folder = tmp_path_factory.mktemp("filled")
    with Site(folder) as site:
        site.run("manage.py", "migrate", "--verbosity=0")
        site.run("manage.py", "seed")
    return folder


@pytest.fixture(scope="session")
def site(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The project under `manage.py runserver`, with the demo's users and rooms."""
    folder = shutil.copytree(filled, tmp_path_factory.mktemp("chat") / "database")
    with Site(folder) as site:
        site.serve("manage.py", "runserver", "--noreload", "127.0.0.1:0")
        yield site


@pytest.fixture(scope="session")
def ada(site: Site) -> Visitor:
    """One of the demo's users, logged in."""
    return Visitor(site).log_in("ada")


@pytest.fixture(scope="session")
def grace(site: Site) -> Visitor:
    """The other one."""
    return Visitor(site).log_in("grace")


@pytest.fixture
def database(filled: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the demo's database, for one test."""
    return shutil.copytree(filled, tmp_path / "database")


@pytest.fixture
def own_site(database: Path) -> Iterator[Site]:
    """A site that a test may stop; not started yet."""
    with Site(database) as site:
        yield site
