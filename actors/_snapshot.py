"""A picture of a tree of actors at one moment: who is there, how they are, what they wait for.

Taken in one step and made of plain values, so that it can be kept, sent and printed. Taking
it changes nothing, but takes time: about 40 us for each actor, in which none of them runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import trio

from ._cell import Cell, Phase
from ._commons import Commons
from ._ends import ActorEnd, words_for
from ._envelopes import Notice
from ._inbox import Inbox
from ._lanes import MESSAGES, LaneCounts
from ._supervisor import Supervisor
from ._timers import Timer
from ._waits import what_it_waits_for

_NO_MESSAGES: Final = LaneCounts(0, 0, 0, 0, 0)


@final
@dataclass(frozen=True, slots=True)
class ActorSnapshot:
    """One actor, with those below it.

    Args:
        path: where it is in the tree.
        uid: its number.
        kind: the name of its class; None while no incarnation lives.
        phase: "new", "starting", "running", "restarting", "stopping", "stuck" or "ended".
        incarnation: how often it was started before, which is how often it was restarted.
        depth: messages in its mailbox.
        stashed: messages in its stash.
        capacity: messages that its mailbox holds; None for any number.
        taken: messages that it took out of the mailbox so far.
        refused: messages that the mailbox did not let in.
        handling: the type of the message or signal in its hands, if there is one.
        waits_for: what it waits for, in words, if that can be told.
        last_cause: why the incarnation before this one ended, in words; None for the first.
        stopping_since: seconds since it was asked to stop, if it was.
        restarts_in: seconds until it starts again, while its backoff lasts.
        children: those that it supervises, or that it spawned, in the order of their start.
    """

    path: str
    uid: int
    kind: str | None
    phase: str
    incarnation: int
    depth: int
    stashed: int
    capacity: int | None
    taken: int
    refused: int
    handling: str | None
    waits_for: str | None
    last_cause: str | None
    stopping_since: float | None
    restarts_in: float | None
    children: tuple["ActorSnapshot", ...]

    def walk(self) -> Iterator["ActorSnapshot"]:
        """Give this one and all below it, each before those below it."""
        # Without recursion, as in all of this module: a tree may be deeper than Python's stack.
        to_come = [self]
        while to_come:
            actor = to_come.pop()
            yield actor
            to_come.extend(reversed(actor.children))

    @property
    def id(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        parts = [self.id, self.kind or "?", self._phase_in_words()]
        if self.last_cause is not None:
            times = "once" if self.incarnation == 1 else f"{self.incarnation} times"
            parts.append(f"restarted {times}, the last after {self.last_cause}")
        if self.depth or self.taken or self.refused or self.stashed:
            room = "" if self.capacity is None else f" of {self.capacity}"
            lost = f", {self.refused} refused" if self.refused else ""
            kept = f", {self.stashed} stashed" if self.stashed else ""
            parts.append(f"mailbox {self.depth}{room}, {self.taken} taken{lost}{kept}")
        if self.handling is not None:
            parts.append(f"handles {self.handling}")
        if self.waits_for is not None and self.restarts_in is None:
            parts.append(f"waits for {self.waits_for}")
        return "  ".join(parts)

    def _phase_in_words(self) -> str:
        if self.restarts_in is not None:
            return f"restarting in {self.restarts_in:.1f} s"
        if self.stopping_since is not None:
            return f"{self.phase} for {self.stopping_since:.1f} s"
        return self.phase


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """All actors of a system at one moment; `str()` draws them as a tree.

    Args:
        root: the supervisor at the top, with all below it.
        at: when it was taken, on trio's clock; None outside of `trio.run`.
        dead_letters: how many there were so far, by the reason of the loss.
        ended: the latest actors that ended for good and abnormally, the last one last.
    """

    root: ActorSnapshot
    at: float | None
    dead_letters: dict[str, int]
    ended: tuple[ActorEnd, ...]

    def walk(self) -> Iterator[ActorSnapshot]:
        """Give all actors, each before those below it."""
        return self.root.walk()

    def find(self, path: str) -> ActorSnapshot | None:
        """Give the actor at a path, if there is one."""
        return next((actor for actor in self.walk() if actor.path == path), None)

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as dictionaries, lists, texts and numbers, for JSON."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def __str__(self) -> str:
        lines = [str(self.root), *_branches(self.root)]
        count = sum(self.dead_letters.values())
        by_loss = ", ".join(
            f"{number} {loss.replace('_', ' ')}" for loss, number in self.dead_letters.items()
        )
        lines.append(f"dead letters: {count}" + (f" ({by_loss})" if by_loss else ""))
        if self.ended:
            lines.append("ended abnormally, the last one last:")
            lines += [f"  {self._ago(end)}{end}" for end in self.ended]
        return "\n".join(lines)

    def _ago(self, end: ActorEnd) -> str:
        if self.at is None or end.at is None:
            return ""
        return f"{self.at - end.at:.1f} s ago  "


def take_snapshot(root: Cell, commons: Commons) -> Snapshot:
    """Take a picture of the actors from `root` down."""
    now = trio.current_time() if trio.lowlevel.in_trio_run() else None
    return Snapshot(
        root=_pictures_of(root, now),
        at=now,
        dead_letters={
            loss.name.lower(): number for loss, number in commons.dead_letters.by_loss.items()
        },
        ended=tuple(commons.ended),
    )


def _pictures_of(root: Cell, now: float | None) -> ActorSnapshot:
    tree = [(root, children_of(root))]
    for _, children in tree:
        tree.extend((child, children_of(child)) for child in children)
    pictures: dict[int, ActorSnapshot] = {}
    for cell, children in reversed(tree):  # those below come before those above
        below = tuple(pictures.pop(child.uid) for child in children)
        pictures[cell.uid] = _picture_of(cell, below, now)
    return pictures[root.uid]


def _picture_of(
    cell: Cell, children: tuple[ActorSnapshot, ...], now: float | None
) -> ActorSnapshot:
    inbox, actor = cell.inbox, cell.actor
    counts = _NO_MESSAGES if inbox is None else inbox.mailbox.counts(MESSAGES)
    ending = cell.ending
    since = None if ending is None or now is None else now - ending.since
    pausing = now is not None and actor is None and cell.phase is Phase.STARTING
    return ActorSnapshot(
        path=cell.path,
        uid=cell.uid,
        kind=None if actor is None else type(actor).__qualname__,
        phase=_phase_of(cell),
        incarnation=cell.incarnation,
        depth=counts.waiting,
        stashed=0 if inbox is None else len(inbox._stash or ()),
        capacity=cell.spec.mailbox.capacity,
        taken=counts.taken,
        refused=counts.refused,
        handling=None if inbox is None else _in_hands(inbox),
        waits_for=what_it_waits_for(cell, now),
        last_cause=None if cell.cause is None else words_for(cell.cause),
        stopping_since=since,
        restarts_in=max(cell.resumes_at - now, 0) if pausing and now is not None else None,
        children=children,
    )


def _phase_of(cell: Cell) -> str:
    if cell.phase is Phase.ENDED:
        return "ended"
    if cell.stuck:
        return "stuck"
    if cell.ending is not None:
        return "stopping"
    if cell.phase is Phase.FAILED or (cell.phase is Phase.STARTING and cell.actor is None):
        return "restarting"
    return str(cell.phase.value)


def _in_hands(inbox: Inbox) -> str | None:
    item = inbox.in_flight
    if isinstance(item, Timer):
        item = item.message
    if isinstance(item, Notice):
        return "a signal"
    return None if item is None else type(item).__qualname__


def children_of(cell: Cell) -> list[Cell]:
    """Give the actors directly below one, those of `Context.spawn` below one that is no actor."""
    children: list[Cell] = []
    if isinstance(cell.actor, Supervisor):
        children += cell.actor._children.cells.values()
    if cell.companions is not None and cell.companions.household is not None:
        children.append(cell.companions.household.cell)
    return children


def _branches(root: ActorSnapshot) -> Iterator[str]:
    to_come = _twigs(root, "")
    while to_come:
        actor, indent, last = to_come.pop()
        yield f"{indent}{'└─ ' if last else '├─ '}{actor}"
        to_come += _twigs(actor, indent + ("   " if last else "│  "))


def _twigs(actor: ActorSnapshot, indent: str) -> list[tuple[ActorSnapshot, str, bool]]:
    """Give the children, the last one first, each with its indent and whether it is the last."""
    return [(child, indent, not place) for place, child in enumerate(reversed(actor.children))]


def _plain(value: Any) -> Any:
    """Do what `dataclasses.asdict` does, in less time and with lists for tuples."""
    match value:
        case ActorSnapshot():
            return _plain_tree(value)
        case ActorEnd() | Snapshot():
            return {name: _plain(getattr(value, name)) for name in value.__slots__}
        case tuple():
            return [_plain(each) for each in value]
        case dict():
            return dict(value)
        case _:
            return value


def _plain_tree(root: ActorSnapshot) -> dict[str, Any]:
    plain: dict[int, dict[str, Any]] = {}
    for actor in reversed(list(root.walk())):  # those below come before those above
        fields = {name: getattr(actor, name) for name in actor.__slots__}
        fields["children"] = [plain[id(child)] for child in actor.children]
        plain[id(actor)] = fields
    return plain[id(root)]
