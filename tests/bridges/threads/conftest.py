"""What the tests of this bridge share."""

from collections.abc import Iterator

import pytest

from greenroom.bridges.threads import ThreadPool


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """Two threads, and no other test's."""
    pool = ThreadPool(2, name="test")
    yield pool
    pool.close()
