"""How each question ends, whatever both sides do: drawn, and held against a plain model."""

import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import (
    losses,
    player,
    sleep,
)

from greenroom.actors import (
    Actor,
    ActorRef,
    AskError,
    ChildSpec,
    Context,
    Directive,
    DynamicSupervisor,
    ExitReason,
    InFlight,
    Lane,
    Loss,
    Overflow,
    Reply,
    Restart,
    open_actor_system,
    open_dynamic_supervisor,
)

# Who waits for how long: the first thing to happen ends it.

moments = st.one_of(st.none(), st.integers(0, 4))


@settings(deadline=None, max_examples=200)
@given(
    busy=st.integers(0, 3),
    takes=st.integers(0, 3),
    fails=st.booleans(),
    timeout=moments,
    cancelled_at=moments,
    killed_at=moments,
)
def test_i9_i11_an_ask_ends_with_the_first_thing_that_ends_it_and_everything_is_accounted_for(
    busy: int,
    takes: int,
    fails: bool,
    timeout: int | None,
    cancelled_at: int | None,
    killed_at: int | None,
) -> None:
    handled: list[str] = []

    async def line(ctx: Context) -> str:
        handled.append("begun")
        if takes:
            await trio.sleep(takes)
        handled.append("finished")
        if fails:
            raise OSError("theirs")
        return "reply"

    async def main() -> tuple[str, float, list[tuple[Any, Loss]]]:
        def cancel_after(seconds: int, act: Callable[[], None]) -> Callable[[], Awaitable[None]]:
            async def task() -> None:
                await trio.sleep(seconds)
                act()

            return task

        async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
            ref = supervisor.start_child(player())
            await ref.wait_started()
            ref.tell(sleep(busy))
            await trio.lowlevel.checkpoint()
            scope = trio.CancelScope()
            if killed_at is not None:
                nursery.start_soon(cancel_after(killed_at, ref.kill))
            if cancelled_at is not None:
                nursery.start_soon(cancel_after(cancelled_at, scope.cancel))
            end = "cancelled"
            with scope:
                try:
                    end = await ref.ask(line, timeout=inf if timeout is None else timeout)
                except AskError as error:
                    end = type(error).__name__
            at = trio.current_time()
            await trio.sleep(20)
            return end, at, losses(supervisor)

    logging.disable(logging.CRITICAL)
    try:
        end, at, lost = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    # All that could end it, and when. What is due in the same second may come first.
    could = {"RemoteError" if fails else "reply": busy + takes}
    if timeout is not None:
        could["AskTimeout"] = timeout
    if cancelled_at is not None:
        could["cancelled"] = cancelled_at
    if killed_at is not None:
        could["ActorDied"] = killed_at
    assert at == min(could.values())
    assert could[end] == at
    # And what became of the message and its reply; the busy one may have been lost to the kill.
    mine = [loss for message, loss in lost if message in (line, "reply")]
    if end in ("reply", "RemoteError"):
        assert handled == ["begun", "finished"]
        assert mine == ([Loss.CRASHED] if fails else [])
    elif not handled:
        (loss,) = mine
        assert loss in (Loss.EXPIRED, Loss.LEFT_OVER, Loss.DEAD)
        assert end == "ActorDied" or killed_at is not None or loss is Loss.EXPIRED
    elif handled == ["begun"]:
        assert killed_at is not None
        assert mine == [Loss.CANCELLED]
    else:
        assert mine == [Loss.CRASHED if fails else Loss.LATE]


# Many at once: whatever a target does to its messages, and whatever happens to it.

kinds = st.sampled_from(["reply", "wait", "raise", "later", "never", "stash", "unstash"])
asks = st.lists(
    st.tuples(kinds, st.integers(0, 3), moments, moments), min_size=1, max_size=5
)  # kind, when, timeout, cancelled after
fates = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["crash", "stop", "drain", "kill"])), max_size=2
)


@settings(deadline=None, max_examples=200)
@given(
    asks,
    fates,
    st.sampled_from([None, Directive.RESUME, Directive.RESTART]),
    st.sampled_from(InFlight),
    st.one_of(
        st.just(Lane()),
        st.builds(
            Lane,
            st.integers(1, 2),
            st.sampled_from(
                [Overflow.REJECT, Overflow.DROP_NEW, Overflow.DROP_OLDEST, Overflow.CLOSE]
            ),
        ),
    ),
    st.sampled_from(Restart),
)
def test_i1_i9_every_ask_ends_in_exactly_one_way_whatever_happens_to_either_side(
    script: list[tuple[str, int, int | None, int | None]],
    fates: list[tuple[int, str]],
    directive: Directive | None,
    in_flight: InFlight,
    lane: Lane,
    restart: Restart,
) -> None:
    ends: dict[int, list[tuple[str, Any]]] = {number: [] for number in range(len(script))}

    class Target(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx

        async def receive(self, message: Any) -> Any:
            kind, number = message
            match kind:
                case "wait":
                    await trio.sleep(1)
                case "raise":
                    raise OSError(number)
                case "later":
                    self.ctx.nursery.start_soon(self.later, self.ctx.reply_later(), number)
                case "never":
                    self.ctx.reply_later()
                case "stash":
                    self.ctx.stash()
                case "unstash":
                    self.ctx.become(self.calm)
                    self.ctx.unstash_all()
            return number

        async def calm(self, message: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return message[1]

        async def later(self, reply: Reply, number: int) -> None:
            await trio.sleep(1)
            reply.send(number)

    async def ask(ref: ActorRef[Any], number: int) -> None:
        kind, when, timeout, cancelled_after = script[number]
        await trio.sleep(when)
        limit = inf if timeout is None else timeout
        with trio.move_on_after(inf if cancelled_after is None else cancelled_after) as scope:
            try:
                reply = await ref.ask((kind, number), timeout=limit)
                ends[number].append(("reply", reply))
            except AskError as error:
                ends[number].append((type(error).__name__, trio.current_time() - when))
        if scope.cancelled_caught:
            ends[number].append(("cancelled", trio.current_time() - when))

    async def strike(ref: ActorRef[Any], when: int, fate: str) -> None:
        await trio.sleep(when)
        match fate:
            case "crash":
                ref.tell(("raise", None))
            case "kill":
                ref.kill()
            case _:
                ref.stop(drain=fate == "drain")

    async def main() -> tuple[DynamicSupervisor, int]:
        decider = None if directive is None else (lambda error: directive)
        spec = ChildSpec(
            "target", Target, restart, on_failure=decider, in_flight=in_flight, mailbox=lane
        )
        supervisor = DynamicSupervisor(intensity=100, on_exit=lambda *_: None)
        async with (
            trio.open_nursery() as nursery,
            open_actor_system("system", root=[ChildSpec("supervisor", lambda: supervisor)]),
        ):
            ref = supervisor.start_child(spec)
            for number in range(len(script)):
                nursery.start_soon(ask, ref, number)
            for when, fate in fates:
                nursery.start_soon(strike, ref, when, fate)
            await trio.sleep(12)
            open_then = sum(not end for end in ends.values())
        return supervisor, open_then

    logging.disable(logging.CRITICAL)
    try:
        supervisor, open_then = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    struck = {fate for _, fate in fates}
    fragile = {"crash", "kill", "stop", "drain"} & struck or lane.overflow is Overflow.CLOSE
    fragile = fragile or any(kind == "raise" for kind, *_ in script)
    for number, (kind, _, timeout, cancelled_after) in enumerate(script):
        ((end, detail),) = ends[number]  # exactly one
        match end:
            case "reply":
                assert detail == number
            case "AskTimeout":
                assert detail == timeout
            case "cancelled":
                assert detail == cancelled_after
            case "RemoteError":
                assert kind == "raise"
            case "MailboxFull":
                assert lane.capacity is not None
            case "ActorDied":
                # Those that nobody answers end at the latest with the system.
                assert fragile or kind in ("never", "stash")
    assert open_then <= sum(kind in ("never", "stash") for kind, *_ in script)
    assert not supervisor.children or not list(supervisor.children)
