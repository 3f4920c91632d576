"""Whose an asyncio task is: the scope's in whose code it was created, or a library's."""

import asyncio
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from greenroom.bridges.asyncio import call_app, open_hosted_loop
from greenroom.bridges.asyncio._tasks import GREENROOM, LIBRARIES

# A pool as libraries write them: whoever needs it first starts what serves all.
POOL = """\
import asyncio

class Pool:
    def __init__(self):
        self.worker = None
        self.asked = asyncio.Event()
        self.served = 0

    def ask(self):
        if self.worker is None:
            self.worker = asyncio.create_task(self.work())
            self.idle = asyncio.ensure_future(asyncio.sleep(3600))
        self.asked.set()

    async def work(self):
        while True:
            # Up to Python 3.11 a task of the standard library's own is made for this.
            await asyncio.wait_for(self.asked.wait(), 3600)
            self.asked.clear()
            self.served += 1
"""


def load(code: str, file: str) -> dict[str, Any]:
    """Run `code` as if it were in `file`."""
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(code), file, "exec"), names)
    return names


async def _nothing(*_: Any) -> Any:
    raise AssertionError


async def as_scope(fn: Callable[[], Any]) -> None:
    """Run `fn` as the application of one scope, to its end."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await fn()

    await call_app(app, {"type": "test"}, _nothing, _nothing)


async def test_what_a_library_starts_in_the_code_of_a_scope_outlives_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Pool = load(POOL, LIBRARIES[0] + "pool.py")["Pool"]  # noqa: N806
    async with open_hosted_loop() as loop:
        pool: Any = None

        async def first() -> None:
            nonlocal pool
            pool = Pool()
            pool.ask()
            await asyncio.sleep(0)

        async def next_one() -> None:
            pool.ask()
            await asyncio.sleep(0.001)

        await as_scope(first)
        assert not pool.worker.done()
        await as_scope(next_one)
        await as_scope(next_one)
        assert pool.served == 3
        assert not pool.idle.done()
        await loop.run_asyncio(asyncio.sleep, 0)
        assert caplog.messages == []


@pytest.mark.parametrize("file", ["/srv/project/chat/pool.py", GREENROOM + "bridges/pool.py"])
async def test_what_the_project_or_greenroom_starts_there_ends_with_it(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    Pool = load(POOL, file)["Pool"]  # noqa: N806
    async with open_hosted_loop():

        async def first() -> None:
            pools.append(Pool())
            pools[0].ask()
            await asyncio.sleep(0)

        pools: list[Any] = []
        await as_scope(first)
        assert pools[0].worker.cancelled()
        assert pools[0].idle.cancelled()
    assert all("is cancelled, since the scope" in line for line in caplog.messages)
    assert len(caplog.messages) >= 2


def test_greenroom_is_no_library_of_somebody_else_although_it_may_be_installed() -> None:
    assert sys.modules["greenroom"].__file__ == GREENROOM + "__init__.py"
