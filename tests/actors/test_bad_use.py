"""Bad use gets an error that says what to do, at once, and where the mistake is."""

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from tests.actors.acting import Body, Player, forever, once, player, settled

from greenroom.actors import (
    Actor,
    ActorRef,
    ChildSpec,
    Context,
    Crash,
    DynamicSupervisor,
    ExitReason,
    ForeignSystem,
    InitFailed,
    Reply,
    Restart,
    SelfAsk,
    Supervisor,
    TimerMode,
    open_actor_system,
    open_dynamic_supervisor,
)

# Specs.


def test_two_children_with_one_id_are_refused_with_the_id() -> None:
    with pytest.raises(ValueError, match="the supervisor has a child 'twin' already"):
        Supervisor([player(id="twin"), player(id="other"), player(id="twin")])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": ""}, "id must be a name without '/'; it is ''"),
        ({"id": "a/b"}, "id must be a name without '/'; it is 'a/b'"),
        ({"intensity": -1}, "intensity must be 0 or more; it is -1"),
        ({"period": 0}, "period must be more than 0 seconds; it is 0"),
        ({"shutdown": -1}, "shutdown must be 0 seconds or more; it is -1"),
        ({"cleanup_timeout": -1}, "cleanup_timeout must be 0 seconds or more; it is -1"),
        ({"start_timeout": float("nan")}, "start_timeout must be 0 seconds or more; it is nan"),
        ({"stash_capacity": -1}, "stash_capacity must be 0 or more; it is -1"),
    ],
)
def test_a_spec_refuses_what_is_out_of_range_by_its_name_and_value(
    bad: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ChildSpec(**{"id": "child", "factory": Player, **bad})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"factory": Player()}, "factory must be what makes an Actor, as its class; it is <"),
        ({"mailbox": 10}, r"mailbox must be a Lane, as Lane\(capacity=10\); it is 10"),
    ],
)
def test_a_spec_refuses_an_actor_in_place_of_what_makes_one_and_a_number_in_place_of_a_lane(
    bad: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        ChildSpec(**{"id": "child", "factory": Player, **bad})


@pytest.mark.parametrize("make", [Supervisor, DynamicSupervisor])
def test_a_supervisor_refuses_a_negative_intensity_and_a_period_without_length(
    make: Callable[..., Any],
) -> None:
    with pytest.raises(ValueError, match="intensity must be 0 or more; it is -1"):
        make(intensity=-1)
    with pytest.raises(ValueError, match="period must be more than 0 seconds; it is 0"):
        make(period=0)


async def test_a_system_refuses_them_too_and_a_negative_time_to_shut_down() -> None:
    for bad in ({"intensity": -1}, {"period": 0}, {"shutdown_timeout": -1}):
        with pytest.raises(ValueError, match="must be"):
            async with open_actor_system("system", **bad):  # type: ignore[arg-type]
                raise AssertionError


async def a_coroutine() -> None:
    """Made in place of an actor by a factory that is `async def`."""


@pytest.mark.parametrize(
    "factory", [lambda: None, a_coroutine, lambda: Player], ids=["None", "a coroutine", "a class"]
)
async def test_a_factory_that_returns_no_actor_fails_where_it_is_called(
    factory: Callable[[], Any], quiet: None
) -> None:
    """And a coroutine that it made is not left behind without ever having been awaited."""
    message = "the factory of child 'player' must return an Actor; it returned"
    async with open_dynamic_supervisor() as supervisor:
        with pytest.raises(TypeError, match=message):
            supervisor.start_child(player(factory=factory))
        assert not len(supervisor)
    made = iter([Player()])
    supervisor = DynamicSupervisor(give_up=False)
    async with open_actor_system("system", root=[ChildSpec("top", lambda: supervisor)]):
        ref = supervisor.start_child(
            player(
                factory=lambda: next(made, None) or factory(),
                restart=Restart.PERMANENT,
                intensity=1,
            )
        )
        ref.tell(OSError())
        reason = await ref.join()
        assert isinstance(reason, InitFailed)
        assert message in str(reason.error)


# Classes.


@pytest.mark.parametrize("name", ["started", "receive", "on_signal", "run", "stopped"])
def test_a_handler_that_is_no_coroutine_function_is_refused_when_its_class_is_defined(
    name: str,
) -> None:
    def plain(*args: object) -> None: ...

    async def generator(*args: object) -> Any:
        yield

    for wrong in (plain, generator, staticmethod(plain), lambda *args: None):
        with pytest.raises(TypeError, match=rf"Wrong\.{name} must be a coroutine function: write"):
            type("Wrong", (Actor,), {name: wrong})
        mixin = type("Mixin", (), {name: wrong})
        with pytest.raises(TypeError, match=rf"Wrong\.{name} must be a coroutine function: write"):
            type("Wrong", (mixin, Actor), {})

    async def right(*args: object) -> None: ...

    for fine in (right, staticmethod(right)):
        assert issubclass(type("Right", (Actor,), {name: fine}), Actor)


async def test_an_actor_that_handles_no_messages_says_so_when_it_gets_one(quiet: None) -> None:
    class Idle(Actor[Any]):
        pass

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Idle))
        ref.tell("hello")
        reason = await ref.join()
    assert isinstance(reason, Crash)
    assert "Idle was sent a message, but overrides neither receive nor run" in str(reason.error)


# Asking oneself.


async def test_an_actor_that_asks_itself_is_told_so_wherever_it_does_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[str] = []

    class Selfish(Player):
        async def ask_itself(self) -> None:
            with pytest.raises(SelfAsk, match="asks itself and would wait for ever: call the"):
                await self.ctx.self.ask("hello", timeout=5)
            seen.append("told")

        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await super().started(ctx, cause)
            await self.ask_itself()

        async def receive(self, message: Any) -> None:
            await self.ask_itself()

        async def on_signal(self, signal: Any) -> None:
            await self.ask_itself()

        async def stopped(self, reason: ExitReason) -> None:
            await self.ask_itself()

    async def body(ctx: Context) -> None:
        with pytest.raises(SelfAsk):
            await ctx.self.ask("hello")
        seen.append("told")

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Selfish))
        ref.tell("hello")
        await settled()
        ref.stop(drain=True)
        await ref.join()
        await supervisor.start_child(once(Body), body).join()
        assert not supervisor.dead_letters.count
    assert seen == ["told"] * 5
    assert trio.current_time() == 0


async def test_a_task_beside_the_actor_may_ask_it() -> None:
    seen: list[Any] = []

    async def beside(ref: ActorRef[Any]) -> None:
        seen.append(await ref.ask("hello"))

    async def start(ctx: Context) -> None:
        ctx.nursery.start_soon(beside, ctx.self)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        ref.tell(start)
        await settled()
    assert seen == ["hello"]


# Threads.

USES: dict[str, Callable[[ActorRef[Any]], Any]] = {
    "tell": lambda ref: ref.tell("hello"),
    "send": lambda ref: trio.run(ref.send, "hello"),
    "ask": lambda ref: trio.run(ref.ask, "hello"),
    "stop": lambda ref: ref.stop(),
    "kill": lambda ref: ref.kill(),
    "join": lambda ref: trio.run(ref.join),
    "wait_started": lambda ref: trio.run(ref.wait_started),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("first", [False, True])
async def test_a_ref_used_in_another_thread_says_how_to_reach_the_actor(
    use: str, first: bool
) -> None:
    """Also if it is the first to use it at all, and if a trio of its own runs there."""
    errors: list[BaseException] = []

    def use_it() -> None:
        try:
            USES[use](ref)
        except BaseException as error:  # noqa: BLE001 - looked at in the test's own thread
            errors.append(error)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Body) if first else player(), *([forever] * first))
        await ref.wait_started()
        if not first:
            await ref.ask("hello")
        thread = threading.Thread(target=use_it)
        thread.start()
        thread.join()
        (error,) = errors
        assert isinstance(error, ForeignSystem)
        assert f"{ref.path} belongs to an actor system in another thread" in str(error)
        assert "use trio.from_thread.run_sync" in str(error)
        # It has done nothing, and the actor is where it was.
        assert ref.alive
        assert ref.tell("hello").accepted
        assert not supervisor.dead_letters.count


async def test_what_the_error_says_to_do_works() -> None:
    log: list[Any] = []

    def elsewhere() -> Any:
        assert trio.from_thread.run_sync(ref.tell, "told").accepted
        return trio.from_thread.run(ref.ask, "asked")

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        assert await trio.to_thread.run_sync(elsewhere) == "asked"
    assert log == ["told", "asked"]


async def test_a_reply_is_given_in_the_actors_own_thread() -> None:
    def elsewhere(reply: Reply) -> None:
        for give in (partial(reply.send, "wrong"), partial(reply.fail, OSError("wrong"))):
            with pytest.raises(ForeignSystem, match=r"use trio\.from_thread\.run_sync"):
                give()
        trio.from_thread.run_sync(reply.send, "right")

    async def line(ctx: Context) -> None:
        ctx.nursery.start_soon(trio.to_thread.run_sync, elsewhere, ctx.reply_later())

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        assert await ref.ask(line) == "right"
        assert not supervisor.dead_letters.count


# Contexts.


async def test_messages_of_an_actor_with_handlers_cannot_be_taken_past_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def take(ctx: Context) -> str:
        with pytest.raises(RuntimeError, match=r"ctx\.receive\(\) is for actors that override"):
            await ctx.receive()
        return "still the handler's"

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        assert await ref.ask(take) == "still the handler's"


@pytest.mark.parametrize("over", ["restarted", "ended"])
async def test_the_context_of_an_incarnation_that_is_over_changes_nothing(
    over: str, autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    kept: list[Context] = []

    async def keep(ctx: Context) -> None:
        kept.append(ctx)

    async def handler(message: Any) -> None: ...

    uses: list[Callable[[Context], Any]] = [
        lambda ctx: ctx.timers,
        lambda ctx: ctx.set_receive_timeout(1),
        lambda ctx: ctx.become(handler),
        lambda ctx: ctx.unbecome(),
        lambda ctx: ctx.stash(),
        lambda ctx: ctx.unstash_all(),
        lambda ctx: ctx.reply_later(),
    ]
    waits: list[Callable[[Context], Awaitable[Any]]] = [
        lambda ctx: ctx.receive(),
        lambda ctx: ctx.handle_messages(),
    ]
    async with open_dynamic_supervisor() as supervisor:
        restart = Restart.PERMANENT if over == "restarted" else Restart.TEMPORARY
        ref = supervisor.start_child(player(restart=restart))
        await ref.ask(keep)
        ref.tell(OSError())
        await settled()
        for use in uses:
            with pytest.raises(RuntimeError, match=r"an incarnation of .* that is over: use the"):
                use(kept[0])
        for wait in waits:
            with pytest.raises(RuntimeError, match="that is over"):
                await wait(kept[0])
        if over == "restarted":
            assert await ref.ask("hello") == "hello"


@pytest.mark.parametrize("bad", [-1, float("inf"), float("nan")])
async def test_timers_refuse_times_that_never_come(bad: float) -> None:
    async def line(ctx: Context) -> None:
        with pytest.raises(ValueError, match="delay must be 0 seconds or more, and finite; it is"):
            ctx.timers.start_single("key", "message", bad)
        for interval in (bad, 0):
            with pytest.raises(ValueError, match="interval must be more than 0 seconds, and fin"):
                ctx.timers.start_periodic("key", "message", interval)
        assert not ctx.timers.active("key")

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        await ref.ask(line)


async def test_a_timer_refuses_an_interval_that_its_clock_cannot_tell(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It would be due again at once, for ever."""

    async def line(ctx: Context) -> None:
        for mode in TimerMode:
            with pytest.raises(ValueError, match="interval must be more than 0 seconds"):
                ctx.timers.start_periodic("key", "message", 1e-12, mode)

    autojump_clock.jump(1e6)
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        await ref.ask(line)


@pytest.mark.parametrize("bad", [-1, float("nan"), None, "5"])
async def test_an_ask_refuses_a_timeout_that_is_no_time(bad: Any) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        with pytest.raises(ValueError, match="timeout must be 0 seconds or more, or left out"):
            await ref.ask("hello", timeout=bad)
        assert not supervisor.dead_letters.count
