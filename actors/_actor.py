"""What users write: an actor's behaviour. One instance is one incarnation."""

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from ._reasons import ExitReason
from ._signals import Signal

if TYPE_CHECKING:
    from ._context import Context

M = TypeVar("M")

_COROUTINES: Final = ("started", "receive", "on_signal", "run", "stopped")


def check_coroutine(function: object, name: str) -> None:
    """See that a handler can be awaited.

    Raises:
        TypeError: it is a plain function or method.
    """
    inner = inspect.unwrap(function) if callable(function) else function
    inner = getattr(inner, "__func__", inner)  # of a method
    if inspect.isfunction(inner) and not inspect.iscoroutinefunction(inner):
        raise TypeError(f"{name} must be a coroutine function: write `async def`, without `yield`")


class Actor(Generic[M]):
    """The behaviour of an actor; made to be subclassed.

    Override `receive` for an actor that handles one message after the other, or `run` for
    one whose life is a single coroutine. A restart makes a new instance, so nothing of the
    old state has to be cleared.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _COROUTINES:
            check_coroutine(getattr(cls, name), f"{cls.__qualname__}.{name}")

    __slots__ = ("ctx",)  # those who run by the thousand may declare slots of their own

    ctx: "Context"
    """What this incarnation can do to the world around it; there from `started` on."""

    default_shutdown: ClassVar[float] = 5
    """Seconds to stop in, where the child spec does not say."""

    announces_start: ClassVar[bool] = False
    """Whether `run` says itself when the actor is ready, as a supervisor does."""

    async def started(self, ctx: "Context", cause: ExitReason | None) -> None:
        """Get ready, before the first message.

        Args:
            ctx: what this incarnation can do to the world around it; also `self.ctx`.
            cause: why the incarnation before this one ended; `None` for the first.
        """

    async def receive(self, message: M) -> Any:
        """Handle one message; what it returns is the reply, if the message was asked.

        Handlers of one actor never run at the same time.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} was sent a message, but overrides neither receive nor run"
        )

    async def on_signal(self, signal: Signal) -> None:
        """Learn of something that is no message: `Terminated`, `ReceiveTimeout`, `Drain`...

        Signals come before the messages that wait, and never at the same time as one.
        """

    async def run(self, ctx: "Context") -> None:
        """Live one incarnation: by default, handle messages until asked to stop."""
        await ctx.handle_messages()

    def stopping(self, ctx: "Context", reason: ExitReason) -> bool:  # noqa: ARG002 - for overriders
        """Answer a request to stop; asked only of actors that override `run`.

        While `run` is in `Context.handle_messages`, this is not asked: the loop ends, and what
        `run` does then has the rest of the time.

        Returns:
            True if the actor will end by itself in the time that its spec gives, False to
            be cancelled now.
        """
        return False

    async def stopped(self, reason: ExitReason) -> None:
        """Clean up; called once if `started` returned, however the incarnation ended.

        Shielded from cancellation for the spec's `cleanup_timeout` seconds.
        """
