"""Small trees of actors as plain data, what is done to them, and the record of what they did.

A tree is drawn, played in a simulation, and judged by its record alone. Times are whole
virtual seconds, small ones, so that the edges of windows and deadlines meet.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf
from string import ascii_lowercase
from typing import Any, Final, Literal, NamedTuple, NoReturn, TypeAlias

import trio
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorStarted,
    ActorStuck,
    ActorSystem,
    AutoShutdown,
    Backoff,
    ChildSpec,
    Context,
    DynamicSupervisor,
    ExitReason,
    Restart,
    ServiceKey,
    Strategy,
    Supervisor,
    open_actor_system,
)
from greenroom.actors.testing import (
    InjectedCrash,
    Plan,
    Simulation,
    aim,
    crash_point,
    plans,
    simulate,
)

# The tree.


def _shown(self: Any) -> str:
    """Show what differs from the defaults, so that a tree that fails can be read."""
    given = [
        f"{each.name}={value!r}"
        for each in fields(self)
        if (value := getattr(self, each.name)) != each.default
    ]
    return f"{type(self).__name__}({', '.join(given)})"


@dataclass(frozen=True, repr=False)
class Life:
    """One incarnation of a leaf.

    Args:
        starts_in: seconds that `started` takes.
        fails: what of its beginning fails, if anything: "constructor" or "started".
        runs: seconds until `then` happens; None for never.
        then: what ends it.
        heeds_in: seconds that it takes to end when asked to; `inf` for one that does not.
        stops_in: seconds that `stopped` takes.
        stop_fails: whether `stopped` raises in the end.
        beside: whether it has a task in its nursery, which takes a second to end.
        ticks: whether it tells itself the number of its life every second.
    """

    starts_in: float = 0
    fails: Literal["", "constructor", "started"] = ""
    runs: float | None = None
    then: Literal["crash", "finish"] = "crash"
    heeds_in: float = 0
    stops_in: float = 0
    stop_fails: bool = False
    beside: bool = False
    ticks: bool = False

    __repr__ = _shown


CALM: Final = Life()


@dataclass(frozen=True, repr=False)
class Leaf:
    """An actor that lives one of `lives` after the other, and a calm one after the last."""

    lives: tuple[Life, ...] = ()
    restart: Restart = Restart.PERMANENT
    handles: bool = False  # whether it has a `receive`, and no `run` of its own
    spawns: tuple["Leaf", ...] = ()  # its own children, in each of its lives
    shutdown: float = 2
    cleanup_timeout: float = 2
    start_timeout: float = 5
    significant: bool = False
    backoff: Backoff | None = None
    intensity: int | None = None
    period: float | None = None
    id: str = ""

    __repr__ = _shown

    @property
    def parts(self) -> tuple["Leaf", ...]:
        return self.spawns


@dataclass(frozen=True, repr=False)
class Branch:
    """A supervisor."""

    parts: tuple["Tree", ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 1000
    period: float = 5
    per_child: bool = True
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    give_up: bool = True
    dynamic: bool = False
    restart: Restart = Restart.TEMPORARY
    significant: bool = False
    shutdown: float | None = None
    id: str = ""

    __repr__ = _shown


Tree: TypeAlias = Leaf | Branch


def named(tree: Branch) -> Branch:
    """Give every part of a tree a letter of its own, in depth-first order."""
    letters = iter(ascii_lowercase)

    def name(part: Any) -> Any:
        letter = next(letters)
        inner = tuple(name(each) for each in part.parts)
        return replace(part, id=letter, **{_parts_of(part): inner})

    return replace(tree, parts=tuple(name(part) for part in tree.parts), id="root")


def walk(tree: Tree) -> Iterator[Tree]:
    """Give all parts of a tree, itself first."""
    yield tree
    for part in tree.parts:
        yield from walk(part)


def leaves_of(tree: Tree) -> list[Leaf]:
    """Give the leaves that supervisors keep, in the order of their start."""
    if isinstance(tree, Leaf):
        return [tree]
    return [leaf for part in tree.parts for leaf in leaves_of(part)]


def _parts_of(part: Tree) -> str:
    return "spawns" if isinstance(part, Leaf) else "parts"


# What happens to it.


class Fault(Exception):
    """A crash that a tree is meant to have."""


What: TypeAlias = Literal[
    "made",  # the constructor was called
    "starting",
    "started",  # it returned
    "not started",  # it did not
    "stopping",  # `stopped` was called
    "stopped",  # it is over, however
    "asked",  # a request to stop has come
    "ready",  # events
    "restarted",
    "ended",
    "stuck",
    "told",  # a signal
    "heard",  # a message
    "watch",
    "unwatch",
    "beside",  # a task of its nursery began
    "beside over",
]


class Entry(NamedTuple):
    """One line of a record."""

    at: float
    id: str
    what: What
    life: int = 0  # counted from 0, over all actors with this id
    detail: Any = None


class Record(list[Entry]):
    """What happened, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.lives: dict[str, int] = {}
        self.refs: dict[str, ActorRef[Any]] = {}
        self.faults: dict[tuple[str, int], list[Exception]] = {}
        self.system: ActorSystem | None = None
        self.looks_around = False
        self.known: list[ActorRef[Any]] = []
        self.alive_but_lost: list[str] = []
        self.dead_but_found: list[str] = []

    def write(self, name: str, what: What, life: int = 0, detail: Any = None) -> None:
        self.append(Entry(trio.current_time(), name, what, life, detail))
        if self.looks_around:
            self.look_around()

    def look_around(self) -> None:
        """Look for actors that live and are not found, or are found and have ended."""
        system = self.system
        assert system is not None
        members, offers = system.groups.members(GROUP), system.receptionist.find(SERVICE)
        for ref in self.known:
            ways = (system.registry.find(name_of(ref)) == ref, ref in members, ref in offers)
            if ref.alive and not all(ways):
                self.alive_but_lost.append(ref.path)
            if not ref.alive and any(ways):
                self.dead_but_found.append(ref.path)

    def of(self, *whats: What, name: str | None = None) -> list[Entry]:
        """Give the entries of some kinds, of one actor or all."""
        return [each for each in self if each.what in whats and name in (None, each.id)]

    def begin_life(self, name: str) -> int:
        life = self.lives[name] = self.lives.get(name, -1) + 1
        return life

    @contextmanager
    def noting_faults(self, name: str, life: int) -> Iterator[None]:
        """Keep what is raised, in the order in which it is."""
        try:
            yield
        except (Fault, InjectedCrash) as fault:
            faults = self.faults.setdefault((name, life), [])
            if fault not in faults:
                faults.append(fault)
            raise

    def listen(self, system: ActorSystem) -> None:
        """Write down the events of a system."""
        self.system = system

        def write(event: Any) -> None:
            name = name_of(event.ref)
            self.refs[name] = event.ref
            self.write(name, _EVENTS[type(event)], self.lives.get(name, -1), event)

        for kind in _EVENTS:
            system.events.subscribe(kind, write)


_EVENTS: Final[dict[type, What]] = {
    ActorStarted: "ready",
    ActorRestarted: "restarted",
    ActorEnded: "ended",
    ActorStuck: "stuck",
}


def name_of(ref: ActorRef[Any]) -> str:
    """Give the id that a tree has for an actor: the last of its path, without a number."""
    return ref.path.rpartition("/")[2].partition("-")[0]


GROUP: Final = "everybody"
SERVICE: Final = ServiceKey[Any]("playing")


class Player(Actor[Any]):
    """A leaf at work."""

    def __init__(self, leaf: Leaf, record: Record) -> None:
        self.leaf = leaf
        self.record = record
        self.number = number = record.begin_life(leaf.id)
        self.life = leaf.lives[number] if number < len(leaf.lives) else CALM
        self.asked = trio.Event()
        self.write("made")
        if self.life.fails == "constructor":
            self.fail()

    def write(self, what: What, detail: Any = None) -> None:
        self.record.write(self.leaf.id, what, self.number, detail)

    def fail(self) -> NoReturn:
        with self.record.noting_faults(self.leaf.id, self.number):
            raise Fault(self.leaf.id, self.number)

    def pass_point(self, name: str) -> None:
        with self.record.noting_faults(self.leaf.id, self.number):
            crash_point(f"{self.leaf.id} {name}")

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx
        self.record.refs[self.leaf.id] = ctx.self
        self.write("starting", cause)
        aim(ctx.self, self.leaf.id)
        try:
            await self.get_ready(ctx)
        except BaseException:
            self.write("not started")
            raise
        self.write("started")

    async def get_ready(self, ctx: Context) -> None:
        self.pass_point("starts")
        if ctx.incarnation == 0 or ctx.self not in self.record.known:
            self.become_known(ctx)
        if self.life.ticks:
            ctx.timers.start_periodic("tick", ("tick", self.number), 1)
        if self.life.beside:
            ctx.nursery.start_soon(self.live_beside)
        for leaf in self.leaf.spawns:
            self.record.refs[leaf.id] = ctx.spawn(spec_for(leaf, self.record))
        if self.life.starts_in:
            await trio.sleep(self.life.starts_in)
        if self.life.fails == "started":
            self.fail()

    def become_known(self, ctx: Context) -> None:
        """Take the name that nobody else can have, and be found in other ways."""
        ctx.registry.register(self.leaf.id, ctx.self)
        ctx.groups.join(GROUP, ctx.self)
        ctx.receptionist.register(SERVICE, ctx.self)
        if self.leaf.id == "a":  # one is enough to hear of everybody
            ctx.receptionist.subscribe(SERVICE, ctx.self)
        self.record.known.append(ctx.self)

    async def live_beside(self) -> None:
        """Live in the actor's nursery, and take a second to end."""
        self.write("beside")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            self.write("beside over")

    async def obey(self, order: Any) -> None:
        """Do what a message says."""
        self.write("heard", order)
        self.pass_point("obeys")
        deed, *args = (order,) if isinstance(order, str) else order
        await getattr(self, deed)(*args)

    async def crash(self) -> None:
        self.fail()

    async def tick(self, number: int) -> None:
        """Do nothing; what was heard is written down."""

    async def link(self, ref: ActorRef[Any]) -> None:
        if ref != self.ctx.self:
            self.ctx.link(ref)

    async def finish(self) -> None:
        """Come to an end, which for one that handles messages is to stop itself."""
        self.ctx.self.stop("itself")

    async def on_signal(self, signal: Any) -> None:
        self.write("told", signal)

    async def stopped(self, reason: ExitReason) -> None:
        self.write("stopping", reason)
        try:
            await trio.sleep(self.life.stops_in)
            self.pass_point("stops")
            if self.life.stop_fails:
                self.fail()
        finally:
            self.write("stopped")


class Runner(Player):
    """Lives as one coroutine."""

    async def run(self, ctx: Context) -> None:
        life = self.life
        with trio.move_on_after(inf if life.runs is None else life.runs) as span:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.listen, ctx)
                await self.asked.wait()
                span.deadline = inf
                await trio.sleep(life.heeds_in)
                nursery.cancel_scope.cancel()
        if span.cancelled_caught and life.then == "crash":
            self.fail()

    async def listen(self, ctx: Context) -> None:
        while True:
            message = await ctx.receive()
            if isinstance(message, str | tuple):
                await self.obey(message)
            else:
                self.write("told", message)

    async def finish(self) -> None:
        self.asked.set()

    def stopping(self, ctx: Context, reason: ExitReason) -> bool:
        self.write("asked", reason)
        self.asked.set()
        return True


class Handler(Player):
    """Lives from message to message."""

    async def get_ready(self, ctx: Context) -> None:
        await super().get_ready(ctx)
        life = self.life
        if life.runs is not None:
            ctx.timers.start_single("end of life", life.then, life.runs)
        if life.heeds_in:
            ctx.self.tell("be_busy")

    async def receive(self, message: Any) -> None:
        await self.obey(message)

    async def be_busy(self) -> None:
        if self.life.heeds_in:  # the message may be meant for the life before
            await trio.sleep(self.life.heeds_in)
            self.ctx.self.tell("be_busy")


EYES: Final = ("eye0", "eye1")


class Eye(Actor[Any]):
    """Watches others, outlives them, and may crash while it is told of them."""

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self.record = record

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx

    async def receive(self, message: Any) -> None:
        if message == "crash":
            raise Fault
        deed, ref = message
        self.record.write(self.name, deed, 0, ref)
        self.ctx.watch(ref) if deed == "watch" else self.ctx.unwatch(ref)

    async def on_signal(self, signal: Any) -> None:
        self.record.write(self.name, "told", 0, signal)
        crash_point("eye is told")


def spec_for(tree: Tree, record: Record) -> ChildSpec:
    """Make the child spec of a part of a tree."""
    if isinstance(tree, Leaf):
        leaf = tree
        player = Handler if leaf.handles else Runner
        return ChildSpec(
            leaf.id,
            lambda: player(leaf, record),
            restart=leaf.restart,
            shutdown=leaf.shutdown,
            cleanup_timeout=leaf.cleanup_timeout,
            start_timeout=leaf.start_timeout,
            significant=leaf.significant,
            backoff=leaf.backoff,
            intensity=leaf.intensity,
            period=leaf.period,
        )
    branch = tree
    return ChildSpec(
        branch.id,
        lambda: keeper_for(branch, record),
        restart=branch.restart,
        shutdown=branch.shutdown,
        significant=branch.significant,
    )


class Keeper(Supervisor):
    """A supervisor that writes down when it is asked to stop."""

    def __init__(self, branch: Branch, record: Record) -> None:
        super().__init__(
            [spec_for(part, record) for part in branch.parts],
            strategy=branch.strategy,
            intensity=branch.intensity,
            period=branch.period,
            per_child=branch.per_child,
            auto_shutdown=branch.auto_shutdown,
            give_up=branch.give_up,
        )
        self.branch = branch
        self.record = record

    def stopping(self, ctx: Context, reason: ExitReason) -> bool:
        self.record.write(self.branch.id, "asked", 0, reason)
        return super().stopping(ctx, reason)


def keeper_for(branch: Branch, record: Record) -> Supervisor:
    """Make the supervisor of a branch."""
    if branch.dynamic:
        keeper = DynamicSupervisor(
            intensity=branch.intensity,
            period=branch.period,
            per_child=branch.per_child,
            give_up=branch.give_up,
        )
        for part in branch.parts:
            keeper.start_child(spec_for(part, record))
        return keeper
    return Keeper(branch, record)


# What is done to it.

End: TypeAlias = Literal["return", "raise", "cancel", "stop"]


class Step(NamedTuple):
    """Something that is done to one actor."""

    at: float
    do: Literal["crash", "finish", "stop", "kill", "link", "watch", "unwatch"]
    id: str
    other: str = ""  # whom it is linked with, or the eye that watches it


@dataclass(frozen=True)
class Surroundings:
    """What a system must leave as it was."""

    tasks: int
    next_deadline: float
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    services: tuple[object, ...] = ()
    alive: tuple[str, ...] = ()


def look_at(record: Record) -> Surroundings:
    """Look at what there is now."""
    statistics = trio.lowlevel.current_statistics()
    system = record.system
    known: dict[str, Any] = {}
    if system is not None:
        known = {
            "names": system.registry.names(),
            "groups": system.groups.names(),
            "services": tuple(system.receptionist),
            "alive": tuple(ref.path for ref in record.refs.values() if ref.alive),
        }
    return Surroundings(statistics.tasks_living, statistics.seconds_to_next_deadline, **known)


@dataclass(frozen=True)
class Played:
    """A tree that was played to its end."""

    record: Record
    run: Simulation[None]
    asked_at: float  # when the body of the system was over
    ended_at: float
    before: Surroundings
    after: Surroundings

    @property
    def before_the_end(self) -> list[Entry]:
        """What happened before the system was asked to stop."""
        return [entry for entry in self.record if entry.at < self.asked_at]


def reason_of(entry: Entry) -> ExitReason:
    """Tell why an incarnation ended, whether another one follows or not."""
    reason = entry.detail.cause if entry.what == "restarted" else entry.detail.reason
    assert isinstance(reason, ExitReason)
    return reason


class BodyError(Exception):
    """Raised by the body of a system that is meant to."""


@contextmanager
def silence() -> Iterator[None]:
    """Keep what is logged about crashes out of the tests' reports."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def log_of_actors() -> Iterator[list[str]]:
    """Keep it out, too, and give it."""
    logger = logging.getLogger("greenroom.actors")
    texts: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    handler = Keeping()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield texts
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def play(
    tree: Branch,
    steps: Sequence[Step] = (),
    *,
    until: float = 20.5,
    end: End = "return",
    shutdown_timeout: float = 1000,
    plan: Plan | None = None,
    log: AbstractContextManager[object] | None = None,
    looks_around: bool = False,
) -> Played:
    """Run a system with `tree` below its root, and stop it at `until`.

    The whole seconds are the tree's own; what is done from outside falls between them if
    it must not meet with what happens inside.
    """
    record = Record()
    eyes = any(step.do == "watch" for step in steps)
    asked_at = inf
    looks: list[Surroundings] = []

    async def body(system: ActorSystem) -> None:
        nonlocal asked_at
        record.listen(system)
        record.looks_around = looks_around
        for eye in EYES if eyes else ():
            spec = ChildSpec(eye, partial(Eye, eye, record), intensity=1000)
            record.refs[eye] = system.spawn(spec)
        system.spawn(spec_for(tree, record))
        try:
            for step in sorted(steps, key=lambda step: step.at):
                await trio.sleep_until(step.at)
                take(step, record)
            await trio.sleep_until(until)
        finally:
            asked_at = trio.current_time()
        if end == "raise":
            raise BodyError
        if end == "stop":
            system.stop()
            await trio.sleep_forever()

    async def scenario() -> None:
        looks.append(look_at(record))
        try:
            with trio.move_on_at(until if end == "cancel" else inf):
                async with open_actor_system("system", shutdown_timeout=shutdown_timeout) as system:
                    await body(system)
        finally:
            looks.append(look_at(record))

    with log or silence():
        run = simulate(scenario, plan=plan, catch=Exception)
    return Played(record, run, min(asked_at, run.ended_at), run.ended_at, *looks)


def take(step: Step, record: Record) -> None:
    """Take a step against an actor, if there has been one with this id."""
    ref = record.refs.get(step.id)
    if ref is None or (step.do == "unwatch" and step.other not in record.refs):
        return
    match step.do:
        case "crash":
            ref.tell("crash")
        case "finish":
            ref.tell("finish")
        case "stop":
            ref.stop()
        case "kill":
            ref.kill()
        case "link":
            other = record.refs.get(step.other)
            if other is not None:
                ref.tell(("link", other))
        case "watch" | "unwatch":
            record.refs[step.other].tell((step.do, ref))


# What is drawn.

wild_lives = st.builds(
    Life,
    starts_in=st.sampled_from([0, 0, 0, 1, 6]),
    fails=st.sampled_from(["", "", "", "", "", "constructor", "started"]),
    runs=st.none() | st.integers(0, 3),
    then=st.sampled_from(["crash", "crash", "finish"]),
    heeds_in=st.sampled_from([0, 0, 1, inf]),
    stops_in=st.sampled_from([0, 0, 1, inf]),
    stop_fails=st.sampled_from([False, False, True]),
    beside=st.booleans(),
    ticks=st.booleans(),
)


def wild_leaves(**options: Any) -> st.SearchStrategy[Leaf]:
    """Draw leaves that do whatever a leaf can do."""
    return st.builds(
        Leaf,
        st.lists(wild_lives, min_size=1, max_size=3).map(tuple),
        restart=st.sampled_from(Restart),
        handles=st.booleans(),
        significant=st.booleans(),
        backoff=st.sampled_from([None, None, Backoff(1, 3, 2, 0, 2)]),
        **options,
    )


def wild_branches(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Branch]:
    """Draw supervisors of any kind."""
    return st.builds(
        Branch,
        st.lists(parts, min_size=2, max_size=3).map(tuple),
        strategy=st.sampled_from(Strategy),
        intensity=st.integers(1, 4),
        per_child=st.booleans(),
        auto_shutdown=st.sampled_from(AutoShutdown),
        dynamic=st.sampled_from([False, False, True]),
        restart=st.sampled_from(Restart),
        significant=st.booleans(),
        shutdown=st.sampled_from([None, None, 1]),
    ).map(without_failing_constructors)


def without_failing_constructors(branch: Branch) -> Branch:
    """Leave them out below a dynamic supervisor, whose own factory calls them here."""
    if not branch.dynamic:
        return branch
    parts = tuple(
        replace(part, lives=tuple(_with_constructor(life) for life in part.lives))
        if isinstance(part, Leaf)
        else part
        for part in branch.parts
    )
    return replace(branch, parts=parts)


def _with_constructor(life: Life) -> Life:
    return replace(life, fails="started") if life.fails == "constructor" else life


families = wild_leaves(spawns=st.lists(wild_leaves(), max_size=2).map(tuple))
wild_trees = wild_branches(wild_leaves() | families | wild_branches(wild_leaves())).map(named)
wild_steps = st.lists(
    st.builds(
        Step,
        st.integers(0, 6),
        st.sampled_from(["crash", "finish", "stop", "kill", "link"]),
        st.sampled_from(ascii_lowercase[:6]),
        st.sampled_from(ascii_lowercase[:6]),
    ),
    max_size=4,
)
wild_ends: st.SearchStrategy[End] = st.sampled_from(["return", "raise", "cancel", "stop"])
wild_plans = plans(
    decisions=100,
    changes=4,
    crash_points=20,
    crashes=2,
    checkpoints=100,
    targets=("a", "b", "c"),
)
