"""Crashes on purpose: where they may happen, and who says when.

A crash point is a place in the program that does nothing, except in a simulation whose plan
names it. Actors under a spec of `crashing` have some without being changed.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from .._actor import Actor
from .._reasons import ExitReason
from .._spec import ChildSpec
from ._run import Run, aim


class InjectedCrash(Exception):
    """Raised by a crash point that the plan of the simulation names.

    Nobody's fault: it is there to be survived.
    """

    def __init__(self, point: str) -> None:
        super().__init__(point)
        self.point = point

    def __str__(self) -> str:
        return f"the simulation's plan has a crash at {self.point!r}"


def crash_point(name: str) -> None:
    """Raise `InjectedCrash` here if the simulation in progress has planned it.

    Points are numbered as they are passed, over the whole run, from 0: `crashes=[7]` means
    the eighth. By name, `crashes=["half written"]` means each time that it is passed, and
    `crashes=["half written 2"]` the second time. No checkpoint, and outside of simulations
    nothing at all, so that it may stay in a program.
    """
    run = Run.current
    if run is not None:
        full = run.crashes_at(name)
        if full is not None:
            raise InjectedCrash(full)


def crashing(spec: ChildSpec) -> ChildSpec:
    """Give the spec whose actors have crash points, and are targets by their paths.

    Their points, for a spec with the id "till":

    - "till before started"
    - "till before message" and "till after message": the handler has not begun, or all that
      it does is done
    - "till before signal" and "till after signal", if the actor overrides `on_signal`
    - "till after stopped": it has cleaned up, and fails then

    The actors stay what they are, of a class made of their own. Each is named to `aim`
    before it starts, so `target="/shop/till"` kills it at any step of its life.
    """
    make = spec.factory

    def factory(*args: object) -> Actor[Any]:
        actor = make(*args)
        if isinstance(actor, Actor):
            actor.__class__ = _crashing_class(type(actor), spec.id)  # type: ignore[arg-type]
        return actor

    return replace(spec, factory=factory)


@lru_cache(maxsize=256)
def _crashing_class(kind: type[Actor[Any]], id: str) -> type[Actor[Any]]:  # noqa: A002 - a spec's
    """Derive the class of an actor that passes crash points around what it does."""

    async def started(self: Actor[Any], ctx: Any, cause: ExitReason | None) -> None:
        aim(ctx.self)
        crash_point(f"{id} before started")
        await kind.started(self, ctx, cause)

    async def receive(self: Actor[Any], message: Any) -> Any:
        crash_point(f"{id} before message")
        reply = await kind.receive(self, message)
        crash_point(f"{id} after message")
        return reply

    async def stopped(self: Actor[Any], reason: ExitReason) -> None:
        await kind.stopped(self, reason)
        crash_point(f"{id} after stopped")

    members: dict[str, object] = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "started": started,
        "receive": receive,
        "stopped": stopped,
    }
    handle_signal: Callable[..., Any] | None = getattr(kind, "on_signal", None)
    if handle_signal is not None and handle_signal is not getattr(Actor, "on_signal", None):

        async def on_signal(self: Actor[Any], signal: Any) -> None:
            crash_point(f"{id} before signal")
            await handle_signal(self, signal)
            crash_point(f"{id} after signal")

        members["on_signal"] = on_signal
    return type(kind.__name__, (kind,), members)
