"""What the tests of this bridge share."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from greenroom.bridges.channels.layers import InMemoryChannelLayer, channel_layers


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    """A layer that no other test has used, as the default one."""
    fresh = InMemoryChannelLayer()
    old = channel_layers.set("default", fresh)
    yield fresh
    channel_layers.backends.pop("default", None)
    if old is not None:
        channel_layers.set("default", old)


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """When consumers have taken threads for their handlers, and given them back."""
    noted: list[str] = []

    @contextmanager
    def guard(_who: object) -> Iterator[None]:
        noted.append("taken")
        yield
        noted.append("given back")

    monkeypatch.setattr("greenroom.bridges.channels._threads.database_guard", guard)
    return noted
