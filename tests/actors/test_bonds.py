"""Watching and linking: who learns of whose end, how often, and what it does to them."""

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Context,
    Crash,
    Delivery,
    DynamicSupervisor,
    ExitReason,
    ForeignSystem,
    InFlight,
    InitFailed,
    Killed,
    Lane,
    LinkBroken,
    Normal,
    Overflow,
    Restart,
    Shutdown,
    Terminated,
    open_actor_system,
)

settled = trio.testing.wait_all_tasks_blocked


class Observer(Actor[Any]):
    """Writes down its signals and messages; does with its context what it is told to."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx
        if cause is not None:
            self.log.append("restarted")

    async def receive(self, message: Any) -> None:
        match message:
            case (str(method), ActorRef() as ref):
                getattr(self.ctx, method)(ref)
            case Exception():
                raise message
            case float():
                await trio.sleep(message)
            case _:
                self.log.append(message)

    async def on_signal(self, signal: Any) -> None:
        self.log.append(signal)


class Worker(Actor[Any]):
    """Crashes on exceptions, ends on None."""

    async def run(self, ctx: Context) -> None:
        while (message := await ctx.receive()) is not None:
            if isinstance(message, Exception):
                raise message


def observer(log: list[Any], **options: Any) -> ChildSpec:
    return ChildSpec("observer", lambda: Observer(log), **options)


def worker(id: str = "worker", **options: Any) -> ChildSpec:  # noqa: A002 - as in ChildSpec
    return ChildSpec(id, Worker, **options)


def once(id: str = "worker") -> ChildSpec:  # noqa: A002
    return worker(id, restart=Restart.TEMPORARY)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def open_system() -> Any:
    return open_actor_system("system", intensity=100, period=1)


# Watching.


async def test_i21_a_watcher_is_told_once_when_the_other_ends_with_its_reason() -> None:
    log: list[Any] = []
    async with open_system() as system:
        ref, watcher = system.spawn(worker()), system.spawn(observer(log))
        watcher.tell(("watch", ref))
        await settled()
        assert log == []
        ref.kill("the test")
        await settled()
        assert log == [Terminated(ref, Killed("the test"))]


async def test_i21_watching_an_actor_that_has_ended_already_tells_once() -> None:
    log: list[Any] = []
    async with open_system() as system:
        ref, watcher = system.spawn(worker()), system.spawn(observer(log))
        ref.stop()
        reason = await ref.join()
        watcher.tell(("watch", ref))
        await settled()
        assert log == [Terminated(ref, reason)]


async def test_i21_watching_twice_or_again_after_the_death_tells_no_second_time() -> None:
    log: list[Any] = []
    async with open_system() as system:
        ref, watcher = system.spawn(worker()), system.spawn(observer(log))
        for _ in range(2):
            watcher.tell(("watch", ref))
        await settled()
        ref.kill()
        await settled()
        watcher.tell(("watch", ref))
        await settled()
        assert log == [Terminated(ref, Killed())]


async def test_i21_a_restart_of_the_watched_tells_nothing_and_its_end_still_does(
    quiet: None,
) -> None:
    log: list[Any] = []
    async with open_system() as system:
        ref, watcher = system.spawn(worker()), system.spawn(observer(log))
        watcher.tell(("watch", ref))
        await settled()
        ref.tell(OSError("one"))
        await settled()
        assert log == []
        ref.kill()
        await settled()
        assert log == [Terminated(ref, Killed())]


async def test_i21_who_no_longer_watches_is_not_told_not_even_of_a_death_before() -> None:
    log: list[Any] = []
    async with open_system() as system:
        ref, watcher = system.spawn(worker()), system.spawn(observer(log))
        watcher.tell(("watch", ref))
        await settled()
        watcher.tell(("unwatch", ref))
        await settled()
        ref.kill()
        await settled()
        assert log == []


async def test_i21_unwatch_takes_back_a_signal_that_waits_in_the_mailbox(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    class Busy(Observer):
        async def receive(self, message: Any) -> None:
            self.ctx.watch(message)
            await trio.sleep(1)  # the other ends meanwhile
            self.ctx.unwatch(message)

    async with open_system() as system:
        ref = system.spawn(worker())
        watcher = system.spawn(ChildSpec("busy", lambda: Busy(log)))
        watcher.tell(ref)
        await settled()
        ref.kill()
        await trio.sleep(2)
        assert log == []


async def test_i21_who_took_its_watch_back_before_it_was_told_may_watch_again() -> None:
    log: list[Any] = []
    async with open_system() as system:
        ref, watcher = system.spawn(worker()), system.spawn(observer(log))
        ref.kill()
        await ref.join()
        for method in ("watch", "unwatch", "watch"):
            watcher.tell((method, ref))
        await settled()
        assert log == [Terminated(ref, Killed())]


async def test_i19_i21_a_watch_and_its_signal_survive_restarts_of_the_watcher(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    async with open_system() as system:
        first, second = system.spawn(once("first")), system.spawn(once("second"))
        watcher = system.spawn(observer(log))
        watcher.tell(("watch", first))
        watcher.tell(("watch", second))
        watcher.tell(1.0)
        watcher.tell(OSError("crash"))
        await settled()
        first.kill()  # its signal waits while the watcher's handler sleeps
        await trio.sleep(2)
        assert log == [Terminated(first, Killed()), "restarted"]
        second.kill()
        await settled()
        assert log[2:] == [Terminated(second, Killed())]


async def test_i21_a_signal_that_waits_while_the_watcher_is_stopped_for_another_survives(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    slow = Backoff(first=10, jitter=0)
    async with open_system() as system:
        ref = system.spawn(once())
        partner = system.spawn(once("partner"))
        watcher = system.spawn(observer(log, backoff=slow))
        watcher.tell(("watch", ref))
        watcher.tell(("link", partner))
        await settled()
        partner.kill()  # the watcher is stopped, and waits for its restart
        await trio.sleep(1)
        ref.kill()
        await trio.sleep(1)
        assert log == []
        await trio.sleep(10)
        assert log == ["restarted", Terminated(ref, Killed())]


async def test_i21_a_handler_that_crashes_on_a_signal_does_not_get_it_again(
    quiet: None,
) -> None:
    seen: list[Any] = []

    class Fragile(Observer):
        async def on_signal(self, signal: Any) -> None:
            seen.append(signal)
            raise OSError("crash")

    async with open_system() as system:
        ref = system.spawn(once())
        spec = ChildSpec("fragile", lambda: Fragile([]), in_flight=InFlight.REDELIVER)
        watcher = system.spawn(spec)
        watcher.tell(("watch", ref))
        await settled()
        ref.kill()
        await settled()
        watcher.tell(("watch", ref))
        await settled()
        assert seen == [Terminated(ref, Killed())]


@pytest.mark.parametrize(
    "overflow",
    [Overflow.REJECT, Overflow.DROP_NEW, Overflow.DROP_OLDEST],
)
async def test_i5_i21_a_full_mailbox_neither_refuses_nor_evicts_a_signal(
    overflow: Overflow, quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    async with open_system() as system:
        refs = [system.spawn(once(f"worker{number}")) for number in range(3)]
        watcher = system.spawn(observer(log, mailbox=Lane(1, overflow)))
        for ref in refs:
            await watcher.send(("watch", ref))
        await watcher.send(1.0)
        await settled()
        for ref in refs:
            ref.kill()
            await ref.join()
            watcher.tell("message")
        await trio.sleep(2)
        # Signals come first, in the order of the deaths.
        assert log == [*(Terminated(ref, Killed()) for ref in refs), "message"]


async def test_i20_i21_watchers_hear_of_an_actor_whose_start_fails_for_good(
    quiet: None,
) -> None:
    log: list[Any] = []
    error = OSError("never ready")

    class Unready(Worker):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.lowlevel.checkpoint()
            raise error

    async with open_system() as system:
        watcher = system.spawn(observer(log))
        await settled()
        ref = system.spawn(ChildSpec("unready", Unready, restart=Restart.TEMPORARY))
        watcher.tell(("watch", ref))
        await settled()
        assert log == [Terminated(ref, InitFailed(error))]


async def test_i21_watchers_hear_of_an_actor_that_is_killed_between_two_incarnations(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    async with open_system() as system:
        ref = system.spawn(worker(backoff=Backoff(first=10, jitter=0)))
        watcher = system.spawn(observer(log))
        watcher.tell(("watch", ref))
        ref.tell(OSError("crash"))
        await trio.sleep(1)
        assert log == []
        ref.kill()
        await trio.sleep(1)
        assert log == [Terminated(ref, Killed())]


async def test_i21_each_of_several_watchers_is_told_once() -> None:
    logs: list[list[Any]] = [[] for _ in range(3)]
    async with open_actor_system("system", root=[ChildSpec("all", DynamicSupervisor)]) as system:
        ref = system.spawn(worker())
        for number, log in enumerate(logs):
            spec = ChildSpec(f"observer{number}", lambda log=log: Observer(log))
            system.spawn(spec).tell(("watch", ref))
        await settled()
        ref.kill()
        await settled()
        assert logs == [[Terminated(ref, Killed())]] * 3


async def test_an_actor_with_a_run_of_its_own_gets_signals_from_receive() -> None:
    got: list[Any] = []
    watched: list[ActorRef[Any]] = []

    class Own(Actor[Any]):
        async def run(self, ctx: Context) -> None:
            ctx.watch(watched[0])
            got.append(await ctx.receive())
            got.append(await ctx.receive())

    async with open_system() as system:
        watched.append(system.spawn(worker()))
        ref = system.spawn(ChildSpec("own", Own, restart=Restart.TEMPORARY))
        await settled()
        watched[0].kill()
        ref.tell("message")
        assert await ref.join() == Normal()
        assert "message" in got
        assert Terminated(watched[0], Killed()) in got


async def crash_of(system: ActorSystem, message: Any, log: list[Any] | None = None) -> Exception:
    """Give what an actor raises when it is told something."""
    ref = system.spawn(observer([] if log is None else log, restart=Restart.TEMPORARY))
    ref.tell((message, ref))
    reason = await ref.join()
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, Exception)
    return reason.error


async def test_an_actor_cannot_watch_itself_or_be_linked_with_itself(quiet: None) -> None:
    async with open_system() as system:
        error = await crash_of(system, "watch")
        assert str(error) == "/system/observer cannot watch itself: override `stopped` instead"
        error = await crash_of(system, "link")
        assert str(error) == "/system/observer cannot be linked with itself"


async def test_watching_without_handling_signals_says_what_to_override() -> None:
    errors: list[str] = []

    class Deaf(Actor[ActorRef[Any]]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx

        async def receive(self, message: ActorRef[Any]) -> None:
            with pytest.raises(TypeError) as failure:
                self.ctx.watch(message)
            errors.append(str(failure.value))

    async with open_system() as system:
        ref = system.spawn(worker())
        system.spawn(ChildSpec("deaf", Deaf)).tell(ref)
        await settled()
    (error,) = errors
    assert error.endswith("Deaf would get Terminated, but handles no signals: override on_signal")


async def test_what_is_no_reference_cannot_be_watched() -> None:
    errors: list[str] = []

    class Mistaken(Observer):
        async def receive(self, message: Any) -> None:
            with pytest.raises(TypeError) as failure:
                self.ctx.watch(self)  # type: ignore[arg-type]
            errors.append(str(failure.value))

    async with open_system() as system:
        system.spawn(ChildSpec("mistaken", lambda: Mistaken([]))).tell("go")
        await settled()
    assert errors[0].startswith("ref must be an ActorRef, such as ctx.self or what spawn gives")


async def test_an_actor_of_another_system_in_the_same_thread_can_be_watched() -> None:
    log: list[Any] = []
    async with open_system() as system:
        watcher = system.spawn(observer(log))
        async with open_actor_system("other") as other:
            ref = other.spawn(worker())
            watcher.tell(("watch", ref))
            await settled()
        await settled()
        (signal,) = log
        assert signal.ref == ref
        assert isinstance(signal.reason, Shutdown)


async def test_an_actor_of_another_thread_can_be_neither_watched_nor_linked() -> None:
    foreign: list[ActorRef[Any]] = []
    ready, over = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        async with open_actor_system("elsewhere") as system:
            foreign.append(system.spawn(worker()))
            ready.set()
            await trio.to_thread.run_sync(over.wait)

    errors: list[str] = []

    class Far(Observer):
        async def receive(self, message: Any) -> None:
            for method in (self.ctx.watch, self.ctx.unwatch, self.ctx.link, self.ctx.unlink):
                with pytest.raises(ForeignSystem) as failure:
                    method(message)
                errors.append(failure.value.path)

    thread = threading.Thread(target=trio.run, args=(elsewhere,))
    thread.start()
    try:
        await trio.to_thread.run_sync(ready.wait)
        async with open_system() as system:
            system.spawn(ChildSpec("far", lambda: Far([]))).tell(foreign[0])
            await settled()
    finally:
        over.set()
        await trio.to_thread.run_sync(thread.join)
    assert errors == ["/elsewhere/worker"] * 4


async def test_i27_watches_leave_nothing_behind_on_either_side() -> None:
    async with open_system() as system:
        ref = system.spawn(worker())
        for _ in range(3):
            watcher = system.spawn(observer([], restart=Restart.TEMPORARY))
            watcher.tell(("watch", ref))
            watcher.tell(("link", ref))
            watcher.tell(("unlink", ref))
            await settled()
            watcher.stop()
            await watcher.join()
        assert len(ref._cell._farewells or ()) <= 1  # of its own bonds


async def test_i27_who_was_told_of_many_deaths_keeps_none_of_the_dead() -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[ChildSpec("all", DynamicSupervisor)]) as system:
        watcher = system.spawn(observer(log))
        ref = system.spawn(once())
        cell = weakref.ref(ref._cell)
        watcher.tell(("watch", ref))
        await settled()
        ref.kill()
        await settled()
        assert log == [Terminated(ref, Killed())]
        del ref
        watcher.tell("message")  # its loop holds what it handled last
        await settled()
        log.clear()
        gc.collect()
        assert cell() is None
        assert watcher.alive


# A watcher and what it watches, in few steps; the watcher handles what it has after each
# step but "pile up", which lets the next steps meet what waits in its mailbox.
watching = st.lists(
    st.tuples(
        st.sampled_from(["watch", "unwatch", "kill", "restart", "restart watcher"]),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=12,
)


@given(watching)
@settings(deadline=None)
def test_i21_whatever_the_order_each_death_is_told_once_to_who_watches(
    steps: list[tuple[str, int, bool]],
) -> None:
    log: list[Any] = []
    expected: list[int] = []
    watched: set[int] = set()
    dead: set[int] = set()
    told: set[int] = set()

    class Batch(Observer):
        """Does several things in one handler, while signals pile up in its mailbox."""

        async def receive(self, message: Any) -> None:
            if isinstance(message, Exception):
                raise message
            for what, ref in message:
                match what:
                    case "watch" | "unwatch":
                        getattr(self.ctx, what)(ref)
                    case "kill":
                        ref.kill()
                        await ref.join()
                    case "restart" if ref.alive:
                        ref.tell(OSError("crash"))
                        await trio.sleep(1)

    def look() -> None:
        """The model: at each look the watcher learns of the dead that it watches."""
        for number in sorted(watched & dead - told):
            told.add(number)
            expected.append(number)
        watched.difference_update(told)

    async def main() -> None:
        async with open_system() as system:
            refs = [system.spawn(worker(f"worker{number}")) for number in range(2)]
            watcher = system.spawn(ChildSpec("watcher", lambda: Batch(log)))
            await trio.sleep(60)
            batch: list[tuple[str, ActorRef[Any]]] = []
            for what, number, handled in steps:
                if what == "restart watcher":
                    watcher.tell(tuple(batch))
                    batch.clear()
                    watcher.tell(OSError("crash"))
                    await trio.sleep(60)
                    look()
                    continue
                batch.append((what, refs[number]))
                if what == "watch" and number not in told:
                    watched.add(number)
                elif what == "unwatch":
                    watched.discard(number)
                elif what == "kill":
                    dead.add(number)
                if handled:
                    watcher.tell(tuple(batch))
                    batch.clear()
                    await trio.sleep(60)
                    look()
            watcher.tell(tuple(batch))
            await trio.sleep(60)
            look()
            heard = [refs.index(each.ref) for each in log if isinstance(each, Terminated)]
            assert sorted(heard) == sorted(expected)
            assert len(set(heard)) == len(heard)

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)


# Links.


async def linked(
    system: ActorSystem, **options: Any
) -> tuple[ActorRef[Any], ActorRef[Any], list[Any]]:
    """Start two actors, the first of them linked to the second."""
    log: list[Any] = []
    one = system.spawn(observer(log, **options))
    other = system.spawn(once())
    one.tell(("link", other))
    await settled()
    return one, other, log


@pytest.mark.parametrize("first", [0, 1])
async def test_an_abnormal_end_of_either_stops_the_other_because_of_the_link(
    first: int, quiet: None
) -> None:
    async with open_system() as system:
        *pair, _ = await linked(system, restart=Restart.TEMPORARY)
        error = OSError("crash")
        pair[first].tell(error)
        assert await pair[1 - first].join() == LinkBroken(pair[first], Crash(error))


async def test_a_request_to_stop_one_breaks_the_link_too(quiet: None) -> None:
    async with open_system() as system:
        one, other, _ = await linked(system, restart=Restart.TEMPORARY)
        other.stop("the test")
        assert await one.join() == LinkBroken(other, Shutdown("the test"))


async def test_a_normal_end_leaves_the_other_alone_and_the_link_is_gone() -> None:
    async with open_system() as system:
        one, other, log = await linked(system)
        other.tell(None)
        assert await other.join() == Normal()
        await settled()
        one.tell("still here")
        await settled()
        assert log == ["still here"]
        assert not one._cell.open_bonds().links


async def test_a_broken_link_is_abnormal_and_the_restart_policy_says_what_follows(
    quiet: None,
) -> None:
    async with open_system() as system:
        one, other, log = await linked(system, restart=Restart.TRANSIENT)
        other.kill()
        await settled()
        assert one.alive
        assert log == ["restarted"]


async def test_i19_a_link_survives_a_restart_of_either_side(quiet: None) -> None:
    log: list[Any] = []
    async with open_system() as system:
        one, other = system.spawn(observer(log)), system.spawn(worker())
        one.tell(("link", other))
        await settled()
        other.tell(OSError("one"))
        await settled()
        assert log == []
        one.tell(OSError("two"))
        await settled()
        assert log == ["restarted"]
        other.kill()
        await settled()
        assert log == ["restarted", "restarted"]


@pytest.mark.parametrize("who", ["the one who linked", "the other"])
async def test_unlink_undoes_the_link_for_both_whoever_made_it(who: str, quiet: None) -> None:
    log: list[Any] = []
    async with open_system() as system:
        one = system.spawn(observer(log))
        other = system.spawn(ChildSpec("other", lambda: Observer(log)))
        one.tell(("link", other))
        await settled()
        if who == "the other":
            other.tell(("unlink", one))
        else:
            one.tell(("unlink", other))
        await settled()
        other.kill()
        await settled()
        assert log == []
        assert not one._cell.open_bonds().links


async def test_linking_an_actor_that_has_ended_breaks_at_once(quiet: None) -> None:
    async with open_system() as system:
        dead = system.spawn(once())
        dead.kill("before")
        await dead.join()
        one = system.spawn(observer([], restart=Restart.TEMPORARY))
        one.tell(("link", dead))
        assert await one.join() == LinkBroken(dead, Killed("before"))


async def test_linking_an_actor_that_came_to_its_normal_end_does_nothing() -> None:
    log: list[Any] = []
    async with open_system() as system:
        done = system.spawn(once())
        done.tell(None)
        assert await done.join() == Normal()
        one = system.spawn(observer(log))
        one.tell(("link", done))
        one.tell("still here")
        await settled()
        assert log == ["still here"]
        assert not one._cell.open_bonds().links


async def test_a_handler_may_finish_before_a_broken_link_ends_its_actor(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []

    class Slow(Observer):
        async def receive(self, message: Any) -> None:
            if message == "work":
                await trio.sleep(1)
                log.append("done")
            else:
                await super().receive(message)

    async with open_system() as system:
        other = system.spawn(once())
        one = system.spawn(ChildSpec("slow", lambda: Slow(log), restart=Restart.TEMPORARY))
        one.tell(("link", other))
        one.tell("work")
        await settled()
        other.kill()
        assert await one.join() == LinkBroken(other, Killed())
        assert log == ["done"]


async def test_links_both_ways_and_in_a_ring_break_once_and_without_end(quiet: None) -> None:
    async with open_actor_system("system", root=[ChildSpec("all", DynamicSupervisor)]) as system:
        ring = [
            system.spawn(ChildSpec(f"o{at}", lambda: Observer([]), restart=Restart.TEMPORARY))
            for at in range(5)
        ]
        for at, ref in enumerate(ring):
            assert ref.tell(("link", ring[at - 1])) is Delivery.ACCEPTED
            assert ring[at - 1].tell(("link", ref)) is Delivery.ACCEPTED
        await settled()
        ring[0].kill()
        reasons = [await ref.join() for ref in ring]
        assert reasons == [Killed(), *[LinkBroken(ring[0], Killed())] * 4]


async def test_along_a_chain_of_a_thousand_links_all_learn_of_the_first_end(
    quiet: None,
) -> None:
    async with open_actor_system("system") as system:
        rooms = DynamicSupervisor()
        system.spawn(ChildSpec("rooms", lambda: rooms))
        await settled()
        spec = observer([], restart=Restart.TEMPORARY)
        chain = [rooms.start_child(spec) for _ in range(1000)]
        for one, other in pairwise(chain):
            one.tell(("link", other))
        await settled()
        chain[0].kill()
        assert await chain[-1].join() == LinkBroken(chain[0], Killed())
        await settled()
        assert len(rooms) == 0


# Pairs that are linked, and then the one that is killed: who is connected to it ends too.
edges = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=10)


@given(edges, edges, st.integers(0, 5), st.sampled_from(["kill", "stop", "normal"]))
@settings(deadline=None)
def test_exactly_those_end_who_are_linked_with_the_one_that_ends(
    links: list[tuple[int, int]], unlinks: list[tuple[int, int]], first: int, how: str
) -> None:
    left = {frozenset(pair) for pair in links if pair[0] != pair[1]}
    left -= {frozenset(pair) for pair in unlinks}
    reached = {first}
    while how != "normal":
        more = {at for pair in left for at in pair if pair & reached} - reached
        if not more:
            break
        reached |= more

    class Node(Observer):
        async def run(self, ctx: Context) -> None:
            while (message := await ctx.receive()) is not None:
                method, ref = message
                getattr(ctx, method)(ref)

    async def main() -> None:
        async with open_system() as system:
            refs = [
                system.spawn(ChildSpec(f"node{at}", lambda: Node([]), restart=Restart.TEMPORARY))
                for at in range(6)
            ]
            for method, pairs in (("link", links), ("unlink", unlinks)):
                for one, other in pairs:
                    if one != other:
                        refs[one].tell((method, refs[other]))
                await settled()
            match how:
                case "kill":
                    refs[first].kill()
                case "stop":
                    refs[first].stop()
                case _:
                    refs[first].tell(None)
            await settled()
            assert {at for at, ref in enumerate(refs) if not ref.alive} == reached

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main)
    finally:
        logging.disable(logging.NOTSET)
