"""One chat site for all tests of this folder that only visit it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.examples.chat.site import Site, Visitor


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The project under `manage.py runserver`, with the demo's users and rooms."""
    with Site(tmp_path_factory.mktemp("chat")) as site:
        site.fill()
        yield site.start("manage.py", "runserver", "--noreload", "127.0.0.1:0")


@pytest.fixture(scope="session")
def ada(site: Site) -> Visitor:
    """One of the demo's users, logged in."""
    return Visitor(site).log_in("ada")


@pytest.fixture(scope="session")
def grace(site: Site) -> Visitor:
    """The other one."""
    return Visitor(site).log_in("grace")


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A site that a test may stop; not started yet."""
    with Site(tmp_path) as site:
        site.fill()
        yield site
