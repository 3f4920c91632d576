"""The rooms under test, without a server; with `autojump_clock`, nobody waits a real hour."""

import pytest
import trio
from rooms import application

from greenroom.bridges.channels.testing import WebsocketCommunicator


@pytest.mark.trio
async def test_who_is_in_the_same_room_hears_it(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        WebsocketCommunicator(application, "/rooms/attic/") as ada,
        WebsocketCommunicator(application, "/rooms/attic/") as grace,
        WebsocketCommunicator(application, "/rooms/cellar/") as stranger,
    ):
        for client in (ada, grace, stranger):
            assert await client.connect() == (True, None)
        await ada.send_to(text_data="hello")
        assert await ada.receive_from() == "hello"
        assert await grace.receive_from() == "hello"
        assert await stranger.receive_nothing(timeout=3600)
