"""What an actor is: mailbox, ref, supervision, time. Knows no network.

>>> import trio
>>> class Greeter(Actor[str]):
...     async def receive(self, name: str) -> str:
...         return f"hello, {name}"
>>> async def main() -> None:
...     async with open_actor_system("house") as system:
...         greeter = system.spawn(ChildSpec("greeter", Greeter))
...         print(await greeter.ask("ada", timeout=1))
>>> trio.run(main)
hello, ada
"""

from ._actor import Actor as Actor
from ._asks import Reply as Reply
from ._context import Context as Context
from ._dead_letters import DeadLetter as DeadLetter
from ._dead_letters import DeadLetters as DeadLetters
from ._decisions import AutoShutdown as AutoShutdown
from ._decisions import Strategy as Strategy
from ._dynamic import DynamicSupervisor as DynamicSupervisor
from ._ends import ActorEnd as ActorEnd
from ._errors import ActorDied as ActorDied
from ._errors import AlreadyEnded as AlreadyEnded
from ._errors import AskError as AskError
from ._errors import AskTimeout as AskTimeout
from ._errors import ChildEscalated as ChildEscalated
from ._errors import ForeignSystem as ForeignSystem
from ._errors import MailboxFull as MailboxFull
from ._errors import NameTaken as NameTaken
from ._errors import NotRegistered as NotRegistered
from ._errors import RemoteError as RemoteError
from ._errors import RestartsExhausted as RestartsExhausted
from ._errors import SelfAsk as SelfAsk
from ._errors import StartTimeout as StartTimeout
from ._errors import StashFull as StashFull
from ._errors import SupervisorClosed as SupervisorClosed
from ._errors import SupervisorFull as SupervisorFull
from ._errors import SupervisorNotRunning as SupervisorNotRunning
from ._events import ActorEnded as ActorEnded
from ._events import ActorRestarted as ActorRestarted
from ._events import ActorStarted as ActorStarted
from ._events import ActorStuck as ActorStuck
from ._events import EventStream as EventStream
from ._groups import Groups as Groups
from ._groups import SendReport as SendReport
from ._lanes import Delivery as Delivery
from ._lanes import Lane as Lane
from ._lanes import LaneCounts as LaneCounts
from ._lanes import Loss as Loss
from ._lanes import Overflow as Overflow
from ._mailbox import Mailbox as Mailbox
from ._reasons import Crash as Crash
from ._reasons import DeadlineExceeded as DeadlineExceeded
from ._reasons import ExitReason as ExitReason
from ._reasons import InitFailed as InitFailed
from ._reasons import Killed as Killed
from ._reasons import LinkBroken as LinkBroken
from ._reasons import Normal as Normal
from ._reasons import Overload as Overload
from ._reasons import Shutdown as Shutdown
from ._reasons import flatten as flatten
from ._receptionist import Receptionist as Receptionist
from ._ref import ActorRef as ActorRef
from ._registry import Registry as Registry
from ._restarts import Backoff as Backoff
from ._restarts import RestartWindow as RestartWindow
from ._services import Listing as Listing
from ._services import ServiceKey as ServiceKey
from ._signals import Drain as Drain
from ._signals import ReceiveTimeout as ReceiveTimeout
from ._signals import Signal as Signal
from ._signals import Terminated as Terminated
from ._snapshot import ActorSnapshot as ActorSnapshot
from ._snapshot import Snapshot as Snapshot
from ._spec import INFINITY as INFINITY
from ._spec import ChildSpec as ChildSpec
from ._spec import Directive as Directive
from ._spec import InFlight as InFlight
from ._spec import Restart as Restart
from ._supervisor import Supervisor as Supervisor
from ._system import ActorSystem as ActorSystem
from ._system import open_actor_system as open_actor_system
from ._system import open_dynamic_supervisor as open_dynamic_supervisor
from ._timers import TimerMode as TimerMode
from ._timers import Timers as Timers

__all__ = [
    "INFINITY",
    "Actor",
    "ActorDied",
    "ActorEnd",
    "ActorEnded",
    "ActorRef",
    "ActorRestarted",
    "ActorSnapshot",
    "ActorStarted",
    "ActorStuck",
    "ActorSystem",
    "AlreadyEnded",
    "AskError",
    "AskTimeout",
    "AutoShutdown",
    "Backoff",
    "ChildEscalated",
    "ChildSpec",
    "Context",
    "Crash",
    "DeadLetter",
    "DeadLetters",
    "DeadlineExceeded",
    "Delivery",
    "Directive",
    "Drain",
    "DynamicSupervisor",
    "EventStream",
    "ExitReason",
    "ForeignSystem",
    "Groups",
    "InFlight",
    "InitFailed",
    "Killed",
    "Lane",
    "LaneCounts",
    "LinkBroken",
    "Listing",
    "Loss",
    "Mailbox",
    "MailboxFull",
    "NameTaken",
    "Normal",
    "NotRegistered",
    "Overflow",
    "Overload",
    "ReceiveTimeout",
    "Receptionist",
    "Registry",
    "RemoteError",
    "Reply",
    "Restart",
    "RestartWindow",
    "RestartsExhausted",
    "SelfAsk",
    "SendReport",
    "ServiceKey",
    "Shutdown",
    "Signal",
    "Snapshot",
    "StartTimeout",
    "StashFull",
    "Strategy",
    "Supervisor",
    "SupervisorClosed",
    "SupervisorFull",
    "SupervisorNotRunning",
    "Terminated",
    "TimerMode",
    "Timers",
    "flatten",
    "open_actor_system",
    "open_dynamic_supervisor",
]
