"""Tests of this folder run under trio and under asyncio, where both are promised."""

import pytest
from tests.bridges.django.exchange import World


@pytest.fixture(params=["trio", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    """Each test that asks for it runs under trio and under asyncio."""
    chosen: World = request.param
    return chosen
