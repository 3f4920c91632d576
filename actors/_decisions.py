"""What a supervisor does about a child that ended.

Sans-IO: `decide` knows neither tasks nor the clock; `_supervisor.py` gathers what it needs
and carries out what it says.

Source: Erlang/OTP, stdlib `supervisor`, "Restart strategy" and "Automatic shutdown".
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from ._reasons import Crash, ExitReason
from ._restarts import RestartWindow
from ._spec import ChildSpec, Directive, Restart


class Strategy(Enum):
    """Which children are started again when one of them has to be.

    ONE_FOR_ONE:  that one.
    ONE_FOR_ALL:  all of them.
    REST_FOR_ONE: that one, and those that were started after it.
    """

    ONE_FOR_ONE = "one for one"
    ONE_FOR_ALL = "one for all"
    REST_FOR_ONE = "rest for one"


class AutoShutdown(Enum):
    """Whether a supervisor ends when significant children have ended for good by themselves.

    Those are the children whose `ChildSpec` says `significant=True`.

    NEVER: it does not.
    ANY:   as soon as one of them has.
    ALL:   when the last of them has.
    """

    NEVER = "never"
    ANY = "any"
    ALL = "all"


class Verdict(Enum):
    """What follows the end of a child."""

    FORGET = "forget"  # the child is gone, nothing else changes
    RESTART = "restart"
    GIVE_UP = "give up"  # too many restarts: stop all children and crash
    ESCALATE = "escalate"  # the child's decider says so: stop all children and crash
    SHUT_DOWN = "shut down"  # stop all children and end normally


# Members by names of their own: through its class, Python 3.11 takes 0.1 us to find one.
_RESTART: Final = Verdict.RESTART
_ONE_FOR_ONE: Final = Strategy.ONE_FOR_ONE
_ESCALATE: Final = Directive.ESCALATE
_STOP: Final = Directive.STOP
_PERMANENT: Final = Restart.PERMANENT
_TEMPORARY: Final = Restart.TEMPORARY


class Decision(NamedTuple):
    """What a supervisor has to do, as places in its list of children.

    Args:
        verdict: the kind of it.
        stop: siblings to stop first, one after the other in this order.
        start: children to start then, one after the other in this order.
    """

    verdict: Verdict
    stop: tuple[int, ...] = ()
    start: tuple[int, ...] = ()


def decide(
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    children: Sequence[ChildSpec],
    ended: int,
    reason: ExitReason,
    directive: Directive,
    window: RestartWindow,
    now: float,
) -> Decision:
    """Decide about a child that ended without having been asked to.

    Args:
        strategy: which children start again together.
        auto_shutdown: whether the end of significant children ends the supervisor.
        children: the specs of all children in the order of their start, the ended one among them.
        ended: the place of that one.
        reason: why it ended.
        directive: what its decider says, if `reason` is a crash.
        window: counts the restart, if there is to be one.
        now: the time in seconds, for `window`.
    """
    child = children[ended]
    if directive is _ESCALATE and isinstance(reason, Crash):
        return Decision(Verdict.ESCALATE)
    if not _wants_restart(child.restart, reason, directive):
        return Decision(_verdict_without_restart(auto_shutdown, children, ended))
    if not window.allows(now):
        return Decision(Verdict.GIVE_UP)
    if strategy is _ONE_FOR_ONE:
        return Decision(_RESTART, start=(ended,))
    first = 0 if strategy is Strategy.ONE_FOR_ALL else ended
    together = range(first, len(children))
    return Decision(
        Verdict.RESTART,
        stop=tuple(at for at in reversed(together) if at != ended),
        start=tuple(at for at in together if children[at].restart is not Restart.TEMPORARY),
    )


def _wants_restart(restart: Restart, reason: ExitReason, directive: Directive) -> bool:
    if restart is _TEMPORARY or (directive is _STOP and isinstance(reason, Crash)):
        return False
    return reason.abnormal or restart is _PERMANENT


def _verdict_without_restart(
    auto_shutdown: AutoShutdown, children: Sequence[ChildSpec], ended: int
) -> Verdict:
    if not children[ended].significant or auto_shutdown is AutoShutdown.NEVER:
        return Verdict.FORGET
    others = any(child.significant for at, child in enumerate(children) if at != ended)
    if auto_shutdown is AutoShutdown.ALL and others:
        return Verdict.FORGET
    return Verdict.SHUT_DOWN
