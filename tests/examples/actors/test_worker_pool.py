"""The worker pool of the examples: whoever crashes, every job is done, or given up by rule."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
import trio
import trio.testing
from examples.actors import worker_pool
from examples.actors.worker_pool import ATTEMPTS, Summary, Work, pool
from hypothesis import given, settings

from greenroom.actors import (
    Actor,
    ActorRef,
    ActorRestarted,
    ActorStarted,
    ActorSystem,
    AskError,
    ChildSpec,
    open_actor_system,
)
from greenroom.actors.testing import (
    Plan,
    Simulation,
    crashing,
    every_cancellation,
    every_crash,
    plans,
    simulate,
)


class Site:
    """Pages that fail as often as said, and who has asked for them at what time."""

    def __init__(self, failures: dict[str, int]) -> None:
        self.failures = Counter(failures)
        self.visits: Counter[str] = Counter()
        self.times: list[float] = []

    async def fetch(self, page: str) -> str:
        self.visits[page] += 1
        self.times.append(trio.current_time())
        await trio.sleep(1)
        if self.visits[page] <= self.failures[page]:
            raise ConnectionError(page)
        return page.upper()


async def order(system: ActorSystem, jobs: Iterable[str]) -> Summary:
    summary = await system.registry.require("dispatcher").ask(Work(tuple(jobs)))
    assert isinstance(summary, Summary)
    return summary


async def test_every_page_is_done_or_given_up_after_the_attempts_that_it_has(
    autojump_clock: trio.testing.MockClock,
) -> None:
    failures = {"a": 0, "b": 1, "c": ATTEMPTS - 1, "d": ATTEMPTS, "e": 0}
    site = Site(failures)
    async with open_actor_system("test", root=[pool(site.fetch)]) as system:
        summary = await order(system, failures)
    assert summary == Summary({"a": "A", "b": "B", "c": "C", "e": "E"}, ["d"])
    assert site.visits == {"a": 1, "b": 2, "c": ATTEMPTS, "d": ATTEMPTS, "e": 1}


async def test_a_worker_that_crashed_pauses_longer_each_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    site = Site({"page": ATTEMPTS})
    async with open_actor_system("test", root=[pool(site.fetch, size=1)]) as system:
        await order(system, ["page"])
    pauses = [
        later - earlier - 1 for earlier, later in zip(site.times, site.times[1:], strict=False)
    ]
    assert pauses == sorted(pauses)
    # Up to a fifth is added by chance.
    assert pauses == [pytest.approx(pause * 1.1, rel=0.1) for pause in (0.05, 0.1, 0.2)]


async def test_orders_are_done_one_after_the_other(autojump_clock: trio.testing.MockClock) -> None:
    summaries: dict[str, Summary] = {}

    async def work(jobs: str) -> None:
        summaries[jobs] = await order(system, jobs)

    root = [pool(Site({"b": 1}).fetch)]
    async with open_actor_system("test", root=root) as system, trio.open_nursery() as nursery:
        for jobs in ("abc", "", "de"):
            nursery.start_soon(work, jobs)
    assert {jobs: "".join(sorted(summary.done)) for jobs, summary in summaries.items()} == {
        "abc": "abc",
        "": "",
        "de": "de",
    }


async def test_a_job_is_not_lost_on_a_worker_that_died_while_it_was_idle(
    autojump_clock: trio.testing.MockClock,
) -> None:
    site = Site({})
    workers: list[ActorRef[str]] = []
    async with open_actor_system("test") as system:
        system.events.subscribe(ActorStarted, lambda event: workers.append(event.ref))
        assert await system.spawn(pool(site.fetch)).wait_started()
        await trio.testing.wait_all_tasks_blocked()
        # Jobs go to the last first, who do not take them.
        for worker in [ref for ref in workers if "worker-" in ref.path][1:]:
            worker.kill()
            await worker.join()
        with trio.fail_after(60):
            summary = await order(system, "ab")
        assert len(system.dead_letters.recent) == 2
    assert summary == Summary({"a": "A", "b": "B"})
    assert site.visits == {"a": 1, "b": 1}


# -- In the simulator: schedules, crashes before and after each message, and kills.

JOBS = ("0a", "0b", "1", "2", "9")  # begin with how often each fails


def crashing_spec(name: str, factory: Callable[..., Actor[Any]], **settings: Any) -> ChildSpec:
    spec = ChildSpec(name, factory, **settings | {"intensity": 100})
    return spec if name in ("pool", "workers") else crashing(spec)


@dataclass
class Day:
    """What became of an order."""

    site: Site
    summary: Summary = field(default_factory=Summary)
    restarts: Counter[str] = field(default_factory=Counter)


async def order_until_it_is_done() -> Day:
    """Order again if the dispatcher crashes."""
    day = Day(Site({job: int(job[0]) for job in JOBS}))
    with patch.object(worker_pool, "ChildSpec", crashing_spec):
        root = [pool(day.site.fetch)]
    async with open_actor_system("test", root=root) as system:
        system.events.subscribe(ActorRestarted, lambda event: day.restarts.update([event.ref.path]))
        while True:
            with suppress(AskError):
                day.summary = await order(system, JOBS)
                return day


def check(run: Simulation[Day]) -> None:
    assert run.tasks_left == ()
    day = run.value
    if day is not None:
        crashes = len(tuple(run.plan.crashes))
        mishaps = crashes + (run.plan.cancel_at is not None)
        assert sorted([*day.summary.done, *day.summary.given_up]) == sorted(JOBS)
        assert all(day.summary.done[job] == job.upper() for job in day.summary.done)
        for job in day.summary.given_up:
            assert day.site.visits[job] + mishaps >= ATTEMPTS
            assert int(job[0]) + mishaps >= ATTEMPTS
        assert day.restarts["/test/pool/dispatcher"] <= crashes


def test_no_job_is_lost_by_a_crash_at_any_point() -> None:
    for run in every_crash(order_until_it_is_done):
        check(run)
        assert run.value is not None


@pytest.mark.parametrize("target", [None, "/test/pool/workers/worker-1"])
def test_no_job_is_lost_by_a_cancellation_at_any_step(target: str | None) -> None:
    for run in every_cancellation(order_until_it_is_done, target=target):
        check(run)
        assert run.cancelled or run.value is not None


@given(
    plans(
        decisions=400, crash_points=100, checkpoints=400, targets=("/test/pool/workers/worker-2",)
    )
)
@settings(deadline=None)
def test_no_job_is_lost(plan: Plan) -> None:
    check(simulate(order_until_it_is_done, plan=plan))


async def test_the_example_shows_crashes_and_what_comes_out(
    autojump_clock: trio.testing.MockClock,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "greenroom")
    await worker_pool.main()
    assert capsys.readouterr().out.splitlines() == [
        "done: page-0 page-1 page-2 page-3",
        "given up: page-9",
    ]
    crashes = [record for record in caplog.records if "restarted" in record.message]
    assert len(crashes) == 1 + 2 + 3 + ATTEMPTS
    said = "".join(record.message for record in crashes)
    assert said.count("Crash: ConnectionError: page-1 is down") == 1
    assert not any(record.exc_info for record in caplog.records)
