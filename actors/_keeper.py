"""What a cell needs of whoever is above it: a supervisor, or the top of the tree."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from ._commons import Commons
from ._reasons import ExitReason
from ._ref import ActorRef
from ._spec import ChildSpec

if TYPE_CHECKING:
    from ._cell import Cell


class Household(Protocol):
    """The children of one incarnation of an actor that is no supervisor itself."""

    @property
    def cell(self) -> "Cell":
        """The supervisor of the children."""

    def start_child(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start one more child."""

    def close(self, *, at_once: bool, deadline: float) -> None:
        """Stop or kill the children; asked again, it can only become more urgent."""

    async def wait_closed(self) -> None:
        """Wait for the end of the children, shielded."""


class Keeper(Protocol):
    """What a cell needs of whoever is above it."""

    @property
    def ref(self) -> ActorRef[Any] | None:
        """The supervisor's own reference; `None` at the root."""

    @property
    def path(self) -> str:
        """The supervisor's path; "" at the root."""

    @property
    def commons(self) -> Commons:
        """What all actors of the tree share."""

    @property
    def deadline(self) -> float:
        """When the supervisor's own end, or one further up, is over; infinity for never."""

    def child_ended(self, cell: "Cell", reason: ExitReason, *, may_restart: bool) -> None:
        """Decide what follows the end of an incarnation: `finish` the cell, or renew it."""

    def forget(self, cell: "Cell", reason: ExitReason) -> None:
        """`finish` a cell that has no incarnation at the moment, for good."""

    def start_helper(self, async_fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task beside the child's own, which raises nothing but cancellation."""

    def open_household(self, cell: "Cell") -> Household:
        """Make room for the children of an incarnation, among its tasks."""
