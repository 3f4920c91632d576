"""What an actor is: mailbox, ref, supervision, time. Knows no network.

>>> window = RestartWindow(intensity=2, period=10)
>>> [window.allows(now) for now in (0, 1, 2, 30)]
[True, True, False, True]
"""

from ._actor import Actor as Actor
from ._context import Context as Context
from ._dead_letters import DeadLetter as DeadLetter
from ._dead_letters import DeadLetters as DeadLetters
from ._decisions import AutoShutdown as AutoShutdown
from ._decisions import Strategy as Strategy
from ._dynamic import DynamicSupervisor as DynamicSupervisor
from ._errors import ChildEscalated as ChildEscalated
from ._errors import RestartsExhausted as RestartsExhausted
from ._errors import StartTimeout as StartTimeout
from ._errors import SupervisorClosed as SupervisorClosed
from ._errors import SupervisorFull as SupervisorFull
from ._lanes import Delivery as Delivery
from ._lanes import Lane as Lane
from ._lanes import LaneCounts as LaneCounts
from ._lanes import Loss as Loss
from ._lanes import Overflow as Overflow
from ._mailbox import Mailbox as Mailbox
from ._reasons import Crash as Crash
from ._reasons import ExitReason as ExitReason
from ._reasons import InitFailed as InitFailed
from ._reasons import Killed as Killed
from ._reasons import Normal as Normal
from ._reasons import Overload as Overload
from ._reasons import Shutdown as Shutdown
from ._reasons import flatten as flatten
from ._ref import ActorRef as ActorRef
from ._restarts import Backoff as Backoff
from ._restarts import RestartWindow as RestartWindow
from ._spec import INFINITY as INFINITY
from ._spec import ChildSpec as ChildSpec
from ._spec import Directive as Directive
from ._spec import InFlight as InFlight
from ._spec import Restart as Restart
from ._supervisor import Supervisor as Supervisor
from ._system import ActorSystem as ActorSystem
from ._system import open_actor_system as open_actor_system
from ._system import open_dynamic_supervisor as open_dynamic_supervisor

__all__ = [
    "INFINITY",
    "Actor",
    "ActorRef",
    "ActorSystem",
    "AutoShutdown",
    "Backoff",
    "ChildEscalated",
    "ChildSpec",
    "Context",
    "Crash",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "Directive",
    "DynamicSupervisor",
    "ExitReason",
    "InFlight",
    "InitFailed",
    "Killed",
    "Lane",
    "LaneCounts",
    "Loss",
    "Mailbox",
    "Normal",
    "Overflow",
    "Overload",
    "Restart",
    "RestartWindow",
    "RestartsExhausted",
    "Shutdown",
    "StartTimeout",
    "Strategy",
    "Supervisor",
    "SupervisorClosed",
    "SupervisorFull",
    "flatten",
    "open_actor_system",
    "open_dynamic_supervisor",
]
