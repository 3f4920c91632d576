"""What `manage.py check` says of a project that lists `greenroom.bridges.django`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import CheckMessage, registry, run_checks
from django.test import override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from greenroom.bridges.django._checks import check_asgi_application

OURS = "greenroom.bridges.django"
STATICFILES = "django.contrib.staticfiles"
OTHERS = [name for name in settings.INSTALLED_APPS if name != STATICFILES]


@pytest.fixture(autouse=True)
def no_checks_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django never forgets a check, and the applications register theirs in each test."""
    monkeypatch.setattr(registry.registry, "registered_checks", set())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import from."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(folder: Path, path: str, content: str = "") -> None:
    file = folder / path
    for each in reversed(file.relative_to(folder).parents[:-1]):
        (folder / each).mkdir(exist_ok=True)
        (folder / each / "__init__.py").touch()
    file.write_text(content)


def said(*applications: str, **more: Any) -> list[CheckMessage]:
    """What the checks of Greenroom say of these applications, above all others."""
    more.setdefault("ASGI_APPLICATION", f"{__name__}.project")
    with override_settings(INSTALLED_APPS=[*applications, *OTHERS], **more):
        return [each for each in run_checks() if str(each.id).startswith("greenroom.")]


def ids(*applications: str, **more: Any) -> list[str | None]:
    return [each.id for each in said(*applications, **more)]


def of_path(path: object) -> list[str | None]:
    return ids(OURS, ASGI_APPLICATION=path)


def test_applications_in_order_or_without_static_files_are_fine() -> None:
    assert ids(OURS, STATICFILES) == []
    assert ids(OURS) == []


def test_the_runserver_of_static_files_above_ours_is_an_error() -> None:
    [error] = said(STATICFILES, OURS)
    assert error.id == "greenroom.E001"
    with override_settings(INSTALLED_APPS=[STATICFILES, OURS, *OTHERS]):
        assert [each.id for each in run_checks(tags=["staticfiles"])] == ["greenroom.E001"]


@pytest.mark.parametrize(("first", "winner"), [("daphne", "daphne's"), (OURS, "Greenroom's")])
def test_daphne_beside_ours_is_a_warning_that_tells_whose_runserver_it_is(
    project: Path, first: str, winner: str
) -> None:
    # Not daphne itself, which would install its reactor in this process.
    write(project, "daphne/management/commands/runserver.py", "raise ImportError('too early')")
    second = {"daphne": OURS, OURS: "daphne"}[first]
    [warning] = said(first, second)
    assert warning.id == "greenroom.W002"
    assert f"`runserver` is {winner}" in warning.msg


def test_a_runserver_of_somebody_else_above_ours_is_a_warning(project: Path) -> None:
    source = "from django.core.management.commands.runserver import Command as Command"
    write(project, "their_tools/management/commands/runserver.py", source)
    assert ids("their_tools", OURS) == ["greenroom.W003"]
    assert ids(OURS, "their_tools") == []


def test_a_runserver_that_extends_ours_or_that_fails_is_left_alone(project: Path) -> None:
    source = f"from {OURS}.management.commands.runserver import Command as Command"
    write(project, "its_tools/management/commands/runserver.py", source)
    assert ids("its_tools", OURS) == []
    write(project, "broken_tools/management/commands/runserver.py", "raise ImportError")
    assert ids("broken_tools", OURS) == []


def test_no_asgi_application_is_a_warning_as_another_command_may_serve_the_project() -> None:
    assert of_path(None) == ["greenroom.W001"]
    with override_settings(INSTALLED_APPS=[OURS, *OTHERS]):
        assert [each.id for each in check_asgi_application()] == ["greenroom.W001"]


@pytest.mark.parametrize("path", ["", "application", "a..b", ".a", "a.b.", "a b.c", 5, [], b"a.b"])
def test_what_is_no_dotted_path_is_an_error(path: object) -> None:
    assert of_path(path) == ["greenroom.E002"]


def test_a_colon_instead_of_a_dot_is_told_to_be_one() -> None:
    [error] = said(OURS, ASGI_APPLICATION="project.asgi:application")
    assert "here it is a dot" in str(error.hint)


@pytest.mark.parametrize(
    "path", ["no_such_project.asgi.app", "website.asgi.app.deeper", "website.no_asgi.app"]
)
def test_a_module_that_is_not_there_is_an_error(project: Path, path: str) -> None:
    write(project, "website/asgi.py", "app = 1")
    assert of_path(path) == ["greenroom.E003"]


@pytest.mark.parametrize(
    "source",
    [
        "app = 1",
        "app: object = 1",
        "from somewhere import app",
        "import somewhere as app",
        "def app(): ...",
        "class app: ...",
        "async def app(scope, receive, send): ...",
        "if True:\n    app = 1",
        "try:\n    import app\nexcept ImportError:\n    app = None",
        "with open('x') as app: ...",
        "for app in (): ...",
        "from somewhere import *",
        "def __getattr__(name): ...",
        "globals()['app'] = 1",
        "this is no Python",
    ],
)
def test_a_name_that_is_there_or_might_be_is_fine_and_nothing_is_imported(
    project: Path, source: str
) -> None:
    write(project, "website/asgi.py", "raise_at_import()\n" + source)
    assert of_path("website.asgi.app") == []
    assert "website" not in sys.modules


@pytest.mark.parametrize("source", ["", "application = 1", "print(app)", "def f():\n    app = 1"])
def test_a_name_that_is_not_there_is_an_error(project: Path, source: str) -> None:
    write(project, "website/asgi.py", source)
    assert of_path("website.asgi.app") == ["greenroom.E004"]
    assert "website" not in sys.modules


def test_of_a_module_that_is_imported_its_names_count_and_not_its_source(project: Path) -> None:
    write(project, "website/asgi.py", "app = 1\ndel app")
    assert of_path("website.asgi.app") == []
    __import__("website.asgi")
    assert of_path("website.asgi.app") == ["greenroom.E004"]


def test_a_name_may_be_a_module_below(project: Path) -> None:
    write(project, "website/asgi/app.py")
    assert of_path("website.asgi.app") == []


def test_finders_that_fail_let_the_check_say_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def find_spec(self, *_: object) -> None:
            raise RuntimeError("not now")

    monkeypatch.setattr(sys, "meta_path", [Failing()])
    with override_settings(ASGI_APPLICATION="website.asgi.app"):
        assert check_asgi_application() == []


parts = st.text("a.:-_ä\n0", max_size=6)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.none()
    | st.integers()
    | st.binary(max_size=3)
    | st.lists(parts, max_size=2)
    | parts
    | st.tuples(parts, parts).map(lambda two: f"tests.{two[0]}.{two[1]}")
)
def test_whatever_asgi_application_is_the_check_says_something_and_never_fails(
    path: object,
) -> None:
    with override_settings(ASGI_APPLICATION=path):
        messages = check_asgi_application()
    assert all(isinstance(each, CheckMessage) for each in messages)
    assert messages, "none of these is an application"
