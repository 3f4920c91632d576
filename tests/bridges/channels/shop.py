"""A project with a worker in processes of its own, for tests of `manage.py runworker`."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import redis
import trio
from tests.commands import PATIENCE
from tests.projects import write_project

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[3]

# A project whose jobs tell of themselves through two lists of the server: begun and ended.
PROJECT = {
    "shop/__init__.py": "",
    "shop/settings.py": """
import json, os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only for tests"
DEBUG = True
INSTALLED_APPS = [os.environ["CHANNELS"], "shop"]
ASGI_APPLICATION = "shop.asgi.application"
CHANNEL_LAYERS = {"default": json.loads(os.environ["LAYER"])}
""",
    "shop/asgi.py": """
import asyncio, os, sys, time
from importlib import import_module
import redis, redis.asyncio
consumer = import_module(os.environ["CHANNELS"] + ".consumer")
routing = import_module(os.environ["CHANNELS"] + ".routing")
book = redis.Redis.from_url(os.environ["VALKEY"])
name = os.environ["BOOK"]

def note(what, message):
    book.rpush(name + what, f"{os.getpid()} {message['number']}")

class Jobs(consumer.AsyncConsumer):
    async def job_run(self, message):
        note("begun", message)
        await asyncio.sleep(0.002)
        note("ended", message)
        if message["number"] % 10 == 3:
            raise OSError("no disk")

    async def job_block(self, message):
        note("begun", message)
        go_on = redis.asyncio.Redis.from_url(os.environ["VALKEY"], socket_timeout=None)
        await go_on.blpop([name + "go on"], timeout=0)
        note("ended", message)
        await go_on.aclose()

class Threads(consumer.SyncConsumer):
    def job_hang(self, message):
        note("begun", message)
        time.sleep(3600)

application = routing.ProtocolTypeRouter({
    "channel": routing.ChannelNameRouter({"jobs": Jobs.as_asgi(), "threads": Threads.as_asgi()}),
})
""",
}


class Shop:
    """The project in a folder, with a book of its own in the server."""

    def __init__(self, folder: Path, url: str, backend: dict[str, Any]) -> None:
        write_project(folder, "shop", PROJECT)
        self.name = uuid.uuid4().hex
        self.folder = folder
        self.client: Any = redis.Redis.from_url(url, socket_timeout=PATIENCE)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / ".src"), str(ROOT)]),
            "PYTHONUNBUFFERED": "1",
            "VALKEY": url,
            "BOOK": self.name,
            "LAYER": json.dumps(backend),
            "CHANNELS": "greenroom.bridges.channels",
        }

    async def next(self, what: str) -> tuple[int, int]:
        """Wait for the next job that has begun, or ended; give its process and number."""
        popped = await trio.to_thread.run_sync(
            lambda: self.client.blpop([self.name + what], timeout=PATIENCE)
        )
        assert popped is not None, f"no job has {what} for {PATIENCE} s"
        process, number = popped[1].split()
        return int(process), int(number)

    def all(self, what: str) -> list[tuple[int, int]]:
        """Give what has happened and was not waited for."""
        rows = self.client.lrange(self.name + what, 0, -1)
        return [(int(row.split()[0]), int(row.split()[1])) for row in rows]

    def go_on(self, times: int) -> None:
        self.client.rpush(self.name + "go on", *range(times))


class Running:
    """A worker's process; what it writes is read all the time, so that it never waits for us."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.output = ""
        self._more = trio.Event()
        self._closed = False

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for part in self.process.stdout:
            self.output += bytes(part).decode()
            self._tell()
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        self._more.set()
        self._more = trio.Event()

    async def line(self, pattern: str, times: int = 1) -> str:
        """Wait until `pattern` is found in so many lines, and give the last of them."""
        with trio.fail_after(PATIENCE):
            while True:
                found = [line for line in self.output.splitlines() if re.search(pattern, line)]
                if len(found) >= times:
                    return found[-1]
                assert not self._closed, f"no line with {pattern!r} in:\n{self.output}"
                await self._more.wait()

    async def end(self) -> int:
        with trio.fail_after(PATIENCE):
            while not self._closed:
                await self._more.wait()
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.end()


Start = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def starting(shop: Shop) -> AsyncIterator[Start]:
    """Give what starts the project's `runworker`, and waits until it says so."""
    started: list[Running] = []

    async def start(*arguments: str, ready: str = "Running worker", **environment: str) -> Running:
        process = await trio.lowlevel.open_process(
            [sys.executable, "manage.py", "runworker", *arguments],
            cwd=shop.folder,
            env={**shop.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        command = Running(process)
        started.append(command)
        nursery.start_soon(command.read)
        await command.line(ready)
        return command

    async with trio.open_nursery() as nursery:
        try:
            yield start
        finally:
            for command in started:
                print(command.output)
                if command.process.poll() is None:
                    os.killpg(command.process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await command.end()


async def gather(*calls: Callable[[], Awaitable[T]]) -> list[T]:
    """Make all calls at once, and give their results in order."""
    results: dict[int, T] = {}

    async def call(at: int) -> None:
        results[at] = await calls[at]()

    async with trio.open_nursery() as nursery:
        for at in range(len(calls)):
            nursery.start_soon(call, at)
    return [results[at] for at in range(len(calls))]
