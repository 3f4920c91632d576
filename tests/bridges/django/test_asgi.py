"""`get_asgi_application()`: Django's pages, under trio and under asyncio."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf.urls.i18n import i18n_patterns
from django.core import signals
from django.db import connection, connections, transaction
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.test import override_settings
from django.urls import include, path, reverse
from django.utils import translation
from django.utils.decorators import async_only_middleware, sync_only_middleware
from hypothesis import given
from hypothesis import strategies as st
from tests.bridges.django.exchange import Exchange, Pages, World
from tests.django_project.models import Log

from greenroom.bridges.asyncio import current_hosted_loop
from greenroom.bridges.django.asgi import get_asgi_application
from greenroom.runtime import Receive, Scope, Send, speaks


def ask(view: Callable[..., Any], world: World, **exchange: Any) -> Exchange:
    """Let a project whose one page is `view` answer one request."""
    with override_settings(ROOT_URLCONF=Pages(path("", view, name="page"))):
        return Exchange(**exchange).run(get_asgi_application(), world)


# What views see, and what clients get.


def test_a_view_answers_through_the_middleware(world: World) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        response = HttpResponse(
            f"{request.method} {request.GET['q']} {request.user.is_authenticated}"
        )
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    got = ask(view, world, query=b"q=caf%C3%A9")
    assert (got.status, got.content.decode()) == (200, "GET café False")
    assert got.header("X-Frame-Options") == ["DENY"]
    assert got.header("Content-Length") == [str(len(got.content))]
    assert got.header("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]


def test_an_unknown_path_is_djangos_404(world: World) -> None:
    got = ask(lambda request: HttpResponse(), world, path="/nowhere/")
    assert got.status == 404
    assert b"<h1>Not Found</h1>" in got.content


def test_a_query_that_is_not_utf8_is_refused_with_400(world: World) -> None:
    assert ask(lambda request: HttpResponse(), world, query=b"q=\xff").status == 400


def test_an_error_in_a_view_is_logged_and_answered_with_500(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise LookupError("lost")

    got = ask(view, world)
    assert got.status == 500
    assert b"lost" not in got.content
    (record,) = [each for each in caplog.records if each.name == "django.request"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


def test_a_view_reverses_urls_below_the_root_path(world: World) -> None:
    got = ask(
        lambda request: HttpResponse(f"{request.path_info} {reverse('page')}"),
        world,
        path="/mounted/",
        root_path="/mounted",
    )
    assert got.content == b"/ /mounted/"


@given(
    body=st.binary(max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    memory=st.sampled_from([0, 10, 1000]),
)
def test_however_a_body_is_cut_the_view_reads_the_same(
    body: bytes, cuts: list[int], memory: int
) -> None:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [body[start:end] for start, end in pairwise(edges)]

    async def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.body)

    def sync_page(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.read())

    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=memory, MIDDLEWARE=[]):
        assert ask(sync_page, "asyncio", method="POST", body=parts).content == body
        assert ask(page, "asyncio", method="POST", body=parts).content == body


def test_an_upload_larger_than_memory_allows_reaches_the_view_as_a_file(world: World) -> None:
    size = 3_000_000  # FILE_UPLOAD_MAX_MEMORY_SIZE is 2.5 MiB

    def view(request: HttpRequest) -> HttpResponse:
        upload: Any = request.FILES["f"]
        return HttpResponse(f"{type(upload).__name__} {upload.size} {upload.read()[-3:]!r}")

    form = (
        b'--edge\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
        + b"x" * (size - 3)
        + b"end\r\n--edge--\r\n"
    )
    with override_settings(MIDDLEWARE=[]):
        got = ask(
            view,
            world,
            method="POST",
            headers=[
                (b"content-type", b"multipart/form-data; boundary=edge"),
                (b"content-length", str(len(form)).encode()),
            ],
            body=[form[at : at + 65536] for at in range(0, len(form), 65536)],
        )
    assert got.content.decode() == f"TemporaryUploadedFile {size} b'end'"


def test_a_client_that_leaves_before_its_body_is_there_reaches_no_view(world: World) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise AssertionError("called")

    assert ask(view, world, method="POST", body=[b"x"], complete=False).messages == []


def test_only_http_is_answered(world: World) -> None:
    class Lifespan(Exchange):
        @property
        def scope(self) -> dict[str, Any]:
            return {"type": "lifespan"}

    with pytest.raises(ValueError, match="not lifespan"):
        Lifespan().run(get_asgi_application(), world)


# One thread, one context, one connection.


threads_seen: list[str] = []


def note_thread(**_: Any) -> None:
    threads_seen.append(threading.current_thread().name)


@sync_only_middleware
def noting_middleware(get_response: Callable[..., Any]) -> Callable[..., Any]:
    def handle(request: HttpRequest) -> Any:
        note_thread()
        return get_response(request)

    return handle


@async_only_middleware
def async_middleware(get_response: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(request: HttpRequest) -> Any:
        await asyncio.sleep(0)
        response = await get_response(request)
        response["X-Async"] = "passed"
        return response

    return handle


SYNC_MIDDLEWARE = f"{__name__}.noting_middleware"
ASYNC_MIDDLEWARE = f"{__name__}.async_middleware"


@pytest.fixture
def noted_threads() -> Iterator[list[str]]:
    """Which threads a request's signals ran in, and whatever else calls `note_thread`."""
    threads_seen.clear()
    signals.request_started.connect(note_thread)
    signals.request_finished.connect(note_thread)
    yield threads_seen
    signals.request_started.disconnect(note_thread)
    signals.request_finished.disconnect(note_thread)


@override_settings(MIDDLEWARE=[SYNC_MIDDLEWARE])
def test_a_request_stays_in_one_leased_thread_from_its_first_signal_to_its_last(
    world: World, noted_threads: list[str]
) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        note_thread()
        return HttpResponse()

    ask(view, world)
    assert len(noted_threads) == 4
    assert len(set(noted_threads)) == 1
    assert noted_threads[0].startswith("greenroom-")


@pytest.mark.parametrize("order", [1, -1])
def test_middleware_of_either_kind_surrounds_views_of_either_kind(world: World, order: int) -> None:
    def sync_view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("sync")

    async def async_view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("async")

    with override_settings(MIDDLEWARE=[SYNC_MIDDLEWARE, ASYNC_MIDDLEWARE][::order]):
        for view, content in ((sync_view, b"sync"), (async_view, b"async")):
            got = ask(view, world)
            assert (got.content, got.header("X-Async")) == (content, ["passed"])


def test_a_language_activated_in_one_request_is_not_the_next_ones(world: World) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        before = translation.get_language()
        translation.activate("fr")
        return HttpResponse(f"{before} {translation.get_language()}")

    with override_settings(MIDDLEWARE=[]):
        for _ in range(3):
            assert ask(view, world).content == b"en-us fr"


def test_an_atomic_view_that_fails_writes_nothing(world: World, database: None) -> None:
    @transaction.atomic
    def view(request: HttpRequest) -> HttpResponse:
        Log.objects.create(type="lost")
        raise LookupError

    assert ask(view, world).status == 500
    assert not Log.objects.exists()


def test_a_view_that_leaves_a_transaction_open_does_no_harm_to_the_next(
    world: World, database: None, caplog: pytest.LogCaptureFixture
) -> None:
    def careless(request: HttpRequest) -> HttpResponse:
        transaction.atomic().__enter__()
        Log.objects.create(type="lost")
        return HttpResponse()

    def careful(request: HttpRequest) -> HttpResponse:
        Log.objects.create(type="kept")
        return HttpResponse()

    for view in (careless, careful, careful):
        ask(view, world)
    assert list(Log.objects.values_list("type", flat=True)) == ["kept", "kept"]
    assert "left open by http GET / of 127.0.0.1:50000: its" in caplog.text


# Synchronous streams.


def test_a_file_is_sent_whole_and_closed(world: World, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "data").write_bytes(data)
    files = []

    def view(request: HttpRequest) -> HttpResponseBase:
        files.append((tmp_path / "data").open("rb"))
        return FileResponse(files[0])

    got = ask(view, world)
    assert got.content == data
    assert got.header("Content-Length") == [str(len(data))]
    assert len(got.messages) == 2 + -(-len(data) // 65536)
    assert files[0].closed


def count_up(made: list[int]) -> Iterator[bytes]:
    try:
        for number in range(1000):
            made.append(number)
            yield b"%d " % number
    finally:
        made.append(-1)


async def acount_up(made: list[int]) -> AsyncIterator[bytes]:
    try:
        for number in range(1000):
            made.append(number)
            yield b"%d " % number
            await asyncio.sleep(0)
    finally:
        made.append(-1)


def streaming_view(content: Callable[[list[int]], Any], made: list[int], kind: str) -> Any:
    def view(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(content(made))

    async def async_view(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(content(made))

    return async_view if kind == "async" else view


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("content", [count_up, acount_up])
def test_a_stream_is_sent_part_by_part_as_it_is_made(
    world: World, content: Callable[..., Any], kind: str
) -> None:
    made: list[int] = []
    lead: list[int] = []  # how many parts were made when each was sent
    got = ask(
        streaming_view(content, made, kind),
        world,
        on_send=lambda message: lead.append(len(made)),
    )
    assert got.content == b"".join(b"%d " % number for number in range(1000))
    assert made == [*range(1000), -1]
    assert lead[1:1001] == list(range(1, 1001))


@pytest.mark.parametrize("tells_by", ["send", "receive"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("content", [count_up, acount_up])
def test_a_stream_ends_and_is_closed_when_the_client_leaves(
    world: World, content: Callable[..., Any], kind: str, tells_by: str
) -> None:
    if (world, kind, content, tells_by) == ("trio", "sync", count_up, "receive"):
        pytest.skip("a trio server's send raises, as ASGI 2.4 says")
    made: list[int] = []
    view = streaming_view(content, made, kind)
    got = ask(view, world, leaves_after=5, tells_by=tells_by)
    assert len(got.messages) == 5
    assert made[-1] == -1
    assert len(made) < 20


def test_an_error_of_a_stream_is_the_servers_to_see(world: World) -> None:
    def content() -> Iterator[bytes]:
        yield b"begun"
        raise FileNotFoundError("gone")

    with pytest.raises((FileNotFoundError, ExceptionGroup)) as failure:
        ask(lambda request: StreamingHttpResponse(content()), world)
    assert "gone" in repr(failure.value)


# Asynchronous views.


def test_an_async_view_runs_on_the_event_loop_and_its_queries_in_one_other_thread(
    world: World, database: None
) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await Log.objects.acreate(type="async")
        ident = sync_to_async(threading.get_ident)
        idents = {await ident() for _ in range(3)}
        assert threading.get_ident() not in idents
        where = "hosted" if current_hosted_loop() is asyncio.get_running_loop() else "own"
        return HttpResponse(f"{where} {len(idents)} {await Log.objects.acount()}")

    where = "hosted" if world == "trio" else "own"
    assert ask(view, world).content.decode() == f"{where} 1 1"


def test_async_requests_one_after_the_other_share_connections(
    world: World, database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    used: list[object] = []

    def use_connection() -> None:
        Log.objects.count()
        used.append(connection.connection)

    async def view(request: HttpRequest) -> HttpResponse:
        await sync_to_async(use_connection)()
        return HttpResponse()

    with override_settings(ROOT_URLCONF=Pages(path("", view))):
        app = get_asgi_application()
        for _ in range(10):
            Exchange().run(app, world)
    assert len(used) == 10
    # A request may begin before the thread of the last one is back.
    assert len(set(map(id, used))) <= 3


def test_a_transaction_that_an_async_view_leaves_open_is_rolled_back(
    world: World, database: None, caplog: pytest.LogCaptureFixture
) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await sync_to_async(transaction.atomic().__enter__)()
        await Log.objects.acreate(type="lost")
        return HttpResponse()

    assert ask(view, world).status == 200
    assert not Log.objects.exists()
    assert "left open by http GET / of 127.0.0.1:50000: its" in caplog.text


@pytest.fixture
def chains() -> Iterator[list[str]]:
    """Which handler answered each request: the sender of Django's `request_started`."""
    senders: list[str] = []

    def note(sender: type, **_: Any) -> None:
        senders.append(sender.__name__)

    signals.request_started.connect(note)
    yield senders
    signals.request_started.disconnect(note)


def test_only_a_request_for_an_async_view_takes_the_asynchronous_chain(
    world: World, chains: list[str]
) -> None:
    async def async_view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("async")

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("sync")

    nested = path("nested/", include([path("page/", async_view)]))
    with override_settings(ROOT_URLCONF=Pages(nested, path("plain/", view))):
        app = get_asgi_application()
        for page in ("/nested/page/", "/plain/", "/nowhere/"):
            Exchange(page).run(app, world)
    assert chains == ["AsyncHandler", "SyncChain", "SyncChain"]


def test_an_async_view_is_cancelled_when_the_client_leaves(world: World) -> None:
    ends: list[str] = []

    async def view(request: HttpRequest) -> HttpResponse:
        exchange.leave()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return HttpResponse()

    exchange = Exchange()
    with override_settings(ROOT_URLCONF=Pages(path("", view))):
        exchange.run(get_asgi_application(), world)
    assert exchange.messages == []
    assert ends == ["cancelled"]


@pytest.mark.parametrize("leaves", [False, True])
def test_an_async_view_is_cancelled_with_its_application_and_ends_before_it(
    world: World, leaves: bool, database: None, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()
    caplog.clear()  # of what the tests before have left
    ends: list[str] = []
    pages = get_asgi_application()

    @speaks("both")
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await pages(scope, receive, send)
        finally:
            ends.append("application")

    async def view(request: HttpRequest) -> HttpResponse:
        if leaves:
            exchange.leave()
        exchange.cancel()
        try:
            await asyncio.sleep(3600)
        finally:
            if not leaves:  # else Django 6 cancels it once more
                assert await Log.objects.filter(client="nobody").acount() == 0
            ends.append("view")
        return HttpResponse()

    exchange = Exchange()
    with override_settings(ROOT_URLCONF=Pages(path("", view))):
        exchange.run(application, world)
        gc.collect()
    assert exchange.messages == []
    assert ends == ["view", "application"]
    assert caplog.records == []


@override_settings(
    LANGUAGES=[("en", "English"), ("fr", "French")],
    MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"],
)
def test_an_async_view_below_a_language_prefix_is_found_in_each_language(
    world: World, chains: list[str]
) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(translation.get_language())

    for language in ("en", "fr"):
        with override_settings(ROOT_URLCONF=Pages(*i18n_patterns(path("page/", view)))):
            got = Exchange(f"/{language}/page/").run(get_asgi_application(), world)
        assert got.content.decode() == language
    assert chains == ["AsyncHandler", "AsyncHandler"]


def test_a_urlconf_that_cannot_be_imported_is_named_in_each_request(world: World) -> None:
    for _ in range(2):
        with (
            override_settings(ROOT_URLCONF="tests.no_such_urlconf"),
            pytest.raises((ModuleNotFoundError, ExceptionGroup)) as failure,
        ):
            Exchange().run(get_asgi_application(), world)
        assert "no_such_urlconf" in repr(failure.value)
