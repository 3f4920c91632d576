"""Static files in front of any ASGI application."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from tests.bridges.django.exchange import Exchange, World

from greenroom.bridges.django.static import StaticFiles


@pytest.fixture(autouse=True)
def application_with_static_files() -> Iterator[None]:
    """The admin is installed, and no other application has static files."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "django.contrib.admin"]):
        yield


async def other(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The application behind; written for asyncio, as most are."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def test_a_static_file_of_an_installed_application_is_served(world: World) -> None:
    got = Exchange("/static/admin/css/base.css").run(StaticFiles(other), world)
    assert got.status == 200
    assert got.header("Content-Type") == ["text/css"]
    assert b":root" in got.content


def test_a_file_that_the_client_has_is_not_sent_again(world: World) -> None:
    app = StaticFiles(other)
    first = Exchange("/static/admin/css/base.css").run(app, world)
    since = first.header("Last-Modified")[0].encode()
    again = Exchange("/static/admin/css/base.css", headers=[(b"if-modified-since", since)])
    assert (again.run(app, world).status, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("name", "status"), [("no/such/file.css", 404), ("../settings.py", 400), ("", 404)]
)
def test_a_file_that_is_not_there_or_is_outside_is_refused(
    world: World, name: str, status: int
) -> None:
    assert Exchange(f"/static/{name}").run(StaticFiles(other), world).status == status


@pytest.mark.parametrize("path", ["/", "/statically/", "/x/static/admin/css/base.css"])
def test_every_other_path_is_the_other_applications(world: World, path: str) -> None:
    got = Exchange(path).run(StaticFiles(other), world)
    assert (got.status, got.content) == (299, path.encode())


def test_a_static_url_on_another_host_is_left_to_that_host(world: World) -> None:
    with override_settings(STATIC_URL="https://static.example/static/"):
        assert Exchange("/static/a.css").run(StaticFiles(other), world).status == 299
