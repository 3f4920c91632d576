"""What the tests of this bridge share."""

from collections.abc import Iterator

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
