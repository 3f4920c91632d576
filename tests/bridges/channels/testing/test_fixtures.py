"""The fixtures for pytest, used as pytest uses them; `project` has them in a real run."""

import asyncio
from typing import Any

import pytest
import trio

from greenroom.bridges.channels.testing import ApplicationStopped
from greenroom.bridges.channels.testing.fixtures import Communicators


async def crash(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "crashing"})
    await receive()
    raise ValueError("mine")


@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_a_crash_that_no_call_of_the_test_has_told_is_told_at_the_end(world: str) -> None:
    communicator = Communicators()

    async def overlook() -> None:
        made = communicator.application(crash, {})
        await made.receive_output()
        await made.send_input({})
        await asyncio.wait([made.future]) if world == "asyncio" else await wait_in_trio(made)

    async def wait_in_trio(made: Any) -> None:
        with pytest.raises(ValueError, match="mine"):
            await made.future

    async def notice() -> None:
        made = communicator.application(crash, {})
        await made.send_input({})
        with pytest.raises(ValueError, match="mine"):
            await made.wait()

    run: Any = asyncio.run if world == "asyncio" else (lambda main: trio.run(lambda: main))
    run(notice())
    communicator.close()
    run(overlook())
    with pytest.raises(ValueError, match="mine"):
        communicator.close()


def test_applications_that_still_run_are_stopped_at_the_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def main() -> None:
        communicator = Communicators()
        websocket = communicator(app, "/", subprotocols=["a"])
        request = communicator.http(app, "GET", "/")
        assert websocket.scope["subprotocols"] == ["a"]
        for made in (websocket, request):
            assert await made.receive_nothing(0.001)
        communicator.close()
        for made in (websocket, request):
            await made.wait()
            with pytest.raises(ApplicationStopped, match="stop"):
                await made.receive_output()

    asyncio.run(main())
    trio.run(main)
