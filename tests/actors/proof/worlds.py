"""Small programs of actors as plain data, and what draws them.

A world is a few actors and a few clients. A client's script is a list of deeds, done one
after the other; most send a message, which carries the deeds that its handler will do.
`play.py` brings a world to life, and writes down all that happens.

Everything comes from small ranges, so that limits are met exactly and often: mailboxes of
one or two messages, whole seconds, three actors.
"""

from dataclasses import dataclass
from itertools import product
from math import inf
from typing import Final, Literal, TypeAlias, TypeVar

from hypothesis import strategies as st

from greenroom.actors import Directive, InFlight, Overflow, Restart, TimerMode
from greenroom.actors.testing import Plan, plans

NAMES: Final = ("ann", "bob", "cat")


@dataclass(frozen=True, slots=True)
class Role:
    """What the spec of one actor says, and how long it takes to start and to clean up."""

    capacity: int | None = None
    overflow: Overflow = Overflow.REJECT
    restart: Restart = Restart.PERMANENT
    in_flight: InFlight = InFlight.DEAD_LETTER
    pause: float = 0
    drain: bool = False
    stash_capacity: int = 2
    shutdown: float = 1
    start: float = 0
    farewell: float = 0


# What clients and handlers do. An actor is named by its place among the roles.


@dataclass(frozen=True, slots=True)
class Message:
    """What its handler does; messages with the same key coalesce where the lane does so."""

    deeds: tuple["Deed", ...] = ()
    key: int = 0


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    to: int
    message: Message = Message()
    within: float = inf  # seconds until the message is of no use any more
    times: int = 1


@dataclass(frozen=True, slots=True)
class Send:
    to: int
    message: Message = Message()
    patience: float = inf  # seconds until the sender is cancelled


@dataclass(frozen=True, slots=True)
class Ask:
    to: int
    message: Message = Message()
    timeout: float = inf
    patience: float = inf  # seconds until the asker is cancelled


@dataclass(frozen=True, slots=True)
class Watch:
    """Done by an actor."""

    to: int


@dataclass(frozen=True, slots=True)
class Stop:
    to: int
    drain: bool | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    to: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Give all the replies that handlers have left to others, once more if given already."""


# What handlers only do.


@dataclass(frozen=True, slots=True)
class Fail:
    directive: Directive = Directive.RESTART
    errors: int = 1  # more than one are raised as a group


@dataclass(frozen=True, slots=True)
class FailBeside:
    """Fail in a task of the actor's nursery, a while later."""

    after: float


@dataclass(frozen=True, slots=True)
class Stash:
    pass


@dataclass(frozen=True, slots=True)
class Unstash:
    pass


@dataclass(frozen=True, slots=True)
class Become:
    other: bool  # whether the other handler is to take over, or the usual one


@dataclass(frozen=True, slots=True)
class SetTimer:
    key: int
    seconds: float
    mode: TimerMode | None = None  # of a periodic one
    message: Message = Message()


@dataclass(frozen=True, slots=True)
class CancelTimer:
    key: int


@dataclass(frozen=True, slots=True)
class ReplyLater:
    """Reply from a task of the actor's nursery, or leave it to whoever does `Answer`."""

    after: float | None = None
    times: int = 1
    fails: bool = False


ClientDeed: TypeAlias = Sleep | Tell | Send | Ask | Stop | Kill | Answer
Deed: TypeAlias = (
    ClientDeed
    | Watch
    | Fail
    | FailBeside
    | Stash
    | Unstash
    | Become
    | SetTimer
    | CancelTimer
    | ReplyLater
)


@dataclass(frozen=True, slots=True)
class World:
    """Actors, and the scripts of clients."""

    roles: tuple[Role, ...]
    scripts: tuple[tuple[ClientDeed, ...], ...]


# Drawn by Hypothesis, mostly from catalogues: one draw of many costs less than many draws.

Topic: TypeAlias = Literal["messages", "asks", "timers", "stash", "ends"]
Catalogue: TypeAlias = dict[Topic, list[Deed]]
D = TypeVar("D")

_ACTORS: Final = range(len(NAMES))
_KEYS: Final = (0, 1)
_RESTART: Final = Directive.RESTART

roles: Final = st.builds(
    Role,
    capacity=st.sampled_from([1, 2, 3, None]),
    overflow=st.sampled_from([*Overflow, Overflow.COALESCE]),
    restart=st.sampled_from([Restart.PERMANENT] * 4 + [Restart.TRANSIENT, Restart.TEMPORARY]),
    in_flight=st.sampled_from(InFlight),
    pause=st.sampled_from([0.0, 0.0, 1.0]),
    drain=st.booleans(),
    stash_capacity=st.integers(0, 3),
    shutdown=st.sampled_from([0.0, 1.0, 5.0]),
    start=st.sampled_from([0.0, 0.0, 1.0]),
    farewell=st.sampled_from([0.0, 0.0, 0.5, 2.0]),
)

# What any handler may do.
_CHORES: Final[Catalogue] = {
    "messages": [
        Sleep(1.0),
        Sleep(2.0),
        Sleep(0.0),
        Fail(),
        Fail(Directive.RESUME),
        Fail(_RESTART, errors=2),
        Become(True),
    ],
    "stash": [Stash(), Unstash()],
    "asks": [
        ReplyLater(1.0),
        ReplyLater(None),
        ReplyLater(0.0, times=2),
        ReplyLater(1.0, fails=True),
        ReplyLater(1.0, times=0),
    ],
    "timers": [
        *(SetTimer(key, seconds) for key in _KEYS for seconds in (1.0, 0.0, 2.0)),
        *(CancelTimer(key) for key in _KEYS),
    ],
}


def _weighed(catalogue: Catalogue, favourites: tuple[Topic, ...]) -> list[Deed]:
    """Put all deeds into one list: as many of each topic, and more of the favourite ones."""
    return [
        deed
        for topic, deeds in catalogue.items()
        for deed in deeds * (8 // len(deeds)) * (3 if topic in favourites else 1)
    ]


def _simple_messages(favourites: tuple[Topic, ...]) -> list[Message]:
    """Give all messages with up to two chores."""
    chores = _weighed(_CHORES, favourites)
    scripts = [(), *((chore,) for chore in chores), *product(chores, chores)]
    return [Message(script, key) for script in scripts for key in _KEYS]


def _rich_deeds(favourites: tuple[Topic, ...]) -> st.SearchStrategy[Deed]:
    """Draw what the handlers of messages from clients may do, which is everything."""
    simple = st.sampled_from(_simple_messages(favourites))
    actors, keys = st.sampled_from(_ACTORS), st.sampled_from(_KEYS)
    limits = st.sampled_from([inf, 1.0, 2.0])
    modes, few = st.sampled_from([None, *TimerMode]), st.sampled_from([1.0, 2.0])
    topics: dict[Topic, list[st.SearchStrategy[Deed]]] = {
        "messages": [st.builds(Tell, actors, simple, limits), st.builds(Send, actors, simple)],
        "asks": [
            st.builds(Ask, actors, simple, limits, limits),
            st.sampled_from(_CHORES["asks"]),
        ],
        "timers": [st.builds(SetTimer, keys, few, modes, simple)],
        "ends": [
            st.builds(Watch, actors),
            st.sampled_from(
                [FailBeside(1.0), FailBeside(0.0), Fail(Directive.STOP), Stop(0), Kill(1)]
            ),
        ],
    }
    chores = st.sampled_from(_weighed(_CHORES, favourites))
    weights = {topic: 3 if topic in favourites else 1 for topic in topics}
    others = [kind for topic in topics for kind in topics[topic] * weights[topic]]
    return _any_of(*[chores] * len(others), *others)


def _any_of(*strategies: st.SearchStrategy[D]) -> st.SearchStrategy[D]:
    """Draw from one of the strategies; one that is given twice counts twice."""
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


def worlds(*favourites: Topic) -> st.SearchStrategy[World]:
    """Draw a world, in which what belongs to the favourite topics comes up more often."""
    handled = st.lists(_rich_deeds(favourites), max_size=4).map(tuple)
    messages = st.builds(Message, handled, st.sampled_from(_KEYS))
    actors = st.sampled_from(_ACTORS)
    limits = st.sampled_from([inf, inf, inf, inf, 1.0, 2.0, 0.0])
    tells = st.builds(Tell, actors, messages, limits, st.sampled_from([1, 3]))
    asks = st.builds(Ask, actors, messages, limits, limits)
    pauses: st.SearchStrategy[ClientDeed] = st.sampled_from(
        [Sleep(1.0), Sleep(0.0), Sleep(2.0), Answer()]
    )
    ends: list[ClientDeed] = [Stop(0), Kill(0), Stop(1, drain=True), Stop(2, drain=False), Kill(1)]
    rarely = st.sampled_from([Sleep(1.0)] * (0 if "ends" in favourites else 10) + ends)
    sends = st.builds(Send, actors, messages, limits)
    asked = [asks] * (3 if "asks" in favourites else 1)
    deeds = _any_of(tells, tells, tells, sends, *asked, pauses, pauses, pauses, rarely)
    script = st.lists(deeds, min_size=3, max_size=10).map(tuple)
    return st.builds(
        World,
        st.lists(roles, min_size=2, max_size=len(NAMES)).map(tuple),
        st.lists(script, min_size=1, max_size=3).map(tuple),
    )


_TARGETS: Final = tuple(f"/stage/{name}" for name in NAMES)

any_plan: Final[st.SearchStrategy[Plan]] = st.one_of(
    plans(decisions=64, changes=4),
    plans(decisions=64, changes=2, crash_points=32, crashes=2),
    plans(decisions=64, changes=2, checkpoints=160, targets=_TARGETS),
)
"""A schedule, sometimes a crash or two, and sometimes a cancellation of all or a kill of one."""
