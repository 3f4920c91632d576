"""What a service is found by, and what those learn who want to know who offers it.

Plain values; `_receptionist.py` keeps the books.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

from ._ref import ActorRef

M = TypeVar("M")


@final
@dataclass(frozen=True)  # with slots, Python 3.11 cannot make a `ServiceKey[str](...)`
class ServiceKey(Generic[M]):
    """What a service is found by; its type says which messages the service takes.

    >>> ServiceKey[str]("printers") == ServiceKey("printers")
    True

    Raises:
        ValueError: `name` is empty.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name must not be empty")


@final
@dataclass(frozen=True, slots=True)
class Listing:
    """A signal: who offers a service now, in the order of registration.

    See `Receptionist.subscribe`.
    """

    key: ServiceKey[Any]
    refs: tuple[ActorRef[Any], ...]
