"""Handlers that take each other's place."""

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from tests.actors.acting import once, settled

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    Directive,
    ExitReason,
    RemoteError,
    open_actor_system,
    open_dynamic_supervisor,
)


class Phone(Actor[str]):
    """On hook until it is picked up."""

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx

    async def receive(self, message: str) -> str:
        if message == "pick up":
            self.ctx.become(self.talk)
        if message == "crash":
            raise OSError
        return f"on hook: {message}"

    async def talk(self, message: str) -> str:
        match message:
            case "hang up":
                self.ctx.unbecome()
            case "hold":
                self.ctx.become(partial(self.hold, "music"))
            case "crash":
                raise OSError
        return f"talking: {message}"

    async def hold(self, what: str, message: str) -> str:
        self.ctx.become(self.talk)
        return f"{what}: {message}"


async def test_a_handler_takes_over_from_the_next_message_on_and_gives_back() -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Phone))
        said = [
            await ref.ask(message)
            for message in ("hello", "pick up", "hello", "hold", "1", "2", "hang up", "hello")
        ]
    assert said == [
        "on hook: hello", "on hook: pick up", "talking: hello", "talking: hold",
        "music: 1", "talking: 2", "talking: hang up", "on hook: hello",
    ]  # fmt: skip


async def test_what_an_actor_becomes_while_it_starts_holds_for_its_first_message() -> None:
    class Lifted(Phone):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await super().started(ctx, cause)
            if cause is None:
                ctx.become(self.talk)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Lifted))
        assert await ref.ask("hello") == "talking: hello"
        assert await ref.ask("hang up") == "talking: hang up"
        assert await ref.ask("hello") == "on hook: hello"


async def test_i19_a_handler_that_fails_is_forgotten_with_its_incarnation(quiet: None) -> None:
    async with open_actor_system("system", root=[ChildSpec("phone", Phone)]) as system:
        (ref,) = system.children
        await ref.ask("pick up")
        with pytest.raises(RemoteError):
            await ref.ask("crash")
        assert await ref.ask("hello") == "on hook: hello"


async def test_a_handler_that_fails_and_is_resumed_stays_the_handler(quiet: None) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Phone, on_failure=lambda error: Directive.RESUME))
        await ref.ask("pick up")
        with pytest.raises(RemoteError):
            await ref.ask("crash")
        assert await ref.ask("hello") == "talking: hello"


async def test_ticks_and_stashed_messages_go_to_the_handler_of_their_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[str] = []

    class Door(Actor[str]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            ctx.timers.start_single("open", "open", 2)

        async def receive(self, message: str) -> None:
            if message == "open":
                self.ctx.become(self.opened)
                self.ctx.timers.start_single("tick", "tick", 1)
                self.ctx.unstash_all()
            else:
                self.ctx.stash()

        async def opened(self, message: str) -> None:
            seen.append(message)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Door))
        ref.tell("knock")
        ref.tell("knock again")
        await trio.sleep(5)
    assert seen == ["knock", "knock again", "tick"]


async def test_a_task_of_the_actor_may_change_the_handler_too() -> None:
    class Tasked(Phone):
        async def receive(self, message: str) -> str:
            self.ctx.nursery.start_soon(self.lift)
            return "on hook"

        async def lift(self) -> None:
            self.ctx.become(self.talk)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Tasked))
        assert await ref.ask("hello") == "on hook"
        await settled()
        assert await ref.ask("hello") == "talking: hello"


@pytest.mark.parametrize("what", ["a plain function", "a plain method", "a lambda", "nothing"])
async def test_what_is_no_coroutine_function_cannot_be_become(what: str) -> None:
    class Wrong(Phone):
        def method(self, message: str) -> str:
            return message

        async def receive(self, message: str) -> str:
            def plain(message: str) -> str:
                return message

            handler: Any = {
                "a plain function": plain,
                "a plain method": self.method,
                "a lambda": lambda message: message,
                "nothing": None,
            }[what]
            with pytest.raises(TypeError, match=r"become\(\) by /supervisor/child-\d+ must be a"):
                self.ctx.become(handler)
            return "still here"

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Wrong))
        assert await ref.ask("hello") == "still here"
