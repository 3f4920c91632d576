"""Supervisors at work: order, restarts, giving up, and the one deadline of a stop."""

import logging
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors import (
    INFINITY,
    Actor,
    AutoShutdown,
    Backoff,
    ChildEscalated,
    ChildSpec,
    Context,
    Crash,
    Directive,
    DynamicSupervisor,
    ExitReason,
    Restart,
    RestartsExhausted,
    Shutdown,
    Strategy,
    Supervisor,
    SupervisorClosed,
    SupervisorFull,
    open_actor_system,
    open_dynamic_supervisor,
)


class Worker(Actor[Any]):
    """Writes its name into a log; crashes when told to, ends when told to."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.log.append(f"+{self.name}")

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        await trio.sleep(message)

    async def stopped(self, reason: ExitReason) -> None:
        self.log.append(f"-{self.name}")


def worker(name: str, log: list[str], **options: Any) -> ChildSpec:
    return ChildSpec(name, lambda: Worker(name, log), **options)


def supervisor(*children: ChildSpec, **options: Any) -> ChildSpec:
    return ChildSpec("supervisor", lambda: Supervisor(children, **options))


@pytest.fixture
def quiet() -> Any:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_i15_children_start_in_order_each_when_the_one_before_is_ready_and_stop_in_reverse(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []

    class Slow(Worker):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep(3)
            await super().started(ctx, cause)

    slow = ChildSpec("slow", lambda: Slow("slow", log))
    async with open_actor_system("system", root=[slow, worker("quick", log)]) as system:
        assert log == ["+slow", "+quick"]
        assert [ref.path for ref in system.children] == ["/system/slow", "/system/quick"]
    assert log == ["+slow", "+quick", "-quick", "-slow"]


@given(
    st.sampled_from(Strategy),
    st.lists(st.sampled_from(Restart), min_size=1, max_size=4),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_i12_i13_i15_i16_i17_i19_a_crash_restarts_exactly_the_strategys_group_in_order(
    strategy: Strategy, restarts: list[Restart], crashed: int
) -> None:
    log: list[str] = []
    crashed %= len(restarts)
    names = [str(number) for number in range(len(restarts))]

    async def main() -> None:
        specs = [worker(name, log, restart=restarts[int(name)]) for name in names]
        keeper = Supervisor(specs, strategy=strategy)
        async with open_actor_system("system", root=[ChildSpec("keeper", lambda: keeper)]):
            refs = [*keeper.children]
            log.clear()
            refs[crashed].tell(OSError("gone"))
            await trio.testing.wait_all_tasks_blocked()
            first, last = crashed, crashed
            if restarts[crashed] is not Restart.TEMPORARY:
                first = 0 if strategy is Strategy.ONE_FOR_ALL else crashed
                last = crashed if strategy is Strategy.ONE_FOR_ONE else len(refs) - 1
            group = range(first, last + 1)
            again = [at for at in group if restarts[at] is not Restart.TEMPORARY]
            assert log == [
                f"-{crashed}",
                *(f"-{at}" for at in reversed(group) if at != crashed),
                *(f"+{at}" for at in again),
            ]
            for at, ref in enumerate(refs):
                assert ref.alive == (at not in group or at in again)
            assert [*keeper.children] == [ref for ref in refs if ref.alive]

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("restart", Restart)
async def test_i13_who_was_asked_to_stop_is_not_started_again(restart: Restart) -> None:
    log: list[str] = []
    async with open_actor_system("system", root=[worker("w", log, restart=restart)]) as system:
        (ref,) = system.children
        ref.stop()
        assert await ref.join() == Shutdown()
        await trio.testing.wait_all_tasks_blocked()
    assert log == ["+w", "-w"]


@pytest.mark.usefixtures("quiet")
async def test_i14_a_supervisor_gives_up_after_intensity_restarts_and_the_crash_goes_up() -> None:
    log: list[str] = []
    error = OSError("gone")
    root = [supervisor(worker("sibling", log), worker("w", log), intensity=2, period=60)]
    with pytest.raises(RestartsExhausted) as failure:  # noqa: PT012 - the block is the situation
        async with open_actor_system("system", root=root, intensity=0) as system:
            keeper = next(iter(system.children))
            assert keeper.alive
            for ref in [*_children_of(keeper)][1:]:
                for _ in range(3):
                    ref.tell(error)
            await trio.sleep_forever()
    assert log == ["+sibling", "+w", *(["-w", "+w"] * 2), "-w", "-sibling"]
    inner = failure.value.__cause__
    assert isinstance(inner, RestartsExhausted)
    assert inner.__cause__ is error


def _children_of(ref: Any) -> list[Any]:
    return [*ref._cell.actor.children]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("per_child", [True, False])
async def test_one_childs_restarts_spend_its_siblings_budget_only_if_counted_together(
    per_child: bool,
) -> None:
    log: list[str] = []
    keeper = Supervisor(
        [worker("a", log), worker("b", log)], intensity=1, period=60, per_child=per_child
    )
    spec = ChildSpec("keeper", lambda: keeper, restart=Restart.TEMPORARY)
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        for child in keeper.children:
            child.tell(OSError())
            await trio.testing.wait_all_tasks_blocked()
        assert ref.alive == per_child


@pytest.mark.usefixtures("quiet")
async def test_start_failures_count_and_one_for_all_starts_over_from_the_first() -> None:
    log: list[str] = []
    failures = 2

    class Late(Worker):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise OSError("not yet")
            await super().started(ctx, cause)

    late = ChildSpec("late", lambda: Late("late", log))
    root = [
        supervisor(
            worker("a", log), late, worker("b", log), strategy=Strategy.ONE_FOR_ALL, intensity=2
        )
    ]
    async with open_actor_system("system", root=root):
        await trio.testing.wait_all_tasks_blocked()
        assert log == ["+a", "-a", "+a", "-a", "+a", "+late", "+b"]


@pytest.mark.usefixtures("quiet")
async def test_siblings_that_crash_in_the_same_moment_are_restarted_together_once() -> None:
    log: list[str] = []
    keeper = Supervisor([worker(name, log) for name in "abc"], strategy=Strategy.ONE_FOR_ALL)
    async with open_actor_system("system", root=[ChildSpec("keeper", lambda: keeper)]):
        for ref in [*keeper.children][:2]:
            ref.tell(OSError())
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(log[3:6]) == ["-a", "-b", "-c"]
        assert log[6:] == ["+a", "+b", "+c"]


@pytest.mark.usefixtures("quiet")
async def test_a_constructor_that_fails_at_a_restart_counts_as_a_crash() -> None:
    made = 0

    def factory() -> Worker:
        nonlocal made
        made += 1
        if made > 1:
            raise ValueError("only once")
        return Worker("w", [])

    with pytest.raises(RestartsExhausted) as failure:  # noqa: PT012 - the block is the situation
        async with open_actor_system("system", root=[ChildSpec("w", factory)]) as system:
            next(iter(system.children)).tell(OSError())
            await trio.sleep_forever()
    assert isinstance(failure.value.__cause__, ValueError)
    assert made == 2


async def test_every_restart_is_logged_with_its_count_and_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_actor_system("system", root=[worker("w", [])], intensity=9) as system:
        (ref,) = system.children
        for name in ("first", "second"):
            ref.tell(OSError(name))
            await trio.testing.wait_all_tasks_blocked()
    restarts = [text for text in caplog.messages if "is restarted" in text]
    assert ["time 1" in restarts[0], "first" in restarts[0]] == [True, True]
    assert ["time 2" in restarts[1], "second" in restarts[1]] == [True, True]


@pytest.mark.usefixtures("quiet")
async def test_i18_restarts_wait_for_the_backoff_and_it_starts_over_after_a_good_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    starts: list[float] = []

    class Flaky(Actor[Any]):
        async def run(self, ctx: Context) -> None:
            starts.append(trio.current_time())
            await trio.sleep(100 if ctx.incarnation == 3 else 0)
            raise OSError

    backoff = Backoff(first=1, longest=60, factor=2, jitter=0, reset_after=50)
    spec = ChildSpec("flaky", Flaky, backoff=backoff)
    async with open_actor_system("system", root=[spec], intensity=9):
        await trio.sleep_until(109)
    assert starts == [0, 1, 3, 7, 108]


@pytest.mark.usefixtures("quiet")
async def test_a_child_that_waits_for_its_restart_can_be_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spec = worker("w", [], backoff=Backoff(first=50, longest=50))
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell(OSError())
        await trio.sleep(1)
        assert ref.alive
        ref.stop()
        assert await ref.join() == Shutdown()
    assert trio.current_time() == 1


@pytest.mark.usefixtures("quiet")
async def test_escalate_makes_the_crash_the_supervisors_own() -> None:
    error = OSError("fatal")
    spec = worker("w", [], on_failure=lambda leaf: Directive.ESCALATE)
    with pytest.raises(ChildEscalated) as failure:  # noqa: PT012 - the block is the situation
        async with open_actor_system("system", root=[spec]) as system:
            next(iter(system.children)).tell(error)
            await trio.sleep_forever()
    assert failure.value.__cause__ is error


@pytest.mark.usefixtures("quiet")
async def test_of_several_directives_the_strictest_wins_and_a_broken_decider_means_restart() -> (
    None
):
    def decider(leaf: BaseException) -> Directive:
        return {"OSError": Directive.STOP, "ValueError": Directive.RESTART}[type(leaf).__name__]

    async with open_actor_system(
        "system", root=[worker("w", [], on_failure=decider)], intensity=9
    ) as system:
        (ref,) = system.children
        ref.tell(ExceptionGroup("all known", [ValueError(), ValueError()]))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(KeyError())
        await trio.testing.wait_all_tasks_blocked()
        assert ref.alive
        ref.tell(ExceptionGroup("one is strict", [ValueError(), OSError()]))
        assert isinstance(await ref.join(), Crash)


async def test_auto_shutdown_ends_the_supervisor_with_its_significant_child() -> None:
    log: list[str] = []

    class Job(Actor[Any]):
        async def run(self, ctx: Context) -> None:
            await trio.testing.wait_all_tasks_blocked()

    job = ChildSpec("job", Job, restart=Restart.TRANSIENT, significant=True)
    keeper = ChildSpec(
        "keeper",
        lambda: Supervisor([worker("w", log), job], auto_shutdown=AutoShutdown.ANY),
        restart=Restart.TRANSIENT,
    )
    async with open_actor_system("system", root=[keeper]) as system:
        for ref in system.children:
            await ref.join()
    assert log == ["+w", "-w"]


async def test_children_can_be_added_and_stopped_by_name_and_names_are_unique() -> None:
    log: list[str] = []
    keeper = Supervisor([worker("a", log)])
    async with open_actor_system("system", root=[ChildSpec("keeper", lambda: keeper)]):
        ref = keeper.start_child(worker("b", log))
        assert await ref.wait_started()
        with pytest.raises(ValueError, match="'b' already"):
            keeper.start_child(worker("b", log))
        assert await keeper.stop_child("a") == Shutdown("/system/keeper")
        assert [child.path for child in keeper.children] == ["/system/keeper/b"]
        with pytest.raises(KeyError):
            await keeper.stop_child("a")
    with pytest.raises(SupervisorClosed):
        keeper.start_child(worker("c", log))
    assert log == ["+a", "+b", "-a", "-b"]


async def test_a_supervisor_may_be_stopped_before_its_first_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log: list[str] = []
    async with open_actor_system("system") as system:
        ref = system.spawn(supervisor(worker("w", log)))
        ref.stop()
        assert await ref.join() == Shutdown()
    assert not log
    assert not caplog.records


async def test_a_supervisor_that_is_stopped_while_a_child_starts_stops_that_child(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep(1000)

    log: list[str] = []
    slow = ChildSpec("slow", Slow, start_timeout=INFINITY, shutdown=2)
    async with open_actor_system("system") as system:
        ref = system.spawn(supervisor(slow, worker("w", log)))
        await trio.sleep(1)
        ref.stop()
        assert await ref.join() == Shutdown()
        assert trio.current_time() == 3
    assert not log


async def test_a_full_dynamic_supervisor_refuses_a_child() -> None:
    async with open_dynamic_supervisor(max_children=1) as keeper:
        keeper.start_child(worker("a", []))
        with pytest.raises(SupervisorFull):
            keeper.start_child(worker("a", []))


async def test_a_dynamic_supervisor_stops_all_children_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_dynamic_supervisor() as keeper:
        for _ in range(250):
            keeper.start_child(worker("w", [], restart=Restart.TEMPORARY)).tell(3)
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 3


async def test_i26_a_stop_has_one_deadline_for_all_levels(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names = [str(number) for number in range(4)]
    root = [supervisor(*(worker(name, [], shutdown=100) for name in names))]
    async with open_actor_system("system", root=root, shutdown_timeout=10) as system:
        for keeper in system.children:
            for ref in _children_of(keeper):
                ref.tell(1000)
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() <= 10


async def test_i27_after_a_system_nothing_is_left_although_children_crash_at_random(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    before = trio.lowlevel.current_statistics().tasks_living

    class Mortal(Actor[Any]):
        def __init__(self, life: float) -> None:
            self.life = life

        async def run(self, ctx: Context) -> None:
            await trio.sleep(self.life)
            if self.life % 2:
                raise OSError

    mortal = ChildSpec("mortal", Mortal, restart=Restart.TEMPORARY)
    async with open_dynamic_supervisor() as keeper:
        for number in range(500):
            keeper.start_child(mortal, number % 7)
        await trio.sleep(3.5)
        assert len(keeper) == 500 - sum(number % 7 <= 3 for number in range(500))
    assert len(keeper) == 0
    after = trio.lowlevel.current_statistics()
    assert (after.tasks_living, after.seconds_to_next_deadline) == (before, float("inf"))


async def test_stopping_a_system_ends_its_body() -> None:
    async with open_actor_system("system") as system:
        ref = system.spawn(worker("w", []))
        system.stop()
        await trio.sleep_forever()
    assert not ref.alive


async def test_i29_a_cancelled_system_cleans_up_and_passes_the_cancellation_on() -> None:
    log: list[str] = []
    with trio.CancelScope() as outside:
        async with open_actor_system("system", root=[worker("a", log), worker("b", log)]):
            outside.cancel()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert sorted(log) == ["+a", "+b", "-a", "-b"]


async def test_i18_who_starts_again_for_a_siblings_crash_does_not_wait_for_its_own(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[str] = []
    slow = worker("slow", log, backoff=Backoff(first=10, jitter=0))
    group = Supervisor([slow, worker("quick", log)], strategy=Strategy.ONE_FOR_ALL, intensity=5)
    async with open_actor_system("system", root=[ChildSpec("g", lambda: group)]):
        first, second = group.children
        first.tell(OSError("its own"))
        await trio.sleep(11)
        log.clear()
        second.tell(OSError("its sibling's"))
        await trio.sleep(1)
        assert log[-2:] == ["+slow", "+quick"]


class Moody(Actor[BaseException]):
    """Crashes with what it is told."""

    async def receive(self, message: BaseException) -> None:
        raise message


async def test_a_supervisor_starts_children_through_its_ref_also_after_its_own_restart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system("shop") as system:
        jobs = system.spawn(ChildSpec("jobs", lambda: DynamicSupervisor(intensity=0)))
        first = jobs.start_child(ChildSpec("job", Moody))
        assert first.path.startswith("/shop/jobs/job-")
        assert await first.wait_started()
        first.tell(OSError("gone"))
        await first.join()
        await trio.testing.wait_all_tasks_blocked()  # then the supervisor runs anew
        second = jobs.start_child(ChildSpec("job", Moody))
        assert await second.wait_started()
        with pytest.raises(TypeError, match="is a Moody, and only a Supervisor"):
            second.start_child(ChildSpec("job", Moody))
        jobs.stop()
        await jobs.join()
        with pytest.raises(SupervisorClosed, match="/shop/jobs takes no children"):
            jobs.start_child(ChildSpec("job", Moody))


async def test_infinite_intensity_never_gives_up(autojump_clock: trio.testing.MockClock) -> None:
    starts = 0

    class Unlucky(Actor[Any]):
        async def run(self, ctx: Context) -> None:
            nonlocal starts
            starts += 1
            if starts < 100:
                raise OSError("lost")
            await trio.sleep_forever()

    async with open_actor_system("s") as system:
        spec = ChildSpec("u", Unlucky, intensity=INFINITY, expected=(OSError,))
        assert await system.spawn(spec).wait_started()
        await trio.testing.wait_all_tasks_blocked()
    assert starts == 100


async def test_an_expected_crash_is_told_in_one_line_and_another_with_its_traceback(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    backoff = Backoff(first=2, jitter=0)
    for error in (OSError("gone"), ExceptionGroup("all", [OSError("gone"), KeyError("bug")])):
        async with open_actor_system("s", intensity=5) as system:
            spec = ChildSpec("line", Moody, expected=(OSError,), backoff=backoff)
            line = system.spawn(spec)
            line.tell(error)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(3)
    expected, unexpected = (record for record in caplog.records if "restarted" in record.message)
    assert expected.message.startswith("/s/line ended and is restarted, time 1, in 2 s: Crash: ")
    assert (expected.levelname, expected.exc_info) == ("WARNING", None)
    assert (unexpected.levelname, unexpected.exc_info is None) == ("ERROR", False)
