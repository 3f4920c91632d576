"""What an actor is told about the world around it, apart from its messages.

Signals go to `Actor.on_signal`. They wait in a lane of their own, before all messages and
without a limit, so that no overflow policy can drop one.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from ._reasons import ExitReason
from ._ref import ActorRef
from ._services import Listing


@final
@dataclass(frozen=True, slots=True)
class Terminated:
    """An actor that is watched has ended for good; see `Context.watch`.

    Comes once for each death, and not for a restart.
    """

    ref: ActorRef[Any]
    reason: ExitReason


@final
@dataclass(frozen=True, slots=True)
class ReceiveTimeout:
    """No message came for `seconds`; see `Context.set_receive_timeout`."""

    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Drain:
    """The actor is asked to end, and may handle what waits in its mailbox before.

    No further message is accepted. See `ChildSpec.drain`.
    """


DRAIN: Final = Drain()

Signal: TypeAlias = Terminated | ReceiveTimeout | Drain | Listing
