"""Tests of what consumers live through on real servers, on ours and on those for asyncio."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio
from tests.bridges.channels.lives.servers import PATIENCE, SERVERS, Running, run
from tests.bridges.channels.serving import refusal
from tests.runtime.serving import open_websocket
from trio_websocket import ConnectionClosed, WebSocketConnection


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The application on each server in turn."""
    with run(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.mark.parametrize("name", ["events", "trio-events"])
async def test_client_that_leaves_a_stream_of_events_cancels_handle(
    server: Running, name: str
) -> None:
    async with server.request(f"/{name}/") as client:
        await client.receive_until(b"data: first\n\n")
    await server.noted(name, ["cancelled"], ["finally"], ["disconnect"])


async def test_request_is_answered_by_a_handler_of_the_layer_after_handle(server: Running) -> None:
    async with server.request("/poll/") as client:
        await server.noted("poll", ["waits"])
        assert await server.ask("/publish/", "POST", b"at last") == (200, b"published")
        assert b"at last" in await client.receive_all()
    await server.noted("poll", ["waits"], ["disconnect"])


@pytest.mark.parametrize("name", ["ticks", "trio-ticks"])
async def test_task_streams_until_the_client_leaves(server: Running, name: str) -> None:
    async with server.request(f"/{name}/") as client:
        for _ in range(3):
            await client.receive_until(b"tick\n")
    await server.noted(name, ["disconnect"], ["end"])


async def test_handle_may_go_on_after_it_has_answered(server: Running) -> None:
    assert await server.ask("/afterwards/") == (200, b"answered")
    await server.noted("afterwards", ["done"], ["disconnect"])


async def test_client_that_reads_slowly_slows_the_stream_down(server: Running) -> None:
    if server.name == "daphne":
        pytest.skip("daphne holds nobody back")
    total = 1600 * 65536
    async with server.request("/flood/") as client:
        received = len((await client.receive_until(b"\r\n\r\n")) and b"")
        for _ in range(20):
            status, sent = await server.ask("/flooded/")
            assert (status, int(sent) < 1600) == (200, True)
        while received < total:
            received += len(await client.receive_some())


async def test_failure_of_handle_is_logged_once_with_all_that_is_known(server: Running) -> None:
    before = len(server.output)
    status, _ = await server.ask("/fails/")
    assert status == 500
    await server.noted("fails", ["disconnect"])
    await server.logged("handling http.request")
    log = server.output[before:]
    assert log.count("LookupError: failed on purpose in handle") == 1
    assert log.count("in Fails, http GET /fails/ of 127.0.0.1:") == 1


async def end_of(websocket: WebSocketConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            await websocket.get_message()


# What a client says, what is raised, and what the note says of it.
CRASHES = [
    ("/async-crash/", "fail", "LookupError: failed on purpose in receive", "websocket.receive"),
    ("/async-crash/", "layer", "LookupError: failed on purpose in chat_message", "chat.message"),
    ("/async-crash/", "secret", "ValueError: No handler for message type close", "close"),
    ("/async-crash/", "task", "LookupError: failed on purpose in a task\n", None),
    ("/async-crash/", "cancelled", "TaskCancelled: asyncio code was", "websocket.receive"),
    ("/sync-crash/", "fail", "LookupError: failed on purpose in a thread", "websocket.receive"),
    ("/trio-crash/", "fail", "LookupError: failed on purpose in trio", "websocket.receive"),
    ("/trio-crash/", "task", "LookupError: failed on purpose in a task of trio's", None),
]
NAMES = {"/async-crash/": "AsyncCrash", "/sync-crash/": "SyncCrash", "/trio-crash/": "TrioCrash"}


async def test_crash_is_logged_once_and_disconnects(server: Running) -> None:
    async def crash(path: str, said: str) -> None:
        async with open_websocket(server.port, path) as websocket:
            await websocket.send_message(said)
            await end_of(websocket)

    before = len(server.output)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for path, said, _, _ in CRASHES:
                nursery.start_soon(crash, path, said)
    await server.noted("crash", *[["disconnect", 1011]] * len(CRASHES))
    for path, _, error, message in CRASHES:
        await server.logged(error)
        log = server.output[before:]
        assert log.count(error) == 1, log
        _, _, rest = log.partition(error)
        where = next(line for line in rest.splitlines() if line.strip().startswith("in "))
        name = NAMES[path]
        assert f"in {name}, websocket {path} of 127.0.0.1:" in where
        doing = f"in its task {name}.fail" if message is None else f"handling {message}"
        assert where.endswith(f", {doing}")


async def test_tasks_end_with_their_consumer(server: Running) -> None:
    with trio.fail_after(PATIENCE):
        async with open_websocket(server.port, "/tasks/") as websocket:
            await server.noted("tasks", ["began", "create_task"], ["began", "start_soon"])
            await websocket.aclose(4000)
    await server.noted(
        "tasks",
        ["began", "create_task"],
        ["began", "start_soon"],
        # hypercorn does not hand on what a client says at its end.
        ["disconnect", 1006 if server.name == "hypercorn" else 4000],
        ["ended", "start_soon"],
        ["ended", "create_task"],
    )


async def test_consumer_for_trio_goes_on_in_place_after_a_crash(server: Running) -> None:
    with trio.fail_after(PATIENCE):
        async with open_websocket(server.port, "/trio-restarts/") as websocket:
            for message in ("one", "fail", "two"):
                await websocket.send_message(message)
            assert await websocket.get_message() == "one"
            assert await websocket.get_message() == "two"
    await server.logged("is restarted in place (restart 1)")


async def test_query_in_a_trio_task_is_refused(server: Running) -> None:
    with trio.fail_after(PATIENCE):
        async with open_websocket(server.port, "/trio-blocks/") as websocket:
            await websocket.send_message("now")
            # Where asyncio runs in the same thread, Django itself has a word for it.
            ours = server.name == "greenroom"
            expected = "BlockingQuery" if ours else "SynchronousOnlyOperation"
            assert await websocket.get_message() == expected


async def test_path_without_a_route_is_refused_with_one_line_in_the_log(server: Running) -> None:
    before = len(server.output)
    assert await server.ask("/nowhere/at/all/") == (404, b"Not Found")
    status, _ = await refusal(f"127.0.0.1:{server.port}", "/nowhere/else/")
    assert status == (403 if server.name == "daphne" else 404)
    await server.logged("No route found for path 'nowhere/else/'.")
    log = server.output[before:]
    assert log.count("No route found for path") == 2
    assert "Traceback" not in log


async def test_lifespan_is_no_error(server: Running) -> None:
    await server.ask("/flooded/")
    for word in ("unsupported", "lifespan", "No application configured"):
        assert word not in server.output
