"""What the documents show is run, and what they name exists."""

import difflib
import json
import re
import shutil
import subprocess
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click
import pytest
from django.core.management.base import BaseCommand
from django.core.management.commands import check
from tests.examples.moving.conftest import installed_project
from tests.examples.moving.restaurant import MOVING, Restaurant

from greenroom.bridges.channels.exceptions import ChannelFull
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer
from greenroom.bridges.channels.layers import get_channel_layer
from greenroom.bridges.channels.management.commands import runworker
from greenroom.bridges.channels.testing import WebsocketCommunicator
from greenroom.bridges.command._run import run
from greenroom.bridges.django.management.commands import runserver

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
GUIDE = (ROOT / "docs/moving-from-channels.md").read_text()
DIFFERENCES = (ROOT / "docs/differences-from-channels.md").read_text()


def blocks(language: str) -> list[str]:
    """Give the guide's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def difference(before: Path, after: Path, name: str) -> str:
    """Give the lines that differ between two projects, file by file."""
    lines: list[str] = []
    for old in sorted(before.rglob("*.py")):
        file = old.relative_to(before)
        lines += difflib.unified_diff(
            old.read_text().splitlines(),
            (after / file).read_text().splitlines(),
            f"before/{file}",
            f"{name}/{file}",
            n=0,
            lineterm="",
        )
    return "".join(f"{line}\n" for line in lines if not line.startswith("@@"))


# -- the guide, on the restaurant


def test_the_commands_make_the_project_that_was_moved_out_of_the_one_before(tmp_path: Path) -> None:
    project = shutil.copytree(MOVING / "before", tmp_path / "project")
    subprocess.run(["bash", "-euc", blocks("sh")[0]], cwd=project, check=True)
    for file in (MOVING / "after").rglob("*.py"):
        assert (project / file.relative_to(MOVING / "after")).read_text() == file.read_text()


SETTINGS = [  # what the commands change is marked by an @
    "INSTALLED_APPS = ['@daphne', 'channels_presence', \"@channels\", 'my_channels']",
    "INSTALLED_APPS: list[str] = [  # by need (!)\n  '@daphne',  # first (!)\n  '@channels',\n]",
    "THIRD_PARTY_APPS = (\n    *(['toolbar'] if DEBUG else []),\n    '@channels')",
    "INSTALLED_APPS = ['@daphne',\n                  '@channels']",
    "INSTALLED_APPS += ['@daphne.apps.DaphneConfig', '@channels.apps.ChannelsConfig']",
    "LAYER = '@channels.layers.InMemoryChannelLayer'",
    "IGNORE = ['@channels.exceptions.ChannelFull', \"@channels.layers.Other\"]",
    "if True:\n    from @channels import layers",
    '"CONFIG": {"hosts": ["redis://r"], "prefix": "channels"}',
    '    "prefix": "channels",',
    '    "prefix": os.environ.get("PREFIX", "channels"),',
    '    "prefix": "channels.eu",',
    '    "daphne": {"handlers": ["console"]},',
    '    "channels": {"handlers": ["console"]},\n    "channels.server": {},',
    '    "django.channels.server": {},',
    'for name in ("daphne", "channels"):\n    logging.getLogger(name)',
    "REDIS = 'channels_redis.core.RedisChannelLayer'",
    "from channels_redis import core",
    "INSTALLED_APPS = DJANGO_APPS + THIRD_PARTY_APPS\nPREFIXES = [\n    'channels',\n]",
    "# INSTALLED_APPS = [\nPREFIXES = [\n    'channels',\n]",
]


@pytest.mark.parametrize("file", ["settings.py", "settings_local.py", "settings/base.py"])
def test_the_commands_change_apps_and_paths_of_classes_and_nothing_else(
    file: str, tmp_path: Path
) -> None:
    settings = tmp_path / "kitchen" / file
    settings.parent.mkdir(parents=True)
    (tmp_path / "kitchen" / "asgi.py").touch()
    installed = tmp_path / ".venv" / "site-packages" / "presence.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("from channels import layers\n")
    text = "\n".join([*SETTINGS, *SETTINGS])
    settings.write_text(text.replace("@", ""))
    subprocess.run(["bash", "-euc", blocks("sh")[0]], cwd=tmp_path, check=True)
    moved = re.sub(r"@daphne(\.apps\.DaphneConfig)?", "greenroom.bridges.django", text)
    assert settings.read_text() == moved.replace("@channels", "greenroom.bridges.channels")
    assert installed.read_text() == "from channels import layers\n"


def test_a_redis_layer_stands_on_the_real_channels_in_a_project_that_says_greenroom() -> None:
    core = import_module("channels_redis.core")
    assert core.ChannelFull is import_module("channels.exceptions").ChannelFull
    assert core.ChannelFull is not ChannelFull
    assert not hasattr(core.RedisChannelLayer, "sync")


def test_the_differences_that_are_shown_are_all_there_are(tmp_path: Path) -> None:
    before = MOVING / "before"
    installed = installed_project(tmp_path / "project")
    assert blocks("diff") == [
        difference(before, MOVING / "after", "after"),
        difference(before, installed, "installed"),
    ]


def test_the_settings_are_those_of_the_project() -> None:
    def flat(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    [shown] = [block for block in blocks("python") if block.startswith("CHANNEL_LAYERS")]
    settings = (MOVING / "after" / "kitchen" / "settings.py").read_text()
    assert flat(shown) in flat(settings)


def test_the_test_in_virtual_time_passes_in_the_project(tmp_path: Path) -> None:
    [shown] = [block for block in blocks("python") if "virtual_time" in block]
    project = shutil.copytree(MOVING / "after", tmp_path / "project")
    (project / "kitchen" / "tests.py").write_text(shown)
    with Restaurant(project, tmp_path / "kitchen.sqlite3") as restaurant:
        said = restaurant.run("-W", "error", "manage.py", "test")
    assert "Ran 1 test" in said


async def test_a_room_is_closed_by_a_message_of_its_own_type_and_not_by_another() -> None:
    [shown] = [block for block in blocks("python") if "RoomConsumer" in block]
    names: dict[str, Any] = {"AsyncWebsocketConsumer": AsyncWebsocketConsumer, "Any": Any}
    exec(shown, names)
    messages = re.findall(r'{"type": "[a-z.]+", "code": 4000}', GUIDE)
    refused, closing = map(json.loads, messages)
    layer: Any = get_channel_layer()
    async with WebsocketCommunicator(names["RoomConsumer"].as_asgi(), "/") as guest:
        await guest.connect()
        await layer.group_send("room", closing)
        closed = await guest.receive_output()
        assert (closed["type"], closed["code"]) == ("websocket.close", 4000)
    another = WebsocketCommunicator(names["RoomConsumer"].as_asgi(), "/")
    await another.connect()
    await layer.group_send("room", refused)
    with pytest.raises(ValueError, match=r"No handler for message type websocket\.disconnect"):
        await another.receive_output()


def test_names_below_channels_are_the_same_here() -> None:
    for name in (
        *("apps", "auth", "consumer", "db", "exceptions", "generic.http", "generic.websocket"),
        *("layers", "middleware", "routing", "security.websocket", "sessions", "testing"),
        *("utils", "worker", "management.commands.runworker"),
    ):
        ours = import_module(f"greenroom.bridges.channels.{name}")
        theirs = import_module(f"channels.{name}")
        defined = {
            each
            for each, value in vars(theirs).items()
            if getattr(value, "__module__", "") == theirs.__name__ and each[0] != "_"
        }
        assert {each for each in defined if not hasattr(ours, each)} == set(), name


# -- commands


def commands() -> list[str]:
    """Give every command that the guide shows, but those that move the project."""
    lines = "".join(blocks("sh")[1:]).splitlines()
    in_tables = re.findall(r"`((?:greenroom|daphne|python|uvicorn) [^`]+)`", GUIDE)
    return [*lines, *in_tables]


def takes(command: click.Command | BaseCommand, arguments: list[str]) -> None:
    """Let a command read its arguments."""
    if isinstance(command, BaseCommand):
        command.create_parser("manage.py", "command").parse_args(arguments)
    else:
        command.make_context("run", arguments)


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_guide_exists(line: str) -> None:
    match line.split():
        case ["greenroom", "run"]:
            pass
        case ["greenroom", "run", *arguments]:
            takes(run, arguments)
        case ["python", "manage.py", "runworker", *arguments]:
            takes(runworker.Command(), arguments)
        case ["python", "manage.py", "check", *arguments]:
            takes(check.Command(), arguments)
        case ["pip", "install", "'.[django]'"]:
            assert "\ndjango = [" in (ROOT / "pyproject.toml").read_text()
        case ["daphne", *arguments]:
            daphne = import_module("daphne.cli").CommandLineInterface()
            daphne.parser.parse_args(arguments)
        case ["uvicorn" | "hypercorn", *_, "kitchen.asgi:application"]:
            pass
        case _:
            pytest.fail(f"the guide shows {line!r}, which this test does not know")


# -- what they name


def code_in(text: str) -> list[str]:
    """Give what stands in backticks outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


@cache
def options() -> set[str]:
    """Give the options of all commands that the documents speak of."""
    known = {each for option in run.params for each in (*option.opts, *option.secondary_opts)}
    for command in (runserver.Command(), runworker.Command(), check.Command()):
        known |= set(command.create_parser("manage.py", "command")._option_string_actions)
    daphne = import_module("daphne.cli").CommandLineInterface()
    return known | set(daphne.parser._option_string_actions)


NOT_THERE = {"--workers"}  # named because it is missing


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.stem)
def test_an_option_that_a_document_names_exists(document: Path) -> None:
    named = {
        option
        for code in code_in(document.read_text())
        if not code.startswith("grep")
        for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", code)
    }
    assert named - options() - NOT_THERE == set()


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.stem)
def test_what_a_document_says_of_our_modules_is_there(document: Path) -> None:
    for name in re.findall(r"\bgreenroom(?:\.\w+)+", " ".join(code_in(document.read_text()))):
        if f'"{name}"' not in code_of_ours():  # a logger, or a check
            resolve_name(name)


@cache
def code_of_ours() -> str:
    """Give the code of all our packages."""
    return read_all(*(ROOT / package for package in ("actors", "runtime", "bridges")))


def read_all(*folders: Path) -> str:
    """Give the code below folders."""
    return "\n".join(path.read_text() for each in folders for path in each.rglob("*.py"))


def folder_of(package: str) -> Path:
    """Give where a package is installed."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


# What is Django's, Python's or the environment's.
ELSEWHERE = {
    *(
        "ALLOWED_HOSTS",
        "AUTHENTICATION_BACKENDS",
        "LOGGING",
        "SECRET_KEY_FALLBACKS",
        "ASGI_THREADS",
    ),
    *(
        "DAPHNE_",
        "GREENROOM_",
        "privateKey",
        "certKey",
        "INSTALLED_APPS",
        "SESSION_",
        "AttributeError",
        "KeyError",
        "RuntimeError",
        "TypeError",
    ),
    *(
        "THIRD_PARTY_APPS",
        "ValueError",
        "TimeoutError",
        "CancelledError",
        "asyncio",
        "create_task",
        "except",
        "grep",
    ),
}


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.stem)
def test_a_word_of_code_in_a_document_is_a_word_of_the_code(document: Path) -> None:
    """Only for words that can be nothing else: with an underscore, or a capital inside."""
    others = ("channels", "channels_redis", "daphne", "redis")
    code = code_of_ours() + read_all(*map(folder_of, others), MOVING / "before")
    known = set(re.findall(r"\w+", code)) | ELSEWHERE
    named = {
        word
        for each in code_in(document.read_text())
        for word in re.findall(r"[A-Za-z_]\w+", each)
        if re.search(r"_|[a-z][A-Z]|^[A-Z]{2,}", word) and word[0] != "_"
    }
    assert named - known == set()


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.stem)
def test_a_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            made = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
            assert anchor in made, target


def test_every_row_of_the_differences_says_what_and_why() -> None:
    rows = [line for line in DIFFERENCES.splitlines() if line.startswith("|")]
    assert len(rows) > 50
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3, row
        assert all(cells), row


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    assert {path.name for path in DOCS if f"({path.name})" not in index} == {"README.md"}
