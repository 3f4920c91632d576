"""`manage.py runworker`: its command line, and workers in processes of their own."""

import json
import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings
from tests.bridges.channels.shop import Shop, Start, gather, starting
from tests.bridges.channels.working import Asyncio, AsyncioLayer

from greenroom.bridges.channels.layers import channel_layers
from greenroom.bridges.channels.management.commands import runworker
from greenroom.bridges.channels.routing import ChannelNameRouter, ProtocolTypeRouter
from greenroom.bridges.channels.worker import Worker


@pytest.fixture
def shop(tmp_path: Path, valkey_url: str) -> Shop:
    backend = {
        "BACKEND": "tests.bridges.channels.valkey_layer.ValkeyLayer",
        "CONFIG": {"url": valkey_url, "prefix": uuid.uuid4().hex},
    }
    return Shop(tmp_path, valkey_url, backend)


@pytest.fixture
async def start(shop: Shop) -> AsyncIterator[Start]:
    async with starting(shop) as start:
        yield start


def send(shop: Shop, channel: str, numbers: range, kind: str) -> None:
    config = json.loads(shop.environment["LAYER"])["CONFIG"]
    rows = [json.dumps({"type": f"job.{kind}", "number": number}) for number in numbers]
    shop.client.rpush(config["prefix"] + channel, *rows)


@pytest.mark.timeout(120)
async def test_no_job_is_handled_twice_or_lost_but_by_a_killed_process(
    shop: Shop, start: Start
) -> None:
    count, marker = 300, 1000
    running = await gather(
        partial(start, "jobs", "--concurrency", "4"),
        partial(start, "jobs", "--concurrency", "4"),
        partial(start, "jobs"),
    )
    stopped, killed, left = running
    send(shop, "jobs", range(count), "run")

    begun: list[tuple[int, int]] = []

    async def read(number: int) -> None:
        while len(begun) < number:
            begun.append(await shop.next("begun"))

    await read(80)
    stopped.process.send_signal(signal.SIGTERM)
    await read(160)
    killed.process.kill()
    assert await stopped.end() == 0
    await killed.end()
    send(shop, "jobs", range(marker, marker + 1), "run")
    while begun[-1][1] != marker:
        begun.append(await shop.next("begun"))
    assert await left.stop() == 0
    ended = shop.all("ended")

    assert {process for process, _ in begun} == {command.process.pid for command in running}
    numbers = [number for _, number in begun]
    assert len(set(numbers)) == len(numbers), "some job was handled twice"
    assert len(set(ended)) == len(ended)
    lost = set(range(count)) - {number for _, number in ended}
    assert len(lost) <= 4  # what the killed process had in hand
    assert {process for process, number in begun if number in lost} <= {killed.process.pid}
    for command in (stopped, left):
        assert "cancels" not in command.output
    # Of jobs that failed: the stopped process may have had none.
    assert "Traceback" in stopped.output + left.output


@pytest.mark.timeout(120)
async def test_at_sigterm_running_jobs_are_finished_and_the_others_stay_in_the_layer(
    shop: Shop, start: Start
) -> None:
    running = await start("jobs", "--concurrency", "2")
    send(shop, "jobs", range(5), "block")
    await shop.next("begun")
    await shop.next("begun")
    running.process.send_signal(signal.SIGTERM)
    line = await running.line("stopping")
    assert line == (
        "SIGTERM: stopping, within 25 s for channel jobs (job.block), channel jobs (job.block)"
    )
    shop.go_on(5)
    assert await running.end() == 0
    assert {number for _, number in shop.all("ended")} == {0, 1}
    layer = json.loads(shop.environment["LAYER"])["CONFIG"]["prefix"] + "jobs"
    assert shop.client.llen(layer) == 3
    assert running.output.splitlines() == ["Running worker for channels ['jobs']", line]


@pytest.mark.timeout(120)
async def test_what_does_not_end_in_time_is_named_and_cancelled_and_threads_keep_nobody_alive(
    shop: Shop, start: Start
) -> None:
    running = await start("jobs", "threads", "--graceful-timeout", "0.1")
    send(shop, "jobs", range(1), "block")
    send(shop, "threads", range(1), "hang")
    await shop.next("begun")
    await shop.next("begun")
    running.process.send_signal(signal.SIGINT)
    await running.line(
        "It was told to stop 0.1 s ago, so the worker cancels what it handles: "
        r"channel jobs \(job.block\), channel threads \(job.hang\)"
    )
    await running.line(r"still running: channel threads \(job.hang\); its threads are here")
    assert await running.end() == 1
    assert "time.sleep" not in running.output.split("its threads are here")[0]


@pytest.mark.timeout(120)
async def test_with_reload_a_worker_runs_the_newest_code_until_ctrl_c(
    shop: Shop, start: Start
) -> None:
    running = await start("jobs", "--reload")
    send(shop, "jobs", range(1), "run")
    first, _ = await shop.next("ended")
    source = shop.folder / "shop" / "asgi.py"
    source.write_text(source.read_text().replace("message['number']}", "message['number'] + 100}"))
    await running.line("Running worker", times=2)
    send(shop, "jobs", range(1, 2), "run")
    second, number = await shop.next("ended")
    assert second != first != running.process.pid
    assert number == 101
    os.killpg(running.process.pid, signal.SIGINT)  # as a terminal's Ctrl+C, to both processes
    assert await running.end() == 0
    assert "Traceback" not in running.output


def fake_worker(calls: list[Any]) -> Any:
    class Fake:
        def __init__(self, **arguments: Any) -> None:
            calls.append((self, arguments))

        def run(self) -> None:
            calls.append("run")

    return Fake


class Configured(runworker.Command):
    worker_class: ClassVar[Any] = None


def call(*arguments: str, **options: Any) -> list[Any]:
    """Call the command with a worker that only tells how it was made."""
    calls: list[Any] = []
    command = Configured()
    command.worker_class = fake_worker(calls)  # type: ignore[misc]
    call_command(command, *arguments, **options)
    return calls


APPLICATION = "tests.bridges.channels.working.Asyncio"


@override_settings(ASGI_APPLICATION=APPLICATION)
def test_a_worker_class_is_made_with_channels_arguments_and_then_told_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = AsyncioLayer()
    channel_layers.set("other", layer)
    with caplog.at_level(logging.INFO, "django.channels.worker"):
        calls = call("a", "b", "--layer", "other", "--concurrency", "3", "--graceful-timeout", "2")
    (worker, arguments), ran = calls
    assert arguments.pop("application").__name__ == "Asyncio"
    assert arguments == {"channels": ["a", "b"], "channel_layer": layer}
    assert ran == "run"
    assert (worker.concurrency, worker.graceful_timeout) == (3, 2)
    assert caplog.messages == ["Running worker for channels ['a', 'b']"]
    channel_layers.backends.pop("other")


@override_settings(ASGI_APPLICATION=APPLICATION)
def test_unless_told_otherwise_a_worker_keeps_order_and_stops_before_kubernetes_kills_it() -> None:
    channel_layers.set("default", AsyncioLayer())
    (worker, _), _ = call("a")
    assert (worker.concurrency, worker.graceful_timeout) == (1, 25)
    worker = Worker(AsyncioLayer, ["a"], AsyncioLayer())  # type: ignore[arg-type]
    assert (worker.concurrency, worker.graceful_timeout) == (1, 25)


def test_the_command_s_own_worker_class_is_channels_worker() -> None:
    assert runworker.Command.worker_class is Worker


@override_settings(CHANNEL_LAYERS={})
def test_without_channel_layers_there_is_nothing_to_run() -> None:
    channel_layers.backends.clear()
    with pytest.raises(CommandError, match=r"^You do not have any CHANNEL_LAYERS configured\.$"):
        call("jobs")


LAYERS_BY_ALIAS = {
    "default": {"BACKEND": "greenroom.bridges.channels.layers.InMemoryChannelLayer"},
    "real": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    "broken": {"BACKEND": "nowhere.Layer"},
    "valkey": {
        "BACKEND": "tests.bridges.channels.valkey_layer.ValkeyLayer",
        "CONFIG": {"url": "redis://127.0.0.1:1"},
    },
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer=absent", "a"], "CHANNEL_LAYERS has no layer 'absent'; it has 'default', 'real'"),
        (["a"], "The channel layer 'default' is in memory, so no other process can send to this"),
        (["--layer=real", "a"], "The channel layer 'real' is in memory"),
        (["--layer=broken", "a"], "specified for broken: No module named 'nowhere'"),
        (["--layer=valkey", "a b"], "'a b' is no name of a channel: Channel name must be"),
        (["--concurrency=0", "a"], "--concurrency: it must be a whole number, 1 or more, not '0'"),
        (["--concurrency=x", "a"], "--concurrency: it must be a whole number, 1 or more, not 'x'"),
        (["--graceful-timeout=-1", "a"], "it must be a number of seconds, 0 or more, not '-1'"),
        (["--graceful-timeout=nan", "a"], "it must be a number of seconds, 0 or more, not 'nan'"),
        ([], "the following arguments are required: channels"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: list[str], message: str) -> None:
    with override_settings(CHANNEL_LAYERS=LAYERS_BY_ALIAS):
        channel_layers.backends.clear()
        with pytest.raises(CommandError) as failure:
            call(*arguments)
    assert message in str(failure.value)


NAMES = ChannelNameRouter({"jobs": Asyncio.as_asgi()})


@pytest.mark.parametrize(
    ("application", "missing"),
    [
        (ProtocolTypeRouter({"channel": NAMES}), "'mails'"),
        (ProtocolTypeRouter({"http": Asyncio.as_asgi()}), "'jobs', 'mails'"),
        (ProtocolTypeRouter({"channel": Asyncio.as_asgi()}), None),  # nobody can know
        (NAMES, None),
    ],
)
def test_a_channel_that_nothing_handles_is_named_before_its_messages_are_lost(
    application: Any, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel_layers.set("default", AsyncioLayer())
    monkeypatch.setattr(runworker, "get_default_application", lambda: application)
    if missing is None:
        assert call("jobs", "mails")[-1] == "run"
        return
    with pytest.raises(CommandError, match=f"ASGI_APPLICATION has no consumer for {missing}, so"):
        call("jobs", "mails")


@override_settings(ASGI_APPLICATION=None)
def test_a_project_without_an_application_is_told_so() -> None:
    channel_layers.set("default", AsyncioLayer())
    with pytest.raises(CommandError, match=r"^Cannot find ASGI_APPLICATION setting\.$"):
        call("a")


@override_settings(ASGI_APPLICATION="nowhere.application")
def test_an_application_that_is_not_found_shows_why() -> None:
    channel_layers.set("default", AsyncioLayer())
    with pytest.raises(ImproperlyConfigured, match="Cannot import ASGI_APPLICATION") as failure:
        call("a")
    assert isinstance(failure.value.__cause__, ImportError)
