"""The receive timeout: told of each silence that is long enough, and of no other."""

import logging
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Body, Player, once, player, settled, sleep

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    Directive,
    ExitReason,
    ReceiveTimeout,
    open_actor_system,
    open_dynamic_supervisor,
)

steps = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 9), st.just("work"), st.integers(0, 3)),
        st.tuples(st.integers(0, 9), st.just("set"), st.sampled_from([None, 1, 2, 3])),
        st.tuples(st.integers(0, 9), st.just("crash"), st.none()),
    ),
    max_size=6,
).map(lambda steps: sorted(steps, key=lambda step: step[0]))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([None, 1, 2, 3]), steps, st.integers(0, 1), st.booleans())
def test_i23_there_is_one_signal_for_each_silence_that_is_as_long_as_was_said(
    at_first: int | None,
    script: list[tuple[int, str, int | None]],
    signal_takes: int,
    has_a_run: bool,
) -> None:
    log: list[tuple[float, str, Any]] = []

    def note(what: str, detail: Any = None) -> None:
        log.append((trio.current_time(), what, detail))

    class Listener(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            ctx.set_receive_timeout(at_first)
            note("started", at_first)

        async def receive(self, message: tuple[str, int | None]) -> None:
            what, number = message
            note("begin")
            match what:
                case "work":
                    await trio.sleep(number or 0)
                case "set":
                    self.ctx.set_receive_timeout(number)
                    note("set", number)
                case "crash":
                    raise OSError
            note("end")

        async def on_signal(self, signal: Any) -> None:
            note("signal", signal.seconds)
            await trio.sleep(signal_takes)
            note("end")

    class ListenerWithRun(Listener):
        async def run(self, ctx: Context) -> None:
            while True:
                message = await ctx.receive()
                if isinstance(message, ReceiveTimeout):
                    await self.on_signal(message)
                else:
                    await self.receive(message)

    async def main() -> None:
        kind = ListenerWithRun if has_a_run else Listener
        spec = ChildSpec("listener", kind, intensity=99)
        async with open_actor_system("system", root=[spec]) as system:
            (ref,) = system.children
            for when, *message in script:
                await trio.sleep_until(when)
                ref.tell(tuple(message))
            await trio.sleep_until(20)
            note("over")
            ref.kill()

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    seconds, last = inf, 0.0
    for at, what, detail in log:
        match what:
            case "started" | "set":
                seconds, last = inf if detail is None else detail, at
            case "signal":
                assert detail == seconds
                assert at == last + seconds
                last = inf
            case "begin":
                assert at <= last + seconds
                last = inf
            case "over":
                assert at <= last + seconds
                break
            case "end":
                last = at


async def test_a_message_that_waits_is_no_silence_however_long_the_handler_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        ctx.set_receive_timeout(1)
        await trio.sleep(5)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        ref.tell(begin)
        await trio.sleep(2)
        ref.tell(sleep(5))
        await trio.sleep(8.5)
        assert log == []
        await trio.sleep(1)
        assert log == [ReceiveTimeout(1)]


async def test_a_signal_that_waits_is_void_when_the_timeout_is_taken_back_or_set_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Two(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            ctx.set_receive_timeout(1)
            await trio.sleep(2)  # the signal waits already
            ctx.set_receive_timeout(seconds)

    for seconds in (None, 5.0):
        log: list[Any] = []
        async with open_dynamic_supervisor() as supervisor:
            supervisor.start_child(once(lambda: Two(log)))  # noqa: B023
            await trio.sleep(8)
        assert log == ([] if seconds is None else [ReceiveTimeout(5)])


async def test_the_handler_of_the_signal_may_end_it_or_set_it_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[tuple[float, float]] = []

    class Backing(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            ctx.set_receive_timeout(1)

        async def on_signal(self, signal: Any) -> None:
            seen.append((trio.current_time(), signal.seconds))
            self.ctx.set_receive_timeout(signal.seconds * 2 if signal.seconds < 4 else None)

    async with open_dynamic_supervisor() as supervisor:
        supervisor.start_child(once(Backing))
        await trio.sleep(99)
    assert seen == [(1, 1), (3, 2), (7, 4)]


async def test_i19_a_receive_timeout_ends_with_its_incarnation_also_if_its_signal_waits(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    log: list[Any] = []

    class First(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            if cause is None:
                ctx.set_receive_timeout(1)
                await trio.sleep(2)
                raise OSError

    spec = ChildSpec("first", lambda: First(log))
    async with open_actor_system("system") as system:
        ref = system.spawn(spec)
        assert await ref.ask("hello") == "hello"
        await trio.sleep(9)
    assert log == ["hello"]


async def test_a_handler_of_the_signal_that_fails_and_is_resumed_hears_of_the_next_silence(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    seen: list[float] = []

    class Failing(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            ctx.set_receive_timeout(2)

        async def on_signal(self, signal: Any) -> None:
            seen.append(trio.current_time())
            raise OSError

    async with open_dynamic_supervisor() as supervisor:
        supervisor.start_child(once(Failing, on_failure=lambda error: Directive.RESUME))
        await trio.sleep(7)
        assert not supervisor.dead_letters.count
    assert seen == [2, 4, 6]


async def test_a_body_hears_of_the_silence_only_while_it_waits_for_a_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[tuple[Any, float]] = []

    async def body(ctx: Context) -> None:
        ctx.set_receive_timeout(1)
        for _ in range(3):
            seen.append((await ctx.receive(), trio.current_time()))
            await trio.sleep(3)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Body), body)
        await trio.sleep(3)
        ref.tell("hello")
        await ref.join()
    assert seen == [(ReceiveTimeout(1), 1), ("hello", 4), (ReceiveTimeout(1), 8)]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_the_silence_must_have_a_length(seconds: float) -> None:
    async def set_it(ctx: Context) -> None:
        with pytest.raises(ValueError, match="seconds must be more than 0, or None; it is"):
            ctx.set_receive_timeout(seconds)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        await ref.ask(set_it)


async def test_who_handles_no_signals_cannot_be_told_of_a_silence() -> None:
    class Deaf(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            ctx.set_receive_timeout(None)
            with pytest.raises(TypeError, match="Deaf would get ReceiveTimeout, but handles no"):
                ctx.set_receive_timeout(1)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Deaf))
        assert await ref.wait_started()
        await settled()
