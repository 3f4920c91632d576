"""Brings a drawn world to life, and writes down what happens in it.

Who acts here only sends what its script says and notes what comes of it. It decides nothing,
so that a property which fails tells something about the actors of Greenroom.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Any, Final

import hypothesis
import trio
import trio.testing
from tests.actors.proof import worlds
from tests.actors.proof.record import Event, Load, Offer, Record, Setting, What
from tests.actors.proof.worlds import Message, Role, World

from greenroom.actors import (
    Actor,
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorSystem,
    AskError,
    Backoff,
    ChildSpec,
    Context,
    DeadLetter,
    Directive,
    ExitReason,
    Lane,
    Loss,
    Overflow,
    Reply,
    Signal,
    StashFull,
    open_actor_system,
)
from greenroom.actors._envelopes import content_of
from greenroom.actors._lanes import MESSAGES
from greenroom.actors.testing import Plan, aim, crash_point, note, simulate

# Seconds that a system is open: longer than all that the scripts of most worlds can last.
OPEN: Final = 20.0

# How often a message is stashed at most: it may be one that unstashes, too.
ENOUGH: Final = 3


class Mishap(Exception):
    """Raised by a handler whose message says so."""

    def __init__(self, number: int, directive: Directive) -> None:
        super().__init__(number, directive.name)
        self.directive = directive


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message on its way."""

    number: int
    message: Message
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """A reply that a handler has left to others, and what it is to be."""

    actor: str
    number: int
    reply: Reply
    fails: bool
    asked: bool


def on_failure(error: BaseException) -> Directive:
    """Decide as the error itself says."""
    return getattr(error, "directive", Directive.RESTART)


def key_of(parcel: Parcel) -> int:
    """Give the key by which messages coalesce; there is none for a key of 1 with more to do."""
    if parcel.message.key == 1 and len(parcel.message.deeds) > 2:
        raise LookupError(f"message {parcel.number} has no key")
    return parcel.message.key


def load_of(ref: ActorRef[Any]) -> Load:
    """Look into an actor's inbox: nothing public tells which messages wait."""
    inbox = ref._cell.inbox
    if inbox is None:
        return Load()
    items = (inbox._front, inbox.mailbox._queues[MESSAGES].items, inbox._stash)
    again, lane, stash = (
        tuple(parcel.number for parcel in map(content_of, kept or ()) if isinstance(parcel, Parcel))
        for kept in items
    )
    return Load(again, lane, stash)


class Turns(trio.abc.Instrument):
    """Counts the passes of trio's loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@dataclass(eq=False)
class Stage:
    """One run of a world."""

    world: World
    aloud: bool = False  # whether the trace of the simulation is to hold all events
    record: Record = field(init=False)
    refs: dict[str, ActorRef[Any]] = field(default_factory=dict)
    promises: list[Promise] = field(default_factory=list)
    promised: set[int] = field(default_factory=set)
    stashes: Counter[int] = field(default_factory=Counter)
    open_questions: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.record = Record(self.world)
        self.system: ActorSystem | None = None
        self._turns = Turns()
        self._next_number = count(1).__next__

    def write(
        self, what: What, actor: str, number: int = 0, detail: Any = None, life: int = 0
    ) -> None:
        """Write an event down; what waits for the actor too, if it is not amid a change."""
        load = None
        if what not in (What.LOST, What.LATE, What.RESTARTED, What.ENDED):
            ref = self.refs.get(actor)
            load = None if ref is None else load_of(ref)
        now, turn = trio.current_time(), self._turns.count
        event = Event(what, actor, number, detail, life, load, now, turn)
        self.record.events.append(event)
        if self.aloud:
            note(str(event))

    # The run.

    async def play(self) -> None:
        """Play the scripts of all clients, in a system that is open for a while."""
        tasks = trio.lowlevel.current_statistics().tasks_living
        trio.lowlevel.add_instrument(self._turns)
        try:
            await self._play()
        finally:
            trio.lowlevel.remove_instrument(self._turns)
            statistics = trio.lowlevel.current_statistics()
            self.record.tasks_left = statistics.tasks_living - tasks
            self.record.next_deadline = statistics.seconds_to_next_deadline
            if self.system is not None:
                self.record.losses = dict(self.system.dead_letters.by_loss)

    async def _play(self) -> None:
        async with trio.open_nursery() as clients:
            try:
                async with open_actor_system("stage", intensity=10_000) as self.system:
                    self._enter(self.system)
                    for number, script in enumerate(self.world.scripts, start=1):
                        name = f"client{number}"
                        clients.start_soon(self._follow, name, script, name=name)
                    await trio.sleep(OPEN)
                    await trio.testing.wait_all_tasks_blocked()
                    for name in self.refs:
                        self.write(What.QUIET, name)
            finally:
                self._leave()
            # Whoever waits for an actor that has ended waits for ever.
            await trio.testing.wait_all_tasks_blocked()
            self.record.hanging = sorted(self.open_questions)
            clients.cancel_scope.deadline = trio.current_time() + OPEN

    def _enter(self, system: ActorSystem) -> None:
        system.dead_letters.subscribe(self._lost)
        system.dead_letters.subscribe(_bad_subscriber)
        system.events.subscribe(ActorRestarted, self._restarted)
        system.events.subscribe(ActorEnded, self._ended)
        for name, role in zip(worlds.NAMES, self.world.roles, strict=False):
            ref = self.refs[name] = system.spawn(spec_of(role, name, self))
            self.record.entered.append(name)
            system.registry.register(name, ref)
            aim(ref)

    def _leave(self) -> None:
        if self.system is None:
            return  # cancelled before it was open
        self.record.names_left = self.system.registry.names()
        for name, ref in self.refs.items():
            self.record.refused[name] = ref._cell.open_inbox().mailbox.counts(MESSAGES).refused
            self.write(What.CLOSED, name)

    def _lost(self, letter: DeadLetter) -> None:
        actor = letter.target.path.rpartition("/")[2]
        if letter.loss is Loss.LATE:
            number = letter.message.args[0] if isinstance(letter.message, Mishap) else None
            number = number or letter.message[0]
            self.write(What.LATE, actor, number, letter.message)
        else:
            self.write(What.LOST, actor, letter.message.number, letter.loss)

    def _restarted(self, event: ActorRestarted) -> None:
        self.write(What.RESTARTED, event.ref.path.rpartition("/")[2], detail=event.cause)

    def _ended(self, event: ActorEnded) -> None:
        name = event.ref.path.rpartition("/")[2]
        if name in self.refs:
            self.write(What.ENDED, name, detail=event.reason)

    # What clients and handlers do alike.

    async def _follow(self, name: str, script: tuple[worlds.ClientDeed, ...]) -> None:
        for deed in script:
            await self.do(name, deed)

    def other(self, name: str, place: int) -> str:
        """Give the actor at a place, among those that are there."""
        return worlds.NAMES[place % len(self.world.roles)]

    async def do(self, name: str, deed: worlds.Deed, within: int | None = None) -> None:
        """Do what anybody may do."""
        match deed:
            case worlds.Sleep(seconds):
                await trio.sleep(seconds)
            case worlds.Tell(to, message, seconds, times):
                for _ in range(times):
                    self.tell(name, self.other(name, to), message, seconds, within)
            case worlds.Send(to, message, patience):
                with trio.move_on_after(patience):
                    await self.send(name, self.other(name, to), message, within)
            case worlds.Ask(to, message, timeout, patience):
                with trio.move_on_after(patience):
                    await self.ask(name, self.other(name, to), message, timeout, within)
            case worlds.Stop(to, drain):
                whom = self.other(name, to)
                self.write(What.STOP, whom, detail=drain)
                self.refs[whom].stop(name, drain=drain)
            case worlds.Kill(to):
                whom = self.other(name, to)
                self.write(What.KILL, whom)
                self.refs[whom].kill(name)
            case worlds.Answer():
                for promise in tuple(self.promises):
                    self.keep(promise)
            case _:
                raise AssertionError(f"{name} cannot do {deed}")

    def tell(
        self, name: str, to: str, message: Message, seconds: float, within: int | None
    ) -> None:
        deadline = inf if seconds == inf else trio.current_time() + seconds
        parcel = self._offer("tell", name, to, message, deadline, within)
        try:
            answer: object = self.refs[to].tell(
                parcel, sender=self.refs.get(name), deadline=deadline
            )
        except Exception as error:  # noqa: BLE001 - what I7 says will never be
            answer = error
        self.write(What.ANSWERED, to, parcel.number, answer)

    async def send(self, name: str, to: str, message: Message, within: int | None) -> None:
        parcel = self._offer("send", name, to, message, inf, within)
        try:
            answer: object = await self.refs[to].send(parcel, sender=self.refs.get(name))
        except BaseException as error:
            self.write(What.ANSWERED, to, parcel.number, error)
            raise
        self.write(What.ANSWERED, to, parcel.number, answer)

    async def ask(
        self, name: str, to: str, message: Message, timeout: float, within: int | None
    ) -> None:
        if to == name:
            return  # it would be refused
        deadline = inf if timeout == inf else trio.current_time() + timeout
        parcel = self._offer("ask", name, to, message, deadline, within)
        self.open_questions.add(parcel.number)
        outcome: object = None
        try:
            ref = self.refs[to]
            outcome = await ref.ask(parcel, timeout=timeout, sender=self.refs.get(name))
        except AskError as error:
            outcome = error
        except BaseException as error:
            outcome = error
            raise
        finally:
            self.open_questions.discard(parcel.number)
            self.write(What.SETTLED, to, parcel.number, outcome)

    def keep(self, promise: Promise) -> None:
        """Give a reply that was left for later."""
        error = Mishap(promise.number, Directive.RESTART)
        reply = (promise.number, self._next_number())
        if promise.asked:
            self.write(
                What.REPLIED, promise.actor, promise.number, error if promise.fails else reply
            )
        if promise.fails:
            promise.reply.fail(error)
        else:
            promise.reply.send(reply)

    def reply_now(self, actor: str, number: int, life: int) -> tuple[int, int]:
        """Make the reply that a handler returns, which no other reply is like."""
        reply = (number, self._next_number())
        self.write(What.REPLIED, actor, number, reply, life)
        return reply

    def set_timer(self, actor: str, deed: worlds.SetTimer, life: int) -> Parcel:
        """Make the message of a timer, which has a number of its own."""
        parcel = Parcel(self._next_number(), deed.message)
        setting = Setting(deed.key, deed.seconds, deed.mode)
        self.write(What.SET, actor, parcel.number, setting, life)
        return parcel

    def _offer(
        self,
        way: str,
        name: str,
        to: str,
        message: Message,
        deadline: float,
        within: int | None,
    ) -> Parcel:
        parcel = Parcel(self._next_number(), message, asked=way == "ask")
        offer = Offer(way, name, message.key, deadline, within)
        self.write(What.OFFERED, to, parcel.number, offer)
        return parcel


class Player(Actor[Parcel]):
    """One incarnation of an actor, which does what its messages say."""

    def __init__(self, stage: Stage, name: str, role: Role) -> None:
        self.stage = stage
        self.name = name
        self.role = role
        self.stashed = False  # the message in its hands
        self.number = 0

    def write(self, what: What, number: int = 0, detail: Any = None) -> None:
        self.stage.write(what, self.name, number, detail, self.ctx.incarnation)

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx
        self.write(What.STARTING, detail=cause)
        how = What.NOT_STARTED
        try:
            await trio.sleep(self.role.start)
            self.crash_point("started")
            how = What.STARTED
        finally:
            self.write(how)

    async def receive(self, parcel: Parcel) -> object:
        return await self.handle(parcel)

    async def receive_instead(self, parcel: Parcel) -> object:
        return await self.handle(parcel)

    async def handle(self, parcel: Parcel) -> object:
        self.number = parcel.number
        self.stashed = False
        self.write(What.TAKEN, parcel.number)
        try:
            self.crash_point("message")
            for deed in parcel.message.deeds:
                await self.do(deed, parcel)
        except BaseException as error:
            self.write(What.BROKEN_OFF, parcel.number, error)
            raise
        if self.stashed:
            self.write(What.KEPT, parcel.number)
            return None
        reply = None
        if parcel.asked and parcel.number not in self.stage.promised:
            reply = self.stage.reply_now(self.name, parcel.number, self.ctx.incarnation)
        self.write(What.DONE, parcel.number)
        return reply

    async def on_signal(self, signal: Signal) -> None:
        self.write(What.SIGNAL, detail=signal)
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self.write(What.SIGNAL_OVER)

    async def stopped(self, reason: ExitReason) -> None:
        self.write(What.STOPPING, detail=reason)
        try:
            await trio.sleep(self.role.farewell)
            self.crash_point("stopped")
        finally:
            self.write(What.STOPPED)

    async def do(self, deed: worlds.Deed, parcel: Parcel) -> None:
        number, ctx = parcel.number, self.ctx
        match deed:
            case worlds.Fail(directive, errors):
                mishaps = [self.mishap(number, directive) for _ in range(errors)]
                raise mishaps[0] if errors == 1 else ExceptionGroup("mishaps", mishaps)
            case worlds.FailBeside(after):
                ctx.nursery.start_soon(self.fail_beside, number, after)
            case worlds.Stash():
                self.stash(number)
            case worlds.Unstash():
                self.write(What.UNSTASHED, detail=len(load_of(ctx.self).stash))
                ctx.unstash_all()
            case worlds.Become(other):
                (ctx.become(self.receive_instead) if other else ctx.unbecome())
            case worlds.SetTimer(key, seconds, mode, _):
                tick = self.stage.set_timer(self.name, deed, ctx.incarnation)
                if mode is None:
                    ctx.timers.start_single(key, tick, seconds)
                else:
                    ctx.timers.start_periodic(key, tick, seconds, mode)
            case worlds.CancelTimer(key):
                self.write(What.UNSET, detail=key)
                ctx.timers.cancel(key)
            case worlds.ReplyLater(after, times, fails):
                self.reply_later(parcel, after, times, fails)
            case worlds.Watch(to):
                whom = self.stage.other(self.name, to)
                if whom != self.name:
                    self.write(What.WATCHES, detail=whom)
                    ctx.watch(self.stage.refs[whom])
            case _:
                await self.stage.do(self.name, deed, number)

    def stash(self, number: int) -> None:
        if self.stashed or self.stage.stashes[number] == ENOUGH:
            return  # there is nothing in its hands, or it would go on for ever
        self.stage.stashes[number] += 1
        try:
            self.ctx.stash()
        except StashFull:
            self.write(What.STASH_FULL, number)
        else:
            self.stashed = True
            self.write(What.STASHED, number)

    def reply_later(self, parcel: Parcel, after: float | None, times: int, fails: bool) -> None:
        stage = self.stage
        asked = parcel.asked and parcel.number not in stage.promised and not self.stashed
        promise = Promise(self.name, parcel.number, self.ctx.reply_later(), fails, asked)
        if asked:
            stage.promised.add(parcel.number)
            self.write(What.PROMISED, parcel.number)
        if after is None:
            stage.promises.append(promise)
        else:
            self.ctx.nursery.start_soon(self.keep_later, promise, after, times)

    async def keep_later(self, promise: Promise, after: float, times: int) -> None:
        for _ in range(times):
            await trio.sleep(after)
            self.stage.keep(promise)

    async def fail_beside(self, number: int, after: float) -> None:
        await trio.sleep(after)
        raise self.mishap(number, Directive.RESTART)

    def mishap(self, number: int, directive: Directive) -> Mishap:
        """Make an error that is about to be raised."""
        error = Mishap(number, directive)
        self.write(What.RAISED, number, error)
        return error

    def crash_point(self, where: str) -> None:
        try:
            crash_point(f"{self.name} {where}")
        except Exception as error:
            self.write(What.RAISED, detail=error)
            raise


def spec_of(role: Role, name: str, stage: Stage) -> ChildSpec:
    """Give the spec of an actor."""
    coalesces = role.overflow is Overflow.COALESCE
    return ChildSpec(
        name,
        lambda: Player(stage, name, role),
        restart=role.restart,
        shutdown=role.shutdown,
        mailbox=Lane(role.capacity, role.overflow, key_of if coalesces else None),
        on_failure=on_failure,
        in_flight=role.in_flight,
        backoff=Backoff(role.pause, role.pause, jitter=0) if role.pause else None,
        drain=role.drain,
        stash_capacity=role.stash_capacity,
    )


def perform(world: World, plan: Plan) -> Record:
    """Play a world as a plan says, and give its record, which a failing test shows."""
    stage = Stage(world)
    stage.record.plan = plan
    logging.disable()
    try:
        simulate(stage.play, plan=plan, max_steps=5000)
    finally:
        logging.disable(logging.NOTSET)
        if hypothesis.currently_in_test_context():
            hypothesis.note(stage.record)  # written out only if it is needed
    return stage.record


def perform_aloud(world: World, plan: Plan) -> str:
    """Play a world as a plan says, and give the trace of all that happened."""
    logging.disable()
    try:
        stage = Stage(world, aloud=True)
        return simulate(stage.play, plan=plan, max_steps=5000).trace
    finally:
        logging.disable(logging.NOTSET)


def _bad_subscriber(letter: DeadLetter) -> None:
    raise RuntimeError("a subscriber to dead letters that fails")
