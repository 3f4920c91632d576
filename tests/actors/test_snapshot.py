"""The picture of a system: what it shows of actors in every state, and that it changes nothing."""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import FrozenInstanceError
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSnapshot,
    ActorSystem,
    AskError,
    Backoff,
    ChildSpec,
    Context,
    DynamicSupervisor,
    ExitReason,
    Lane,
    Restart,
    Snapshot,
    Strategy,
    Supervisor,
    open_actor_system,
)
from greenroom.actors.testing import note, schedules, simulate

settled = trio.testing.wait_all_tasks_blocked


class Worker(Actor[Any]):
    """Crashes on exceptions, sleeps on numbers, calls what can be called."""

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, float):
            await trio.sleep(message)
        elif callable(message):
            await message(self.ctx)

    async def on_signal(self, signal: object) -> None:
        await trio.sleep(100)


class Deaf(Actor[Any]):
    """Goes on with its message, whatever happens."""

    async def receive(self, message: Any) -> None:
        with trio.CancelScope(shield=True):
            await message()


def worker(id: str = "worker", **options: Any) -> ChildSpec:  # noqa: A002
    return ChildSpec(id, Worker, **options)


def see(system: ActorSystem, path: str) -> ActorSnapshot:
    found = system.snapshot().find(path)
    assert found is not None
    return found


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_a_snapshot_shows_the_whole_tree_in_the_order_of_the_starts() -> None:
    async def spawn(ctx: Context) -> None:
        ctx.spawn(worker("helper"))

    below = ChildSpec("below", lambda: Supervisor([worker("a"), worker("b")]))
    async with open_actor_system("system", root=[below, worker()]) as system:
        _, ref = system.children
        ref.tell(spawn)
        await settled()
        picture = system.snapshot()
        helpers = picture.find("/system/worker/children")
        assert helpers is not None
        (helper,) = helpers.children
        assert [(actor.path, actor.kind) for actor in picture.walk()] == [
            ("/system", "Supervisor"),
            ("/system/below", "Supervisor"),
            ("/system/below/a", "Worker"),
            ("/system/below/b", "Worker"),
            ("/system/worker", "Worker"),
            ("/system/worker/children", "DynamicSupervisor"),
            (f"/system/worker/children/helper-{helper.uid}", "Worker"),
        ]
        found = picture.find("/system/worker")
        assert found is not None
        assert (found.uid, found.id) == (ref.uid, "worker")
        assert picture.find("/system/nobody") is None


async def test_a_quiet_actor_waits_for_the_next_message() -> None:
    async with open_actor_system("system", root=[worker(mailbox=Lane(7))]) as system:
        await settled()
        seen = see(system, "/system/worker")
        assert (seen.phase, seen.waits_for) == ("running", "the next message")
        assert (seen.incarnation, seen.last_cause, seen.stopping_since) == (0, None, None)
        assert (seen.depth, seen.capacity, seen.taken, seen.refused) == (0, 7, 0, 0)
        assert seen.handling is None


async def test_a_mailbox_is_shown_with_what_it_holds_took_and_refused(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_actor_system("system", root=[worker(mailbox=Lane(2))]) as system:
        (ref,) = system.children
        ref.tell("handled")
        await settled()
        for message in (10.0, "waits"):
            ref.tell(message)
            await settled()
        for _ in range(3):
            ref.tell("one fits")
        seen = see(system, "/system/worker")
        assert (seen.depth, seen.taken, seen.refused) == (2, 2, 2)
        assert seen.handling == "float"


async def test_stashed_messages_are_counted_apart() -> None:
    class Patient(Worker):
        async def receive(self, message: Any) -> None:
            self.ctx.stash()

    async with open_actor_system("system", root=[ChildSpec("patient", Patient)]) as system:
        (ref,) = system.children
        ref.tell("later")
        ref.tell("later, too")
        await settled()
        seen = see(system, "/system/patient")
        assert (seen.depth, seen.stashed) == (0, 2)


async def test_an_actor_in_its_own_code_is_shown_at_its_own_line(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system("system", root=[worker()]) as system:
        (ref,) = system.children
        ref.tell(10.0)
        await settled()
        waits_for = see(system, "/system/worker").waits_for or ""
        place, _, function = waits_for.partition(" in ")
        assert place.startswith("actors/test_snapshot.py:")
        assert function == "Worker.receive"


async def test_an_actor_that_has_asked_waits_for_the_reply_of_the_one_it_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system("system", root=[worker("bank"), worker("teller")]) as system:
        bank, teller = system.children

        async def ask(ctx: Context) -> None:
            await bank.ask(10.0)

        teller.tell(ask)
        await settled()
        assert see(system, "/system/teller").waits_for == "the reply of /system/bank"
        await trio.sleep(11)
        assert see(system, "/system/teller").waits_for == "the next message"


async def test_other_waits_for_actors_have_words_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system(
        "system", root=[worker("other", mailbox=Lane(1)), worker()]
    ) as system:
        other, ref = system.children
        other.tell(10.0)
        await settled()
        other.tell("fills it")

        async def send(ctx: Context) -> None:
            await other.send("waits for room")

        async def join(ctx: Context) -> None:
            await other.join()

        ref.tell(send)
        ref.tell(join)
        await settled()
        waits_for = see(system, "/system/worker").waits_for
        assert waits_for == "room in the mailbox of /system/other"
        await trio.sleep(20)
        assert see(system, "/system/worker").waits_for == "the end of /system/other"
        other.stop()


async def test_a_supervisor_that_starts_its_children_waits_for_the_one_that_starts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(Worker):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep(3)

    async with open_actor_system("system") as system:
        specs = [ChildSpec("slow", Slow), worker("late")]
        system.spawn(ChildSpec("below", lambda: Supervisor(specs)))
        await trio.sleep(1)
        below = see(system, "/system/below")
        slow, late = below.children
        assert below.waits_for == "the start or the end of /system/below/slow"
        assert (below.phase, slow.phase, late.phase) == ("starting", "starting", "new")
        assert (late.kind, late.waits_for) == (None, None)


async def test_an_actor_that_waits_in_a_worker_thread_is_shown_so() -> None:
    over = threading.Event()

    async def block(ctx: Context) -> None:
        await trio.to_thread.run_sync(over.wait)

    async with open_actor_system("system", root=[worker()]) as system:
        (ref,) = system.children
        ref.tell(block)
        await settled()
        waits_for = see(system, "/system/worker").waits_for or ""
        over.set()
        assert waits_for.startswith("a worker thread, from actors/test_snapshot.py:")
        assert waits_for.endswith(".<locals>.block")


async def test_an_actor_that_takes_the_snapshot_itself_is_running() -> None:
    seen: list[ActorSnapshot] = []

    async def look(ctx: Context) -> None:
        seen.append(see(system, "/system/worker"))

    async with open_actor_system("system", root=[worker()]) as system:
        (ref,) = system.children
        ref.tell(look)
        await settled()
    assert seen[0].waits_for == "nothing: it is running"
    assert seen[0].handling == "function"


async def test_a_signal_in_an_actors_hands_is_called_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system("system", root=[worker("one"), worker("two")]) as system:
        one, two = system.children

        async def watch(ctx: Context) -> None:
            ctx.watch(one)

        two.tell(watch)
        one.kill()
        await settled()
        assert see(system, "/system/two").handling == "a signal"


async def test_the_tick_of_a_timer_is_shown_as_its_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def set_timer(ctx: Context) -> None:
        ctx.timers.start_single("key", 5.0, 1)

    async with open_actor_system("system", root=[worker()]) as system:
        (ref,) = system.children
        ref.tell(set_timer)
        await trio.sleep(2)
        assert see(system, "/system/worker").handling == "float"


async def test_a_pause_before_a_restart_is_shown_with_what_is_left_of_it_and_the_cause(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    spec = worker(backoff=Backoff(first=10, jitter=0))
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell(OSError("gone"))
        await trio.sleep(4)
        seen = see(system, "/system/worker")
        assert (seen.phase, seen.restarts_in, seen.waits_for) == (
            "restarting",
            6,
            "a restart in 6.0 s",
        )
        assert (seen.incarnation, seen.kind) == (1, None)
        cause = seen.last_cause or ""
        assert cause.startswith("Crash: OSError: gone (actors/test_snapshot.py:")
        assert cause.endswith("in Worker.receive)")
        assert "restarting in 6.0 s" in str(seen)
        await trio.sleep(7)
        seen = see(system, "/system/worker")
        assert (seen.phase, seen.restarts_in, seen.last_cause) == ("running", None, cause)
        assert "restarted once, the last after Crash: OSError: gone" in str(seen)


async def test_a_child_whose_restart_waits_for_its_siblings_is_restarting(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    async def wait() -> None:
        await trio.sleep(3)

    children = [worker("one"), ChildSpec("deaf", Deaf, shutdown=10)]
    group = Supervisor(children, strategy=Strategy.ONE_FOR_ALL)
    async with open_actor_system("system", root=[ChildSpec("group", lambda: group)]) as system:
        one, deaf = group.children
        deaf.tell(wait)
        await settled()
        one.tell(OSError("crash"))
        await trio.sleep(1)
        seen = see(system, "/system/group/one")
        assert (seen.phase, seen.waits_for) == ("restarting", "its turn in a restart of several")
        assert see(system, "/system/group/deaf").phase == "stopping"
        await trio.sleep(5)
        assert see(system, "/system/group/one").phase == "running"


async def test_an_actor_that_stops_is_shown_with_since_when_and_then_as_stuck(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    async def wait() -> None:
        await trio.sleep(100)

    spec = ChildSpec("deaf", Deaf, shutdown=2, cleanup_timeout=1)
    async with open_actor_system("system", root=[worker(), spec]) as system:
        _, ref = system.children
        root = system._root
        ref.tell(wait)
        await settled()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root.stop_child, "deaf")
            await trio.sleep(1)
            seen = see(system, "/system/deaf")
            assert (seen.phase, seen.stopping_since) == ("stopping", 1)
            assert "stopping for 1.0 s" in str(seen)
            await trio.sleep(9)
            seen = see(system, "/system/deaf")
            assert (seen.phase, seen.stopping_since) == ("stuck", 10)
            assert "stuck for 10.0 s" in str(seen)
            assert (seen.waits_for or "").endswith(".<locals>.wait")
            ref.kill()
            assert see(system, "/system/deaf").phase == "stuck"
        assert system.snapshot().find("/system/deaf") is None


async def test_an_actor_that_was_stuck_and_is_started_again_is_stuck_no_more(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    async def wait() -> None:
        await trio.sleep(20)

    children = [ChildSpec("deaf", Deaf, shutdown=1), worker()]
    group = Supervisor(children, strategy=Strategy.ONE_FOR_ALL)
    async with open_actor_system("system", root=[ChildSpec("group", lambda: group)]) as system:
        deaf, ref = group.children
        deaf.tell(wait)
        await settled()
        ref.tell(OSError("crash"))
        await trio.sleep(10)
        assert see(system, "/system/group/deaf").phase == "stuck"
        await trio.sleep(15)
        seen = see(system, "/system/group/deaf")
        assert (seen.phase, seen.incarnation) == ("running", 1)


async def test_a_stuck_actor_is_logged_with_its_frames_and_the_thread_that_it_waits_for(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    async def block() -> None:
        await trio.to_thread.run_sync(over.wait)

    async def release() -> None:
        await trio.sleep(60)
        over.set()

    async with trio.open_nursery() as nursery:
        spec = ChildSpec("deaf", Deaf, shutdown=1)
        async with open_actor_system("system", root=[spec], shutdown_timeout=20) as system:
            (ref,) = system.children
            ref.tell(block)
            await settled()
            nursery.start_soon(release)
    records = [each.getMessage() for each in caplog.records if "is stuck" in each.getMessage()]
    (text,) = (each for each in records if each.startswith("/system/deaf is stuck"))
    assert "in Deaf.receive\n" in text
    assert text.endswith("for a worker thread, which nothing can end but its own code")


async def test_losses_and_the_latest_abnormal_ends_are_shown_with_their_causes(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    rooms = DynamicSupervisor()
    async with open_actor_system("system", root=[ChildSpec("rooms", lambda: rooms)]) as system:
        one = rooms.start_child(worker(restart=Restart.TEMPORARY))
        two = rooms.start_child(worker(restart=Restart.TEMPORARY))
        three = rooms.start_child(worker(restart=Restart.TEMPORARY))
        one.tell(OSError("gone"))
        await one.join()
        await trio.sleep(3)
        two.kill("the test")
        await two.join()
        three.stop()
        await three.join()
        three.tell("too late")
        picture = system.snapshot()
        assert picture.dead_letters == {"crashed": 1, "dead": 1}
        first, second = picture.ended  # the third was asked to stop
        assert (first.path, first.uid) == (one.path, one.uid)
        assert first.reason.startswith("Crash: OSError: gone (")
        assert (second.path, second.reason) == (two.path, "Killed by the test")
        assert picture.at == second.at
        assert first.at is not None
        assert second.at == first.at + 3
        text = str(picture)
        assert "dead letters: 2 (1 crashed, 1 dead)" in text
        assert f"  3.0 s ago  {one.path}: Crash: OSError: gone (" in text
        assert f"  0.0 s ago  {two.path}: Killed by the test" in text


async def test_an_exception_whose_text_fails_spoils_no_report(quiet: None) -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    async with open_actor_system("system", root=[worker(restart=Restart.TEMPORARY)]) as system:
        (ref,) = system.children
        ref.tell(Nasty())
        await ref.join()
        (end,) = system.snapshot().ended
        assert "Nasty: (its text failed)" in end.reason


async def test_a_snapshot_reads_as_a_tree() -> None:
    below = ChildSpec("below", lambda: Supervisor([worker("a"), worker("b", mailbox=Lane(None))]))
    async with open_actor_system("system", root=[below, worker()]) as system:
        _, ref = system.children
        ref.tell("message")
        await settled()
        assert str(system.snapshot()).splitlines() == [
            "system  Supervisor  running  waits for the next message",
            "├─ below  Supervisor  running  waits for the next message",
            "│  ├─ a  Worker  running  waits for the next message",
            "│  └─ b  Worker  running  waits for the next message",
            "└─ worker  Worker  running  mailbox 0 of 1000, 1 taken  waits for the next message",
            "dead letters: 0",
        ]


async def test_a_snapshot_is_plain_and_stays_as_it_was_taken(quiet: None) -> None:
    async with open_actor_system("system", root=[worker()]) as system:
        (ref,) = system.children
        picture = system.snapshot()
        before = json.dumps(picture.as_dict())
        ref.kill()
        await ref.join()
        ref.tell("lost")
        assert json.dumps(picture.as_dict()) == before
        plain = json.loads(before)
        assert plain["root"]["children"][0]["path"] == "/system/worker"
        assert plain["dead_letters"] == {}
        with pytest.raises(FrozenInstanceError):
            picture.root = picture.root.children[0]  # type: ignore[misc]


async def test_a_snapshot_of_a_system_that_has_ended_shows_that() -> None:
    async with open_actor_system("system", root=[worker()]) as system:
        pass
    picture = system.snapshot()
    assert (picture.root.phase, picture.root.children) == ("ended", ())


def test_a_snapshot_may_be_taken_after_trio_has_ended(quiet: None) -> None:
    async def main() -> ActorSystem:
        async with open_actor_system("system", root=[worker()]) as system:
            (ref,) = system.children
            ref.kill("the test")
            await ref.join()
        return system

    picture = trio.run(main).snapshot()
    assert picture.at is None
    assert "/system/worker: Killed by the test" in str(picture)


actions = st.lists(
    st.tuples(
        st.sampled_from(["spawn", "crash", "kill", "stop", "ask", "sleep"]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=12,
)


class Busy(Worker):
    """Takes its time for everything."""

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx
        await trio.sleep(1)

    async def stopped(self, reason: ExitReason) -> None:
        await trio.sleep(0.5)


class EachStep(trio.abc.Instrument):
    """Calls something before and after each step of each task."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.call()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.call()


async def run_with(actions: list[tuple[str, int, int]], *, looking: bool) -> int:
    """Do `actions`, and note all events; if `looking`, take snapshots of every step."""
    looks = 0
    rooms = DynamicSupervisor(intensity=100)
    spec = ChildSpec("busy", Busy, backoff=Backoff(first=2, jitter=0))
    refs: list[ActorRef[Any]] = []

    async def spawn(ctx: Context) -> None:
        ctx.spawn(worker())

    async with open_actor_system("system", root=[ChildSpec("r", lambda: rooms)]) as system:

        def look() -> None:
            nonlocal looks
            if looking:
                looks += 1
                check(system.snapshot())

        trio.lowlevel.add_instrument(EachStep(look))
        system.events.subscribe(object, lambda event: look())
        system.events.subscribe(object, lambda event: note(type(event).__name__))
        for what, at, pause in actions:
            if what == "spawn" or not refs:
                refs.append(rooms.start_child(spec))
                refs[-1].tell(spawn)
            ref = refs[at % len(refs)]
            match what:
                case "crash":
                    ref.tell(OSError("crash"))
                case "kill":
                    ref.kill()
                case "stop":
                    ref.stop()
                case "ask":
                    with suppress(AskError):
                        await ref.ask("question", timeout=3)
                case "sleep":
                    ref.tell(1.0)
            await trio.sleep(pause)
    look()
    return looks


@given(actions, schedules())
@settings(deadline=None, max_examples=50)
def test_snapshots_at_every_step_are_sound_and_change_nothing(
    actions: list[tuple[str, int, int]], schedule: list[int]
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        blind = simulate(partial(run_with, looking=False), actions, choices=schedule)
        watched = simulate(partial(run_with, looking=True), actions, choices=schedule)
    finally:
        logging.disable(logging.NOTSET)
    assert (watched.value or 0) > 10
    assert watched.trace == blind.trace


def check(picture: Snapshot) -> None:
    """Look at everything that a snapshot says."""
    paths = [actor.path for actor in picture.walk()]
    assert len(set(paths)) == len(paths)
    for actor in picture.walk():
        assert actor.phase in {
            "new",
            "starting",
            "running",
            "restarting",
            "stopping",
            "stuck",
            "ended",
        }
        assert actor.phase != "ended" or actor is picture.root
        assert min(actor.depth, actor.taken, actor.refused, actor.incarnation) >= 0
        assert (actor.restarts_in is None) or 0 <= actor.restarts_in <= 30
    json.dumps(picture.as_dict())
    assert str(picture)


def test_a_tree_deeper_than_the_stack_is_walked_drawn_and_made_plain() -> None:
    below: tuple[ActorSnapshot, ...] = ()
    for level in reversed(range(400)):
        actor = ActorSnapshot(
            path=f"/{level}",
            uid=level,
            kind="Worker",
            phase="running",
            incarnation=0,
            depth=0,
            stashed=0,
            capacity=None,
            taken=0,
            refused=0,
            handling=None,
            waits_for=None,
            last_cause=None,
            stopping_since=None,
            restarts_in=None,
            children=below,
        )
        below = (actor,)
    picture = Snapshot(root=below[0], at=None, dead_letters={}, ended=())
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300 + _frames())
    try:
        drawn = str(picture).splitlines()
        walked = [each.uid for each in picture.walk()]
        plain = picture.as_dict()["root"]
    finally:
        sys.setrecursionlimit(limit)
    assert walked == list(range(400))
    assert drawn[:3] == ["0  Worker  running", "└─ 1  Worker  running", "   └─ 2  Worker  running"]
    assert len(drawn) == 401
    while plain["children"]:
        (plain,) = plain["children"]
    assert plain["path"] == "/399"


def _frames() -> int:
    """Count the calls that are going on."""
    return sum(1 for _ in traceback.walk_stack(None))
