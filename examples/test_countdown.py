"""The countdown under test: a real server and a real client in one trio program."""

from functools import partial

import pytest
import trio
from countdown import app
from trio_websocket import open_websocket_url

from greenroom.runtime import open_tcp, serve


@pytest.mark.trio
async def test_it_counts_down(nursery: trio.Nursery) -> None:
    listeners = open_tcp("127.0.0.1", 0)
    server = await nursery.start(partial(serve, app, listeners=listeners))
    address = server.addresses[0].replace("http", "ws")
    async with open_websocket_url(f"{address}/2") as client:
        assert await client.get_message() == "2..."
        assert await client.get_message() == "1..."
    server.stop()
