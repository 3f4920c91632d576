"""What a supervisor decides, for any children and any end of one of them."""

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    AutoShutdown,
    ChildSpec,
    Crash,
    Directive,
    Restart,
    RestartWindow,
    Strategy,
)
from greenroom.actors._decisions import Decision, Verdict, decide
from greenroom.actors._reasons import NORMAL, ExitReason, Killed, Shutdown


def child(restart: Restart, significant: bool = False) -> ChildSpec:
    return ChildSpec("child", Actor, restart, significant=significant)


children = st.lists(
    st.builds(child, st.sampled_from(Restart), st.booleans()), min_size=1, max_size=5
)
reasons: st.SearchStrategy[ExitReason] = st.sampled_from(
    [NORMAL, Shutdown(), Killed(), Crash(OSError())]
)


@given(
    st.sampled_from(Strategy),
    st.sampled_from(AutoShutdown),
    children,
    st.integers(0, 4),
    reasons,
    st.sampled_from([Directive.RESTART, Directive.STOP, Directive.ESCALATE]),
    st.booleans(),
)
def test_i13_i15_i16_a_decision_is_what_the_tables_of_otp_say(
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    children: list[ChildSpec],
    ended: int,
    reason: ExitReason,
    directive: Directive,
    within_bounds: bool,
) -> None:
    ended %= len(children)
    window = RestartWindow(intensity=1 if within_bounds else 0)
    decision = decide(strategy, auto_shutdown, children, ended, reason, directive, window, now=0)
    crashed = isinstance(reason, Crash)
    failed = children[ended]
    again = {
        Restart.PERMANENT: True,
        Restart.TRANSIENT: crashed or isinstance(reason, Killed),
        Restart.TEMPORARY: False,
    }[failed.restart] and not (crashed and directive is Directive.STOP)

    if crashed and directive is Directive.ESCALATE:
        assert decision == Decision(Verdict.ESCALATE)
    elif again and not within_bounds:
        assert decision == Decision(Verdict.GIVE_UP)
    elif again:
        first, last = {
            Strategy.ONE_FOR_ONE: (ended, ended),
            Strategy.ONE_FOR_ALL: (0, len(children) - 1),
            Strategy.REST_FOR_ONE: (ended, len(children) - 1),
        }[strategy]
        group = range(first, last + 1)
        assert decision.verdict is Verdict.RESTART
        assert [*reversed(decision.stop)] == [at for at in group if at != ended]
        assert [*decision.start] == [
            at for at in group if children[at].restart is not Restart.TEMPORARY
        ]
    else:
        significant = [at for at, each in enumerate(children) if each.significant]
        ends = ended in significant and (
            auto_shutdown is AutoShutdown.ANY
            or (auto_shutdown is AutoShutdown.ALL and significant == [ended])
        )
        assert decision == Decision(Verdict.SHUT_DOWN if ends else Verdict.FORGET)


def test_only_a_restart_is_counted() -> None:
    window = RestartWindow(intensity=1)
    one_for_one = (Strategy.ONE_FOR_ONE, AutoShutdown.NEVER)
    for _ in range(3):
        decide(*one_for_one, [child(Restart.TRANSIENT)], 0, NORMAL, Directive.RESTART, window, 0)
    assert window.allows(0)
