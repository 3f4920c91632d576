"""From "module:attribute" to an application, and whose fault it is when there is none."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenroom.runtime.loading import ApplicationNotLoaded, load_application

numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Write a module under a name of its own; both names and paths are forgotten afterwards."""
    before = sys.modules.copy()
    path = sys.path.copy()

    def write(source: str) -> str:
        name = f"loaded_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    sys.path[:] = path
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


Write = Callable[[str], str]
APP = "async def application(scope, receive, send): ...\n"


def failure_of(target: str, folder: Path, *, factory: bool = False) -> ApplicationNotLoaded:
    with pytest.raises(ApplicationNotLoaded) as failure:
        load_application(target, factory=factory, app_dir=folder)
    return failure.value


def test_a_named_application_is_imported_from_the_given_folder(
    write: Write, tmp_path: Path
) -> None:
    name = write(APP)
    app = load_application(f"{name}:application", app_dir=tmp_path)
    assert app is sys.modules[name].application
    load_application(f"{name}:application", app_dir=tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_an_attribute_may_be_nested(write: Write, tmp_path: Path) -> None:
    name = write("class Site:\n    @staticmethod\n    async def app(scope, receive, send): ...\n")
    load_application(f"{name}:Site.app", app_dir=tmp_path)


def test_a_factory_is_called(write: Write, tmp_path: Path) -> None:
    name = write(APP + "def make():\n    return application\n")
    app = load_application(f"{name}:make", factory=True, app_dir=tmp_path)
    assert app is sys.modules[name].application


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("project.asgi", "such as project.asgi:application"),
        ("project/asgi.py", "such as project.asgi:application"),
        ("project/asgi.py:app", "name the module, not its file: project.asgi:app"),
        (":app", "module:attribute"),
        ("project:", "module:attribute"),
        ("", "module:attribute"),
    ],
)
def test_a_malformed_target_shows_the_right_form(target: str, why: str, tmp_path: Path) -> None:
    assert why in str(failure_of(target, tmp_path))


@pytest.mark.parametrize("target", ["no_such_module:app", "no_such_package.asgi:app"])
def test_a_missing_module_is_the_caller_s_mistake_without_a_traceback(
    target: str, tmp_path: Path
) -> None:
    failure = failure_of(target, tmp_path)
    assert f"there is no module 'no_such_{target[8:].split(':')[0].split('.')[0]}'" in str(failure)
    assert str(tmp_path) in str(failure)
    assert failure.traceback() == ""


def test_a_missing_import_is_told_apart_from_a_module_whose_name_begins_like_it(
    write: Write, tmp_path: Path
) -> None:
    name = write("import loaded\n")
    assert f"{name} imports 'loaded', which is missing" in str(failure_of(f"{name}:app", tmp_path))


def test_a_missing_import_inside_the_module_is_the_module_s_mistake_with_its_line(
    write: Write, tmp_path: Path
) -> None:
    name = write("import no_such_module\n")
    failure = failure_of(f"{name}:app", tmp_path)
    assert f"{name} imports 'no_such_module', which is missing" in str(failure)
    shown = failure.traceback()
    assert f'{name}.py", line 1' in shown
    assert "importlib" not in shown
    assert "loading.py" not in shown


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("1 / 0\n", "raised ZeroDivisionError: division by zero"),
        ("def app(:\n", "raised SyntaxError"),
        ("import sys\nsys.exit('no settings')\n", "called sys.exit('no settings')"),
    ],
)
def test_whatever_an_import_raises_is_kept_as_the_cause(
    source: str, why: str, write: Write, tmp_path: Path
) -> None:
    name = write(source)
    failure = failure_of(f"{name}:app", tmp_path)
    assert why in str(failure)
    assert f"{name}.py" in failure.traceback()


def test_an_error_raised_from_another_shows_both(write: Write, tmp_path: Path) -> None:
    inner = write("raise KeyError('SECRET_KEY')\n")
    name = write(
        f"try:\n    import {inner}\n"
        "except KeyError as error:\n    raise RuntimeError('settings') from error\n"
    )
    shown = failure_of(f"{name}:app", tmp_path).traceback()
    assert "SECRET_KEY" in shown
    assert "RuntimeError: settings" in shown
    assert "importlib" not in shown


@pytest.mark.parametrize(
    ("attribute", "hint"),
    [("aplication", "did you mean 'application'?"), ("app", "'application'?"), ("x.y", "'x'")],
)
def test_a_missing_attribute_suggests_a_near_or_usual_name(
    attribute: str, hint: str, write: Write, tmp_path: Path
) -> None:
    assert hint in str(failure_of(f"{write(APP)}:{attribute}", tmp_path))


@pytest.mark.parametrize(
    ("source", "factory", "why"),
    [
        ("app = 7\n", False, "it is of type int, which can't be called"),
        ("app = 7\n", True, "a factory must be callable, and this is of type int"),
        ("def app(): return 7\n", True, "what the factory returned is of type int"),
        ("def app(): 1 / 0\n", True, "the factory raised ZeroDivisionError"),
        ("async def app(): ...\n", True, "not async"),
        ("def app(): ...\n", False, "add --factory"),
        ("class app:\n    def __init__(self, *a): ...\n", False, "instances can't be awaited"),
        ("class app:\n    def as_asgi(self): ...\n", False, "what its as_asgi() returns"),
        ("def app(environ, start_response): ...\n", False, "looks like a WSGI application"),
        ("async def app(scope): ...\n", False, "can't be called with (scope, receive, send)"),
        ("def app(a, b, c, d): ...\n", False, "can't be called with (scope, receive, send)"),
    ],
)
def test_what_is_no_application_is_told_apart(
    source: str, factory: bool, why: str, write: Write, tmp_path: Path
) -> None:
    assert why in str(failure_of(f"{write(source)}:app", tmp_path, factory=factory))


async def test_an_application_of_asgi_2_is_wrapped(write: Write, tmp_path: Path) -> None:
    name = write(
        "class app:\n"
        "    def __init__(self, scope): self.scope = scope\n"
        "    async def __call__(self, receive, send): await send(self.scope)\n"
    )
    app = load_application(f"{name}:app", app_dir=tmp_path)
    sent = []

    async def receive() -> dict[str, object]:
        raise AssertionError("not called")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await app({"type": "http"}, receive, send)
    assert sent == [{"type": "http"}]


def test_an_error_speaks_of_neither_factory_nor_folder_where_there_is_no_such_choice(
    write: Write, tmp_path: Path
) -> None:
    name = write("def app(): ...\n")
    failure_of(f"{name}:app", tmp_path)  # whose folder is on sys.path now
    for target in (f"{name}:app", "no_such_module:app"):
        with pytest.raises(ApplicationNotLoaded) as failure:
            load_application(target, factory=None, app_dir=None)
        assert "--factory" not in str(failure.value)
        assert "elsewhere" not in str(failure.value)


def test_a_class_made_with_scope_receive_and_send_is_taken_if_its_instances_can_be_awaited(
    write: Write, tmp_path: Path
) -> None:
    name = write(
        "class app:\n"
        "    def __init__(self, scope, receive, send): ...\n"
        "    def __await__(self): yield\n"
    )
    app = load_application(f"{name}:app", app_dir=tmp_path)
    assert app is sys.modules[name].app
