"""Worlds written by hand, for what is seldom drawn: each meets one limit after the other."""

from typing import Final

from tests.actors.proof.worlds import (
    Answer,
    Ask,
    Become,
    CancelTimer,
    Fail,
    FailBeside,
    Kill,
    Message,
    ReplyLater,
    Role,
    Send,
    SetTimer,
    Sleep,
    Stash,
    Stop,
    Tell,
    Unstash,
    Watch,
    World,
)

from greenroom.actors import Directive, InFlight, Overflow, Restart, TimerMode

A_SECOND: Final = Message((Sleep(1),))
TWO_SECONDS: Final = Message((Sleep(2),))
STASHED: Final = Message((Stash(),))
A_CRASH: Final = Message((Fail(),))

# Those with much of everything, which can be cancelled anywhere.

CRASHES: Final = World(
    roles=(
        Role(capacity=2, in_flight=InFlight.REDELIVER, start=1, farewell=0.5),
        Role(pause=1, overflow=Overflow.DROP_OLDEST, farewell=2),
    ),
    scripts=(
        (
            Tell(0, Message((Watch(1), Stash(), Fail()))),
            Tell(0, Message((Sleep(1), Unstash(), Fail(errors=2)))),
            Send(0, A_SECOND),
            Send(0, Message((FailBeside(1),))),
            Sleep(3),
            Stop(1),
        ),
        (Tell(1, A_CRASH, times=3), Ask(1, A_SECOND), Ask(0, A_SECOND)),
    ),
)

QUESTIONS: Final = World(
    roles=(Role(capacity=1), Role(farewell=0.5), Role(capacity=2, drain=True)),
    scripts=(
        (Ask(0, Message((Ask(1, A_SECOND, timeout=2), Ask(2, A_SECOND)))), Ask(1)),
        (Ask(1, Message((ReplyLater(1, times=2),))), Ask(2, Message((ReplyLater(None),)), 2)),
        (Sleep(1), Send(0, A_SECOND), Answer(), Ask(0, STASHED, patience=2)),
    ),
)

TIMERS: Final = World(
    roles=(Role(capacity=1, shutdown=5, drain=True), Role(capacity=1, overflow=Overflow.CLOSE)),
    scripts=(
        (
            Tell(0, Message((SetTimer(0, 1, TimerMode.FIXED_RATE, A_SECOND),))),
            Tell(1, Message((SetTimer(0, 2, TimerMode.FIXED_DELAY, Message((Tell(0),))),))),
            Sleep(3),
            Tell(1, A_SECOND, times=3),
            Stop(0, drain=True),
        ),
    ),
)

# Those for one thing.

FULL_LANES: Final = World(
    roles=(
        Role(capacity=2, overflow=Overflow.DROP_OLDEST),
        Role(capacity=3, overflow=Overflow.COALESCE),
        Role(capacity=1, overflow=Overflow.CLOSE),
    ),
    scripts=(
        (
            *(Tell(to, TWO_SECONDS) for to in range(3)),
            Sleep(0),
            *(Tell(to, Message(key=key)) for to in range(3) for key in (0, 1, 0, 0, 1, 1)),
            Tell(1, Message((Become(True), Become(False), Become(True)), key=1)),
            Sleep(4),
            *(Tell(to) for to in range(3)),
        ),
    ),
)

NO_ROOM: Final = World(
    roles=(
        Role(capacity=1),
        Role(capacity=1, overflow=Overflow.DROP_NEW),
        Role(capacity=1, shutdown=0, drain=True),
    ),
    scripts=(
        (
            *(Tell(to, TWO_SECONDS) for to in range(3)),
            Sleep(0),
            *(Tell(to, times=2) for to in range(3)),
            Sleep(1),
            Kill(0),
            Stop(2),
            Tell(2),
        ),
        (Sleep(0), Sleep(0), Ask(0), Send(0), Tell(0)),
        (Sleep(0), Sleep(0), Ask(1), Send(1, patience=1), Send(2)),
    ),
)

AGAIN: Final = World(
    roles=(Role(in_flight=InFlight.REDELIVER, stash_capacity=2), Role(stash_capacity=1)),
    scripts=(
        (
            Tell(0, STASHED, times=2),
            Tell(0, Message((Stash(), Unstash(), Fail()))),
            Tell(0, Message((Unstash(), Fail()))),
            Tell(0),
            Tell(0, STASHED, times=2),
            Tell(0, A_CRASH),
            Tell(0, STASHED),
        ),
        (
            Tell(1, STASHED, times=2),
            Tell(1, A_CRASH),
            Tell(1, Message((Fail(Directive.RESUME),))),
            Tell(1, Message((Unstash(), Sleep(1)))),
            Stop(1),
        ),
    ),
)

IN_TIME: Final = World(
    roles=(Role(), Role()),
    scripts=(
        (
            Tell(0, A_SECOND),
            *(Tell(0, within=seconds) for seconds in (0, 1, 2)),
            Tell(1, TWO_SECONDS),
            Ask(1, timeout=1),
            Ask(1, Message((Ask(0, TWO_SECONDS), Ask(0))), timeout=2),
            Ask(1, Message((Ask(0, Message((Sleep(3),))),)), patience=1),
        ),
        (Ask(1, A_SECOND, timeout=2), Ask(1, patience=0), Ask(0, A_CRASH), Ask(0, timeout=0)),
    ),
)

REPLIES: Final = World(
    roles=(Role(in_flight=InFlight.REDELIVER), Role(pause=1), Role(restart=Restart.TEMPORARY)),
    scripts=(
        (Ask(0, Message((ReplyLater(None),)), timeout=1), Answer(), Answer()),
        (Ask(1, Message((ReplyLater(1, times=2),))), Ask(1, Message((ReplyLater(1, fails=True),)))),
        (
            Tell(2, Message((Sleep(3), Fail()))),
            Ask(2, Message((ReplyLater(2),)), timeout=5),
            Ask(1, Message((ReplyLater(1), Fail(Directive.RESUME)))),
            Ask(1, Message((ReplyLater(2), FailBeside(1)))),
        ),
    ),
)

TICKS: Final = World(
    roles=(Role(), Role(capacity=1, overflow=Overflow.DROP_OLDEST), Role(stash_capacity=1)),
    scripts=(
        (
            Tell(0, Message((SetTimer(0, 1, TimerMode.FIXED_RATE), Sleep(4)))),
            Tell(0, Message((SetTimer(1, 1), Sleep(2), CancelTimer(1), CancelTimer(0)))),
            Tell(0, Message((SetTimer(1, 1), Sleep(2), SetTimer(1, 2)))),
            Tell(0, Message((SetTimer(0, 1, TimerMode.FIXED_DELAY, A_SECOND), Sleep(2), Fail()))),
            Tell(0, Message((SetTimer(0, 2, TimerMode.FIXED_DELAY, A_SECOND),))),
        ),
        (
            Tell(1, Message((SetTimer(0, 1), SetTimer(1, 1, TimerMode.FIXED_DELAY), Sleep(3)))),
            Sleep(2),
            Tell(1, times=3),
        ),
        (Tell(2, Message((SetTimer(0, 1, TimerMode.FIXED_RATE, Message((Stash(), Unstash()))),))),),
    ),
)

SIGNALS: Final = World(
    roles=(Role(capacity=1, overflow=Overflow.CLOSE, farewell=0.5), Role(), Role()),
    scripts=(
        (
            Tell(0, Message((Watch(1), Watch(2), Sleep(1)))),
            Sleep(0),
            Tell(0),
            Kill(1),
            Sleep(1),
            Tell(0, times=2),
            Kill(2),
        ),
    ),
)

AT_ONCE: Final = World(
    roles=(Role(farewell=0.5, restart=Restart.TRANSIENT), Role(drain=True), Role(start=1)),
    scripts=(
        (
            Tell(0, Message((FailBeside(1), Sleep(1), Fail(errors=2)))),
            Tell(0, Message((FailBeside(0), FailBeside(0)))),
            Sleep(3),
            Tell(0, Message((Kill(0), Stop(0), Fail()))),
            Tell(1, Message((Stop(1), Tell(1), Sleep(1)))),
            Tell(1, times=2),
            Tell(2, Message((Fail(Directive.STOP),))),
            Ask(2),
        ),
    ),
)

CASES: Final = {
    "crashes": CRASHES,
    "questions": QUESTIONS,
    "timers": TIMERS,
    "full lanes": FULL_LANES,
    "no room": NO_ROOM,
    "again": AGAIN,
    "in time": IN_TIME,
    "replies": REPLIES,
    "ticks": TICKS,
    "signals": SIGNALS,
    "at once": AT_ONCE,
}
