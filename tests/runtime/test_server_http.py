import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from tests.runtime.serving import StartSite, get

from greenroom.runtime import (
    Access,
    ClientDisconnected,
    LocalProtocolError,
    Message,
    Receive,
    Scope,
    Send,
)

OK = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(OK)
    await send(body(b"hello"))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's body, part by part."""
    await send(OK)
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send(body(message["body"], more=more))


async def test_two_requests_on_one_connection_are_answered_in_order(start_site: StartSite) -> None:
    async def tell_path(scope: Scope, receive: Receive, send: Send) -> None:
        await send(OK)
        await send(body(scope["path"].encode()))

    site = await start_site(tell_path)
    async with await site.connect() as client:
        await client.send(get("/first"))
        assert (await client.receive_until(b"/first")).startswith(b"HTTP/1.1 200 OK\r\n")
        await client.send(get("/second"))
        await client.receive_until(b"/second")


async def test_pipelined_requests_are_answered_one_after_the_other(start_site: StartSite) -> None:
    running = 0

    async def alone(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await trio.testing.wait_all_tasks_blocked()
        running -= 1
        await send(OK)
        await send(body(scope["path"].encode()))

    site = await start_site(alone)
    async with await site.connect() as client:
        answers = await client.ask(get("/1") + get("/2") + get("/3", "Connection: close"))
    assert [answers.find(path) for path in (b"/1", b"/2", b"/3")] == sorted(
        answers.find(path) for path in (b"/1", b"/2", b"/3")
    )
    assert answers.count(b"HTTP/1.1 200 OK") == 3


async def test_a_pipelined_body_goes_to_its_own_request(start_site: StartSite) -> None:
    site = await start_site(echo)
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    async with await site.connect() as client:
        answers = await client.ask(post + b"one" + post + b"two" + get("/", "Connection: close"))
    assert answers.index(b"one") < answers.index(b"two")


async def test_the_scope_says_what_was_asked(start_site: StartSite) -> None:
    scopes: list[Scope] = []

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await hello(scope, receive, send)

    site = await start_site(record, root_path="/mount")
    async with await site.connect() as client:
        await client.ask(get("/caf%C3%A9?a=%20b", "X-One: 1", "Connection: close"))
    [scope] = scopes
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["method"] == "GET"
    assert scope["scheme"] == "http"
    assert scope["http_version"] == "1.1"
    assert scope["root_path"] == "/mount"
    assert scope["path"] == "/mount/café"
    assert scope["raw_path"] == b"/mount/caf%C3%A9"
    assert scope["query_string"] == b"a=%20b"
    assert (b"x-one", b"1") in scope["headers"]
    assert scope["server"] == ("127.0.0.1", site.port)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["state"] == {}


async def test_a_chunked_body_is_streamed_both_ways(start_site: StartSite) -> None:
    site = await start_site(echo)
    async with await site.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        assert b"transfer-encoding: chunked" in await client.receive_until(b"3\r\nabc\r\n")
        await client.send(b"2\r\nde\r\n")
        await client.receive_until(b"2\r\nde\r\n")
        await client.send(b"0\r\n\r\n")
        await client.receive_until(b"0\r\n\r\n")


async def test_a_waiting_client_is_told_to_continue_when_the_application_wants_the_body(
    start_site: StartSite,
) -> None:
    site = await start_site(echo)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with await site.connect() as client:
        await client.send(request)
        assert await client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"ok")
        await client.receive_until(b"ok")


async def test_a_waiting_client_is_not_told_to_continue_when_it_is_refused_first(
    start_site: StartSite,
) -> None:
    site = await start_site(hello)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with await site.connect() as client:
        answer = await client.ask(request)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"100" not in answer


async def test_head_gets_no_body(start_site: StartSite) -> None:
    site = await start_site(hello)
    async with await site.connect() as client:
        answer = await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"content-length: 5" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_an_unread_response_holds_its_application_back(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    sent = 0

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(OK)
        while True:
            await send(body(b"x" * 10_000, more=True))
            sent += 1

    site = await start_site(endless)
    client = site.connect_in_memory()
    await client.send(get())
    await trio.testing.wait_all_tasks_blocked()
    held_at = sent
    assert 1 <= held_at <= 20  # 64 KiB and what is under way
    await client.stream.receive_some(200_000)
    await trio.testing.wait_all_tasks_blocked()
    assert sent > held_at


async def test_an_application_that_does_not_ask_for_the_body_holds_its_client_back(
    start_site: StartSite, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    go_on = trio.Event()
    taken = 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await go_on.wait()
        more = True
        while more:
            message = await receive()
            taken += len(message["body"])
            more = message["more_body"]
        await send(OK)
        await send(body(b"done"))

    site = await start_site(slow)
    client = site.connect_in_memory()
    size, uploaded = 2_000_000, 0

    async def upload() -> None:
        nonlocal uploaded
        await client.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        while uploaded < size:
            await client.send(b"x" * 10_000)
            uploaded += 10_000

    nursery.start_soon(upload)
    await trio.testing.wait_all_tasks_blocked()
    assert uploaded < 500_000
    go_on.set()
    await client.receive_until(b"done")
    assert taken == size


async def test_an_application_that_waits_learns_that_its_client_has_left(
    start_site: StartSite,
) -> None:
    events: list[str] = []
    left = trio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        events.extend([(await receive())["type"] for _ in range(3)])
        left.set()

    site = await start_site(wait)
    async with await site.connect() as client:
        await client.send(get())
        await trio.testing.wait_all_tasks_blocked()
    await left.wait()
    assert events == ["http.request", "http.disconnect", "http.disconnect"]


async def test_sending_to_a_client_that_has_left_raises_an_os_error(start_site: StartSite) -> None:
    raised: list[BaseException] = []
    ended = trio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send(OK)
        try:
            while True:
                await send(body(b"x" * 10_000, more=True))
        except OSError as error:
            raised.append(error)
            ended.set()
            raise

    site = await start_site(endless)
    async with await site.connect() as client:
        await client.send(get())
        await client.receive_some()
    await ended.wait()
    assert isinstance(raised[0], ClientDisconnected)


async def test_a_client_that_only_closed_its_sending_side_still_gets_its_answer(
    start_site: StartSite,
) -> None:
    site = await start_site(hello)
    async with await site.connect() as client:
        await client.send(get())
        assert isinstance(client.stream, trio.abc.HalfCloseableStream)
        await client.stream.send_eof()
        assert (await client.receive_all()).endswith(b"hello")


async def test_waiting_for_the_end_of_an_answered_request_ends_with_the_answer(
    start_site: StartSite,
) -> None:
    events: list[str] = []

    async def answer_beside_a_watcher(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            while (kind := (await receive())["type"]) != "http.disconnect":
                events.append(kind)
            events.append(kind)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            await hello(scope, receive, send)

    site = await start_site(answer_beside_a_watcher)
    async with await site.connect() as client:
        await client.ask(get("/", "Connection: close"))
    assert events == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\n"
            b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"400",
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_a_malformed_request_is_refused_and_the_connection_closed(
    start_site: StartSite, request_bytes: bytes, status: bytes
) -> None:
    site = await start_site(hello)
    async with await site.connect() as client:
        answer = await client.ask(request_bytes)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer
    assert b"Traceback" not in answer


async def test_a_malformed_request_is_refused_after_the_one_before_it_was_answered(
    start_site: StartSite,
) -> None:
    site = await start_site(hello)
    async with await site.connect() as client:
        answers = await client.ask(get() + b"nonsense\r\n\r\n")
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" in answers


async def test_a_broken_body_is_refused_and_the_application_told(start_site: StartSite) -> None:
    last: list[str] = []

    async def read_on(scope: Scope, receive: Receive, send: Send) -> None:
        while (kind := (await receive())["type"]) != "http.disconnect":
            pass
        last.append(kind)

    site = await start_site(read_on)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with await site.connect() as client:
        answer = await client.ask(head + b"nonsense\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert last == ["http.disconnect"]


async def raise_group() -> None:
    raise ExceptionGroup("two at once", [ValueError("one"), ExceptionGroup("in it", [KeyError(2)])])


async def raise_asyncio_cancelled() -> None:
    raise asyncio.CancelledError


async def raise_strange() -> None:
    class StrangeError(BaseException):
        pass

    raise StrangeError


async def raise_from_a_nursery() -> None:
    async def fail() -> None:
        raise RuntimeError("in a child")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await trio.sleep_forever()


@pytest.mark.parametrize(
    "fail", [raise_group, raise_asyncio_cancelled, raise_strange, raise_from_a_nursery]
)
async def test_a_crash_of_any_kind_is_a_500_logged_once_and_touches_nobody_else(
    start_site: StartSite, caplog: pytest.LogCaptureFixture, fail: Callable[[], Awaitable[None]]
) -> None:
    go_on = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/crash":
            await fail()
        await go_on.wait()
        await hello(scope, receive, send)

    site = await start_site(app)
    async with await site.connect() as neighbour, await site.connect() as client:
        await neighbour.send(get())
        answer = await client.ask(get("/crash"))
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"Traceback" not in answer
        go_on.set()
        await neighbour.receive_until(b"hello")
        async with await site.connect() as another:
            await another.ask(get("/", "Connection: close"))
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "http GET /crash of 127.0.0.1" in errors[0].getMessage()
    assert errors[0].exc_info is not None


async def test_a_crash_in_the_middle_of_a_response_cuts_it_off(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send(OK)
        await send(body(b"half", more=True))
        raise RuntimeError("in the middle")

    site = await start_site(half)
    async with await site.connect() as client:
        answer = await client.ask(get())
    assert answer.endswith(b"4\r\nhalf\r\n")  # no last chunk: the client sees that it is not whole
    assert "in the middle" in caplog.text


async def test_an_application_that_returns_without_an_answer_gives_500_and_a_log_line(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    site = await start_site(nothing)
    async with await site.connect() as client:
        assert (await client.ask(get())).startswith(b"HTTP/1.1 500")
    assert "returned from http GET / of 127.0.0.1" in caplog.text


async def test_an_application_that_breaks_a_rule_of_asgi_is_told_which(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[LocalProtocolError] = []

    async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(body(b"before the start"))
        except LocalProtocolError as error:
            raised.append(error)
        await hello(scope, receive, send)

    site = await start_site(wrong)
    async with await site.connect() as client:
        assert (await client.ask(get("/", "Connection: close"))).endswith(b"hello")
    assert "http.response.start" in str(raised[0])


async def test_an_idle_connection_is_closed_after_the_keep_alive_timeout(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    site = await start_site(hello, keep_alive_timeout=7)
    client = site.connect_in_memory()
    await client.send(get())
    await client.receive_until(b"hello")
    began = trio.current_time()
    assert await client.receive_all() == b""
    assert 7 <= trio.current_time() - began <= 9


async def test_a_head_that_never_ends_is_answered_by_408(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    site = await start_site(hello, head_timeout=7)
    client = site.connect_in_memory()
    began = trio.current_time()
    await client.send(b"GET / HTTP/1.1\r\n")
    assert (await client.receive_all()).startswith(b"HTTP/1.1 408")
    assert 7 <= trio.current_time() - began <= 9


async def test_a_request_that_takes_too_long_gets_503_and_its_application_is_cancelled(
    start_site: StartSite,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cancelled: list[Message] = []
    told: list[Access] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                cancelled.append(await receive())

    site = await start_site(slow, request_timeout=7, on_access=told.append)
    client = site.connect_in_memory()
    began = trio.current_time()
    answer = await client.ask(get())
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"took too long" in answer
    assert 7 <= trio.current_time() - began <= 9
    assert cancelled == [{"type": "http.disconnect"}]
    assert [(access.step, access.status) for access in told] == [("response", 503)]
    assert [record.levelname for record in caplog.records if record.exc_info] == []


async def test_an_answer_that_takes_too_long_is_cut_off(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[Access] = []

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send(OK)
        while True:
            await send(body(b"x", more=True))
            await trio.sleep(1)

    site = await start_site(stream, request_timeout=7, on_access=told.append)
    client = site.connect_in_memory()
    began = trio.current_time()
    answer = await client.ask(get())
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")
    assert 7 <= trio.current_time() - began <= 9
    assert [(access.step, access.status) for access in told] == [("response", 200)]
    while site.server.scopes:
        await trio.testing.wait_all_tasks_blocked()


async def test_whoever_answers_too_late_is_told_that_nobody_waits(
    start_site: StartSite,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: list[Exception] = []

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        try:
            await hello(scope, receive, send)
        except ClientDisconnected as error:
            raised.append(error)
            raise

    site = await start_site(stubborn, request_timeout=7)
    client = site.connect_in_memory()
    await client.send(get())
    await client.receive_until(b"503")
    await trio.sleep(20)
    assert len(raised) == 1
    assert site.server.scopes == 0
    assert [record.levelname for record in caplog.records if record.exc_info] == []


async def test_each_request_of_a_connection_has_its_own_time(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    async def prompt(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(5)
        await hello(scope, receive, send)

    site = await start_site(prompt, request_timeout=7, keep_alive_timeout=100)
    client = site.connect_in_memory()
    for _ in range(3):
        await client.send(get())
        await client.receive_until(b"hello")
        await trio.sleep(5)


async def test_a_stop_lets_a_running_request_finish_and_then_closes(
    start_site: StartSite,
) -> None:
    go_on = trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await hello(scope, receive, send)

    site = await start_site(slow)
    async with await site.connect() as client, await site.connect() as idle:
        await client.send(get())
        await trio.testing.wait_all_tasks_blocked()
        site.server.stop()
        assert await idle.receive_all() == b""
        go_on.set()
        answer = await client.receive_all()
    assert b"connection: close" in answer
    assert answer.endswith(b"hello")


async def test_a_stop_cancels_and_names_what_does_not_end_in_time(
    nursery: trio.Nursery,
    start_site: StartSite,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def forever(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    site = await start_site(forever, graceful_timeout=10)
    client = site.connect_in_memory()
    await client.send(get("/slow"))
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    site.server.stop()
    answer = await client.receive_all()
    assert trio.current_time() - began <= 10
    assert not answer or answer.startswith(b"HTTP/1.1 50")
    assert "http GET /slow of 127.0.0.1:5000" in caplog.text


async def test_a_slow_client_that_reads_on_gets_everything(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    whole = b"x" * 4_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(OK)
        await send(body(whole))

    site = await start_site(app, keep_alive_timeout=5, close_timeout=5, write_timeout=30)
    client = site.connect_in_memory()
    await client.send(get("/", "Connection: close"))
    received = 0
    while part := await client.receive_some():
        received += len(part)
        await trio.sleep(20)
    assert received >= len(whole)


async def test_a_client_that_stops_reading_is_dropped(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    raised: list[Exception] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(OK)
        try:
            while True:
                await send(body(b"x" * 100_000, more=True))
        except ClientDisconnected as error:
            raised.append(error)

    site = await start_site(app, write_timeout=30)
    client = site.connect_in_memory()
    await client.send(get())
    await trio.sleep(25)
    assert not raised
    await trio.sleep(10)
    assert raised


async def test_an_answer_that_comes_before_the_body_says_that_the_connection_closes(
    start_site: StartSite,
) -> None:
    site = await start_site(hello)
    async with await site.connect() as client:
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    assert b"connection: close" in answer
    assert answer.endswith(b"hello")


@pytest.mark.parametrize(
    ("error", "words"),
    [(SystemExit(5), "sys.exit(5)"), (GeneratorExit(), "the application raised GeneratorExit")],
)
@pytest.mark.parametrize("in_nursery", [False, True])
async def test_what_would_end_the_program_ends_one_request(
    error: BaseException,
    words: str,
    *,
    in_nursery: bool,
    start_site: StartSite,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise error

    async def leave(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/exit":
            await hello(scope, receive, send)
        elif in_nursery:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(trio.sleep_forever)
        else:
            await fail()

    site = await start_site(leave)
    async with await site.connect() as client:
        assert (await client.ask(get("/exit"))).startswith(b"HTTP/1.1 500")
    async with await site.connect() as client:
        assert (await client.ask(get("/", "Connection: close"))).endswith(b"hello")
    assert words in caplog.text


async def test_a_path_cannot_forge_a_line_of_the_log(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("in the application")

    site = await start_site(crash)
    async with await site.connect() as client:
        await client.ask(get("/a%0aFORGED%1b[31m"))
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert r"/a\nFORGED\x1b[31m" in record.getMessage()


async def test_a_refused_request_leaves_a_line_in_the_log(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = await start_site(hello)
    async with await site.connect() as client:
        await client.ask(b"nonsense\r\n\r\n")
    assert "refused a connection of 127.0.0.1" in caplog.text
    assert ": 400 " in caplog.text
