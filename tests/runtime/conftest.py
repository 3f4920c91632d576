"""Fixtures of the runtime's tests."""

import pytest
import trio
from tests.runtime.serving import StartSite, site_starter

from greenroom.runtime import _pump


@pytest.fixture(params=["pump", "streams"])
def start_site(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> StartSite:
    """Start servers in the test's nursery, carried by either of the two drivers."""
    if request.param == "pump":
        assert _pump.AVAILABLE, "these tests need epoll"
    else:
        monkeypatch.setattr(_pump, "AVAILABLE", False)
    return site_starter(nursery)
