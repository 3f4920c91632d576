"""The stash: messages put aside, in their order, through restarts, until the end."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Body, Player, forever, losses, once, player, settled, sleep

from greenroom.actors import (
    Actor,
    ActorDied,
    ActorRef,
    AskError,
    AskTimeout,
    ChildSpec,
    Context,
    ExitReason,
    InFlight,
    Loss,
    RemoteError,
    Restart,
    StashFull,
    open_actor_system,
    open_dynamic_supervisor,
)

# An actor that is open or closed, against lists.


@dataclass(frozen=True)
class Job:
    """Work is stashed while the actor is closed."""

    number: int
    kind: str  # "work", "open", "close", "crash", or "swap": unstash all, then stash itself


@dataclass
class Model:
    """What becomes of the jobs, as plainly as it can be said."""

    capacity: int
    redelivers: bool

    def __post_init__(self) -> None:
        self.handled: list[tuple[int, str]] = []
        self.lost: list[tuple[int, Loss]] = []
        self.tries: dict[int, int] = {}

    def play(self, queue: list[Job]) -> None:
        stash: list[Job] = []
        is_open = False
        while queue:
            job = queue.pop(0)
            tries = self.tries[job.number] = self.tries.get(job.number, 0) + 1
            if job.kind == "crash":
                if self.redelivers and tries == 1:
                    queue.insert(0, job)
                else:
                    self.lost.append((job.number, Loss.CRASHED))
                queue, stash, is_open = stash + queue, [], False
                continue
            if job.kind == "open":
                queue, stash, is_open = stash + queue, [], True
            elif job.kind == "close":
                is_open = False
            elif job.kind == "swap" and tries == 1:
                queue, stash = stash + queue, []
                if self.capacity:
                    stash.append(job)
                    continue
                self.handled.append((job.number, "full"))
                continue
            elif not is_open:
                if len(stash) < self.capacity:
                    stash.append(job)
                    continue
                self.handled.append((job.number, "full"))
                continue
            self.handled.append((job.number, "done"))
        self.lost += [(job.number, Loss.LEFT_OVER) for job in stash]


class Counter(Actor[Job]):
    """The same with a real stash."""

    def __init__(
        self, begin: trio.Event, handled: list[tuple[int, str]], tries: dict[int, int]
    ) -> None:
        self.begin = begin
        self.handled = handled
        self.tries = tries
        self.is_open = False

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx
        await self.begin.wait()

    async def receive(self, job: Job) -> str:
        tries = self.tries[job.number] = self.tries.get(job.number, 0) + 1
        await trio.lowlevel.checkpoint()
        match job.kind:
            case "crash":
                raise OSError
            case "open":
                self.ctx.unstash_all()
                self.is_open = True
                return self.end(job, "done")
            case "close":
                self.is_open = False
                return self.end(job, "done")
            case "swap" if tries == 1:
                self.ctx.unstash_all()
            case _ if self.is_open:
                return self.end(job, "done")
        try:
            self.ctx.stash()
        except StashFull:
            return self.end(job, "full")
        return "what is returned after a stash is no reply"

    def end(self, job: Job, how: str) -> str:
        self.handled.append((job.number, how))
        return how


class CounterWithRun(Counter):
    """The same as an actor that takes its messages itself."""

    async def run(self, ctx: Context) -> None:
        while True:
            await self.receive(await ctx.receive())


kinds = st.sampled_from(["work", "work", "work", "open", "close", "swap", "crash"])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(kinds, st.booleans()), max_size=10),
    st.integers(0, 4),
    st.sampled_from(InFlight),
    st.booleans(),
)
def test_i1_i2_i3_i24_what_is_stashed_is_handled_in_its_order_or_becomes_a_dead_letter(
    script: list[tuple[str, bool]], capacity: int, in_flight: InFlight, has_a_run: bool
) -> None:
    handled: list[tuple[int, str]] = []
    tries: dict[int, int] = {}
    ends: dict[int, Any] = {}
    jobs = [Job(number, kind) for number, (kind, _) in enumerate(script)]

    async def ask(ref: ActorRef[Any], job: Job) -> None:
        try:
            ends[job.number] = await ref.ask(job)
        except AskError as error:
            ends[job.number] = type(error)

    async def main() -> list[tuple[Any, Loss]]:
        kind, begin = CounterWithRun if has_a_run else Counter, trio.Event()
        spec = ChildSpec(
            "counter",
            lambda: kind(begin, handled, tries),
            in_flight=in_flight,
            stash_capacity=capacity,
            intensity=99,
        )
        async with trio.open_nursery() as nursery, open_actor_system("system") as system:
            ref = system.spawn(spec)
            for job, (_, asked) in zip(jobs, script, strict=True):
                if asked:
                    nursery.start_soon(ask, ref, job)
                    await settled()
                else:
                    ref.tell(job)
            begin.set()
            await settled()
            inbox = ref._cell.inbox
            assert inbox is not None
            assert len(inbox._stash or ()) <= capacity
            if has_a_run:
                ref.tell(Job(-1, "close"))  # the one before it is done now, not before
                await settled()
                handled.pop()
            ref.stop()
            await ref.join()
            return [(job.number, loss) for job, loss in losses(system) if job.number >= 0]

    logging.disable(logging.CRITICAL)
    try:
        lost = trio.run(main)
    finally:
        logging.disable(logging.NOTSET)
    tries.pop(-1, None)
    model = Model(capacity, in_flight is InFlight.REDELIVER)
    model.play(list(jobs))
    assert handled == model.handled
    assert sorted(lost, key=str) == sorted(model.lost, key=str)
    assert tries == model.tries
    assert len(handled) + len(lost) == len(script)
    for number, (_, asked) in enumerate(script):
        if asked and not has_a_run:
            how = dict(model.handled).get(number)
            loss = dict(model.lost).get(number)
            error = {Loss.CRASHED: RemoteError, Loss.LEFT_OVER: ActorDied}.get(loss)  # type: ignore[arg-type]
            assert ends[number] == (how or error)


# One situation each.


async def stash(ctx: Context) -> None:
    """A message that is put aside for ever."""
    ctx.stash()


async def unstash(ctx: Context) -> int:
    return ctx.unstash_all()


def stashed_until(ready: Callable[[], bool]) -> Callable[[Context], Any]:
    """A message that is put aside while it cannot be handled."""

    async def line(ctx: Context) -> Any:
        if ready():
            return (ctx.sender, ctx.deadline)
        ctx.stash()
        return "no reply"

    return line


async def test_i24_a_full_stash_takes_nothing_and_the_message_stays_the_handlers_matter(
    quiet: None,
) -> None:
    async def try_to(ctx: Context) -> str:
        try:
            ctx.stash()
        except StashFull as error:
            return str(error)
        raise AssertionError

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(stash_capacity=2))
        ref.tell(stash)
        ref.tell(stash)
        text = await ref.ask(try_to)
        assert text == f"the stash of {ref.path} is full: it holds 2 messages"
        with pytest.raises(RemoteError, match="StashFull"):
            await ref.ask(stash)
        await ref.join()
        assert losses(supervisor) == [
            (stash, Loss.CRASHED), (stash, Loss.LEFT_OVER), (stash, Loss.LEFT_OVER),
        ]  # fmt: skip


async def test_unstashed_messages_come_before_those_that_wait_and_after_signals(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []
    ready = False

    def work(number: int) -> Callable[[Context], Any]:
        async def line(ctx: Context) -> None:
            if ready:
                log.append(number)
            else:
                ctx.stash()

        return line

    async def begin(ctx: Context) -> int:
        nonlocal ready
        ready = True
        ctx.set_receive_timeout(1)
        await trio.sleep(1)  # the signal may come now
        return ctx.unstash_all()

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        ref.tell(work(1))
        ref.tell(work(2))
        await settled()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, begin)
            await settled()
            ref.tell(3)
            ref.stop(drain=True)
        await ref.join()
    assert [str(each) for each in log] == ["Drain()", "1", "2", "3"]


async def test_a_stashed_message_keeps_its_sender_its_deadline_and_whoever_asks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    is_ready = False
    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player())
        sender = supervisor.start_child(player())

        async def ask() -> None:
            line = stashed_until(lambda: is_ready)
            assert await ref.ask(line, timeout=5, sender=sender) == (sender, 5)
            assert trio.current_time() == 2

        nursery.start_soon(ask)
        await trio.sleep(2)
        is_ready = True
        assert await ref.ask(unstash) == 1
        assert await ref.ask(unstash) == 0


async def test_i8_a_message_that_expires_in_the_stash_is_never_executed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    handled: list[str] = []

    async def work(ctx: Context) -> None:
        handled.append("told")
        ctx.stash()

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        ref.tell(work, deadline=3)
        with pytest.raises(AskTimeout):
            await ref.ask(work, timeout=3)
        assert handled == ["told", "told"]
        assert await ref.ask(unstash) == 2
        await settled()
        assert handled == ["told", "told"]
        assert losses(supervisor) == [(work, Loss.EXPIRED)] * 2


async def test_i3_i24_a_redelivered_message_may_be_stashed_and_is_not_redelivered_again(
    quiet: None,
) -> None:
    seen: list[str] = []

    async def work(ctx: Context) -> None:
        step = ["crash", "stash", "crash"][len(seen)]
        seen.append(step)
        if step == "crash":
            raise OSError
        ctx.stash()

    spec = player(restart=Restart.PERMANENT, in_flight=InFlight.REDELIVER, intensity=9)
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell(work)
        await settled()
        assert seen == ["crash", "stash"]
        ref.tell(unstash)
        await settled()
        assert seen == ["crash", "stash", "crash"]
        assert losses(system) == [(work, Loss.CRASHED)]


async def test_i3_a_group_message_that_one_member_has_redelivered_is_new_for_the_others(
    quiet: None,
) -> None:
    seen: list[str] = []

    async def crash(ctx: Context) -> None:
        seen.append(ctx.self.path)
        raise OSError

    specs = [
        player(id=name, restart=Restart.PERMANENT, in_flight=InFlight.REDELIVER, intensity=9)
        for name in ("one", "two")
    ]
    async with open_actor_system("system", root=specs) as system:
        for ref in system.children:
            system.groups.join("group", ref)
        system.groups.send("group", crash, sender=ref)
        await settled()
    assert sorted(seen) == ["/system/one", "/system/one", "/system/two", "/system/two"]


async def test_a_message_that_is_stashed_is_not_lost_when_its_handler_fails_afterwards(
    quiet: None,
) -> None:
    seen: list[int] = []

    async def work(ctx: Context) -> str:
        seen.append(ctx.incarnation)
        if ctx.incarnation == 0:
            ctx.stash()
            raise OSError
        return "done"

    async with open_actor_system("system", root=[player(restart=Restart.PERMANENT)]) as system:
        (ref,) = system.children
        assert await ref.ask(work) == "done"
        assert seen == [0, 1]
        assert not system.dead_letters.count


async def test_a_stash_after_the_duty_to_answer_was_taken_away_leaves_the_answer_where_it_is() -> (
    None
):
    async def work(ctx: Context) -> str:
        if not replies:
            replies.append(ctx.reply_later())
            ctx.stash()
        else:
            replies[0].send("by the reply")
        return "by the handler"

    replies: list[Any] = []
    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player())

        async def ask() -> None:
            assert await ref.ask(work) == "by the reply"

        nursery.start_soon(ask)
        await settled()
        await ref.ask(unstash)


@pytest.mark.parametrize("how", ["stop", "kill", "drain"])
async def test_i24_the_end_makes_dead_letters_of_what_is_stashed_before_what_waits(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(shutdown=1))
        lines = [stashed_until(bool) for _ in range(2)]
        for line in (*lines, forever):
            ref.tell(line)
        await settled()
        ref.tell("waiting")
        if how == "kill":
            ref.kill()
        else:
            ref.stop(drain=how == "drain")
        await ref.join()
        assert losses(supervisor) == [
            (forever, Loss.CANCELLED), (lines[0], Loss.LEFT_OVER), (lines[1], Loss.LEFT_OVER),
            ("waiting", Loss.LEFT_OVER),
        ]  # fmt: skip


async def test_an_actor_that_drains_may_take_up_its_stash(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []
    drains = False

    class Drainer(Player):
        async def on_signal(self, signal: Any) -> None:
            nonlocal drains
            drains = True
            assert self.ctx.unstash_all() == 2

    def work(number: int) -> Callable[[Context], Any]:
        async def line(ctx: Context) -> None:
            if drains:
                log.append(number)
            else:
                ctx.stash()

        return line

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(lambda: Drainer(log)))
        for line in (work(1), work(2), sleep(1)):
            ref.tell(line)
        await settled()
        ref.tell(3)
        ref.stop(drain=True)
        await ref.join()
        assert not supervisor.dead_letters.count
    assert log == [1, 2, 3]


async def test_an_actor_that_stashes_and_unstashes_for_ever_lets_others_run_and_can_be_stopped() -> (  # noqa: E501
    None
):
    async def again(ctx: Context) -> None:
        ctx.stash()
        ctx.unstash_all()

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        ref.tell(again)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        ref.stop()
        await ref.join()
        assert losses(supervisor) == [(again, Loss.LEFT_OVER)]


# Bad use.


async def test_there_is_nothing_to_stash_twice_or_in_a_signal_or_without_a_message() -> None:
    errors: list[str] = []

    def try_to(ctx: Context) -> None:
        with pytest.raises(RuntimeError, match="call stash\\(\\) once, in the handler") as error:
            ctx.stash()
        errors.append(str(error.value))

    class Signalled(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await super().started(ctx, cause)
            try_to(ctx)

        async def on_signal(self, signal: Any) -> None:
            try_to(self.ctx)

        async def stopped(self, reason: ExitReason) -> None:
            try_to(self.ctx)

    async def twice(ctx: Context) -> None:
        ctx.stash()
        try_to(ctx)

    async def body(ctx: Context) -> None:
        try_to(ctx)
        assert await ctx.receive() == "hello"
        ctx.stash()
        try_to(ctx)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Signalled))
        ref.tell(twice)
        await settled()
        ref.stop(drain=True)
        await ref.join()
        assert len(errors) == 4
        other = supervisor.start_child(once(Body), body)
        other.tell("hello")
        await other.join()
        assert len(errors) == 6
        assert losses(supervisor) == [(twice, Loss.LEFT_OVER), ("hello", Loss.LEFT_OVER)]
