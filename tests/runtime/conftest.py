"""Fixtures of the runtime's tests."""

import pytest
import trio

from tests.runtime.serving import StartSite, site_starter


@pytest.fixture
def start_site(nursery: trio.Nursery) -> StartSite:
    """Start servers in the test's nursery."""
    return site_starter(nursery)
