"""Which groups the channels of this process are in, on layers of others.

The server of such a layer knows it; one that keeps nothing over a restart has forgotten it,
and `_rejoins.py` then tells it anew. So `group_add`, `group_discard` and `flush` of a layer
object are covered by functions that do the same, and note what they were asked for:

    group_add has returned, or still runs    the channel is in the group
    group_add has raised                     it is not, if it was not before
    group_discard was called                 it is not, though the server could not be told
    flush has returned                       no channel is in any group

Only channels that somebody waits for here are noted, for as long as somebody does.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from inspect import CO_COROUTINE, isfunction
from threading import RLock
from types import MethodType
from typing import Any, Final, final

from ._layer_failures import is_mistake

Method = Callable[..., Awaitable[Any]]

OURS: Final = "_greenroom_memberships"  # the attribute of a layer that is covered

_lock = RLock()  # for a moment; a finalizer may need it in the thread that holds it


@final
class Wish:
    """What somebody has asked for: that a channel is in a group, or that it is not."""

    __slots__ = ("joined",)

    def __init__(self, joined: bool) -> None:
        self.joined = joined


@final
class Member:
    """A channel that somebody waits for, and what was asked for by group.

    One that is not to be in a group is noted only where the server may not know it yet.
    """

    __slots__ = ("channel", "readers", "wishes")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.readers = 0
        self.wishes: dict[str, Wish] = {}

    def groups(self) -> list[str]:
        """Give the groups that the server may have to be told of."""
        with _lock:
            return list(self.wishes)


@final
class Memberships:
    """The members of one layer's groups, as far as they live in this process; for all threads."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._members: dict[str, Member] = {}

    def open(self, channel: str) -> Member:
        """Learn that somebody waits for the messages of `channel`."""
        with _lock:
            member = self._members.get(channel)
            if member is None:
                member = self._members[channel] = Member(channel)
            member.readers += 1
            return member

    def close(self, member: Member) -> None:
        """Learn that one of those no longer waits."""
        with _lock:
            member.readers -= 1
            if not member.readers:
                del self._members[member.channel]
                member.wishes.clear()

    def clear(self) -> None:
        """Learn that there is no group any more."""
        with _lock:
            for member in self._members.values():
                member.wishes.clear()

    @contextmanager
    def asking(self, member: Member, group: str, *, joined: bool) -> Iterator[None]:
        """Note what the layer is asked for in the block."""
        wish = Wish(joined)
        with _lock:
            before = member.wishes.get(group)
            member.wishes[group] = wish
        try:
            yield
        except BaseException as error:
            mistake = is_mistake(error)
            with _lock:
                wish.joined = False
                # In another thread somebody may have asked for something else meanwhile.
                if member.wishes.get(group) is wish and (joined or mistake):
                    if before is not None:
                        member.wishes[group] = before
                    elif mistake:
                        del member.wishes[group]
            raise
        if not joined:
            self.forget(member, group, wish)

    def forget(self, member: Member, group: str, wish: Wish | None) -> None:
        """Let nothing be noted of a group, unless it is something newer than `wish`."""
        with _lock:
            if wish is not None and member.wishes.get(group) is wish:
                del member.wishes[group]

    def asking_with(self, args: Any, kwargs: Any, *, joined: bool) -> Any:
        """Give what notes a call with these arguments; nothing, of others' channels."""
        group, channel = _names(*args, **kwargs)
        member = self._members.get(channel) if isinstance(channel, str) else None
        if member is None or not isinstance(group, str):
            return nullcontext()
        return self.asking(member, group, joined=joined)

    async def settle(self, member: Member, group: str, here: Callable[[Method], Method]) -> None:
        """Tell the server whether `member` is in `group`, if that was asked for.

        What is asked for meanwhile counts: it may have reached the server before.

        Args:
            member: one whose messages somebody waits for.
            group: one that was asked for.
            here: makes a method of the layer such that it can be awaited here.
        """
        wish = member.wishes.get(group)
        if wish is None:
            return
        while True:
            joined = wish is not None and wish.joined
            method = _uncovered(self._layer, "group_add" if joined else "group_discard")
            await here(method)(group, member.channel)
            if not joined:
                self.forget(member, group, wish)
            wish = member.wishes.get(group)
            if joined is (wish is not None and wish.joined):
                return


def memberships_of(layer: Any) -> Memberships | None:
    """Give what `layer` is covered with, from now on if it was not; None if it can't be.

    It can if its class defines the methods by `async def`, and the object, which a test may
    have patched, nothing else in their place. Unless they were bound before, all
    calls in this process are noted then: whoever has the layer has this very object.
    """
    kind = type(layer)
    if not kind.__dictoffset__:
        return None
    attributes = vars(layer)

    def defined(name: str) -> bool:
        method = getattr(kind, name, None)
        if not isfunction(method) or name in attributes:
            return False
        return bool(method.__code__.co_flags & CO_COROUTINE)

    with _lock:
        ours: Memberships | None = attributes.get(OURS)
        if ours is None and defined("group_add") and defined("group_discard"):
            ours = attributes[OURS] = Memberships(layer)
            for name, cover in COVERS.items():
                if defined(name):
                    attributes[name] = MethodType(cover(ours, name, getattr(kind, name)), layer)
        return ours


def _noting_group(ours: Memberships, name: str, original: Method) -> Method:
    @wraps(original)
    async def noting(layer: Any, *args: Any, **kwargs: Any) -> Any:
        with ours.asking_with(args, kwargs, joined=name == "group_add"):
            return await _uncovered(layer, name)(*args, **kwargs)

    return noting


def _noting_flush(ours: Memberships, name: str, original: Method) -> Method:
    @wraps(original)
    async def noting(layer: Any, *args: Any, **kwargs: Any) -> Any:
        result = await _uncovered(layer, name)(*args, **kwargs)
        ours.clear()
        return result

    return noting


COVERS: Final = {
    "group_add": _noting_group,
    "group_discard": _noting_group,
    "flush": _noting_flush,
}


def _uncovered(layer: Any, name: str) -> Method:
    """Give what the class of `layer`, or somebody who patches that, has for a method."""
    attribute = getattr(type(layer), name)
    bind = getattr(type(attribute), "__get__", None)
    method: Method = attribute if bind is None else bind(attribute, layer, type(layer))
    return method


def _names(group: Any = None, channel: Any = None, *_: object, **__: object) -> tuple[Any, Any]:
    return group, channel


def _forget_other_process() -> None:
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_process)
