"""Services: several actors under one key, and who wants to know when they come and go.

An actor stays registered over restarts, and is gone from every listing in the step in which
it ends.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, final

from ._envelopes import VOID, Notice
from ._reach import expect_signals, live_cell_of
from ._ref import ActorRef
from ._services import Listing, ServiceKey

if TYPE_CHECKING:
    from ._cell import Cell

M = TypeVar("M")


@final
class _Subscription(Notice):
    """One actor's interest in one key; also what lies in its mailbox after a change.

    The listing is made when its turn comes, so that several changes make one.
    """

    __slots__ = ("_cell", "_key", "_queued", "_receptionist", "void")

    is_signal: ClassVar[bool] = True

    def __init__(self, receptionist: "Receptionist", key: ServiceKey[Any], cell: "Cell") -> None:
        self._receptionist = receptionist
        self._key = key
        self._cell = cell
        self._queued = False
        self.void = False

    def tell(self) -> None:
        """Have the subscriber learn of the present state, if it is not about to."""
        if not self._queued:
            self._queued = True
            self._cell.open_inbox().signal(self)

    def open(self) -> object:
        """Give the listing of this moment."""
        self._queued = False
        return VOID if self.void else Listing(self._key, self._receptionist.find(self._key))


@final
class Receptionist:
    """Who offers which service, and who is to be told of changes."""

    __slots__ = ("_services", "_subscriptions")

    def __init__(self) -> None:
        self._services: Final[dict[ServiceKey[Any], dict[Cell, ActorRef[Any]]]] = {}
        self._subscriptions: Final[dict[ServiceKey[Any], dict[Cell, _Subscription]]] = {}

    def register(self, key: ServiceKey[M], ref: ActorRef[M]) -> None:
        """Have an actor offer a service; once more, nothing happens.

        Raises:
            AlreadyEnded: the actor has ended.
            ForeignSystem: the actor lives in another thread.
        """
        cell = live_cell_of(ref)
        offers = self._services.setdefault(key, {})
        if cell not in offers:
            offers[cell] = ref
            cell.at_end((self, "offers", key), partial(self._withdraw, key))
            self._tell_subscribers(key)

    def deregister(self, key: ServiceKey[M], ref: ActorRef[M]) -> None:
        """Have an actor offer a service no longer, if it does."""
        cell = ref._cell
        if cell in self._services.get(key, ()):
            cell.not_at_end((self, "offers", key))
            self._withdraw(key, cell)

    def find(self, key: ServiceKey[M]) -> tuple[ActorRef[M], ...]:
        """Give the actors that offer a service now, in the order of registration."""
        return tuple(self._services.get(key, {}).values())

    def subscribe(self, key: ServiceKey[Any], ref: ActorRef[Any]) -> None:
        """Have an actor told who offers a service: a `Listing` now, and after each change.

        It comes as a signal, so that none can be dropped; changes that come faster than
        the actor looks make one. Subscribing again brings one more listing, as a new
        incarnation may need: the subscription itself survives restarts.

        Raises:
            TypeError: the actor overrides neither `on_signal` nor `run`.
            AlreadyEnded: the actor has ended.
            ForeignSystem: the actor lives in another thread.
        """
        cell = live_cell_of(ref)
        expect_signals(cell, "a Listing")
        subscriptions = self._subscriptions.setdefault(key, {})
        subscription = subscriptions.get(cell)
        if subscription is None:
            subscription = subscriptions[cell] = _Subscription(self, key, cell)
            cell.at_end((self, "subscribes", key), partial(self._forget, key))
        subscription.tell()

    def unsubscribe(self, key: ServiceKey[Any], ref: ActorRef[Any]) -> None:
        """Have an actor told no more, not even what is in its mailbox already."""
        cell = ref._cell
        if cell in self._subscriptions.get(key, ()):
            cell.not_at_end((self, "subscribes", key))
            self._forget(key, cell)

    def __iter__(self) -> Iterator[ServiceKey[Any]]:
        return iter(tuple(self._services))

    def _withdraw(self, key: ServiceKey[Any], cell: "Cell") -> None:
        offers = self._services[key]
        del offers[cell]
        if not offers:
            del self._services[key]
        self._tell_subscribers(key)

    def _forget(self, key: ServiceKey[Any], cell: "Cell") -> None:
        subscriptions = self._subscriptions[key]
        subscriptions.pop(cell).void = True
        if not subscriptions:
            del self._subscriptions[key]

    def _tell_subscribers(self, key: ServiceKey[Any]) -> None:
        for subscription in self._subscriptions.get(key, {}).values():
            subscription.tell()
