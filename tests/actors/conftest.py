"""What the tests of actors share."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet() -> Iterator[None]:
    """No log records, where crashes by the dozen are what a test is about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
