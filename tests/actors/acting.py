"""Actors that do in a test what the test says, message by message."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio
import trio.testing

from greenroom.actors import (
    Actor,
    AskError,
    ChildSpec,
    Context,
    DeadLetters,
    ExitReason,
    Loss,
    Restart,
)

settled = trio.testing.wait_all_tasks_blocked


class HasDeadLetters(Protocol):
    """A system or a supervisor."""

    @property
    def dead_letters(self) -> DeadLetters: ...


Line = Callable[[Context], Awaitable[Any]]
"""What a player may be told to do."""


class Body(Actor[Any]):
    """Lives as long as the coroutine that it is given."""

    def __init__(self, body: Callable[[Context], Awaitable[None]]) -> None:
        self.body = body

    async def run(self, ctx: Context) -> None:
        await self.body(ctx)


class Player(Actor[Any]):
    """Calls messages that can be called, raises exceptions, and replies with the rest.

    Writes down what it handles and what it is told by signals, not what it does.
    """

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log: list[Any] = [] if log is None else log

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx

    async def receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return await message(self.ctx)
        self.log.append(message)
        return message

    async def on_signal(self, signal: Any) -> None:
        self.log.append(signal)


def once(factory: Callable[..., Actor[Any]], **options: Any) -> ChildSpec:
    """A child that is not started again."""
    return ChildSpec("child", factory, restart=Restart.TEMPORARY, **options)


def player(log: list[Any] | None = None, **options: Any) -> ChildSpec:
    """A player, with the options of a child spec; not started again by default."""
    return ChildSpec(
        **{"id": "player", "factory": lambda: Player(log), "restart": Restart.TEMPORARY, **options}
    )


def sleep(seconds: float, reply: Any = None) -> Line:
    """A message that takes its time."""

    async def line(ctx: Context) -> Any:
        await trio.sleep(seconds)
        return reply

    return line


async def forever(ctx: Context) -> None:
    """A body or a message without an end of its own."""
    await trio.sleep_forever()


def losses(tree: "HasDeadLetters") -> list[tuple[Any, Loss]]:
    """The latest dead letters of a system or a supervisor, each with its reason."""
    return [(letter.message, letter.loss) for letter in tree.dead_letters.recent]


async def outcome_of(asking: Awaitable[Any]) -> Any:
    """What an ask gave or raised; for a cancelled one, nothing is returned."""
    try:
        return await asking
    except AskError as error:
        return error
