"""What the tests of all examples of actors share."""

import logging

import pytest


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep quiet about crashes on purpose, of which there are thousands here."""
    caplog.set_level(logging.CRITICAL, "greenroom")
