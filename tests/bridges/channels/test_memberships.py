"""Tests of what is noted of groups: of all that is asked for, and nobody can tell from outside."""

import asyncio
import copy
import inspect
import multiprocessing
import pickle
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest
import trio
import trio.testing
from asgiref.sync import async_to_sync
from asgiref.sync import iscoroutinefunction as is_for_asgiref
from hypothesis import given
from hypothesis import strategies as st

from greenroom.bridges.channels import _memberships
from greenroom.bridges.channels._layers_of_others import HostedLayer
from greenroom.bridges.channels._memberships import Member, Memberships, memberships_of
from greenroom.bridges.channels.layers import (
    BaseChannelLayer,
    InMemoryChannelLayer,
    SyncLayer,
    channel_layers,
)


class Remote(BaseChannelLayer):
    """A layer of somebody else: its server, and what that answers next."""

    def __init__(self) -> None:
        super().__init__()
        self.joined: set[tuple[str, str]] = set()
        self.error: BaseException | None = None

    async def group_add(self, group: str, channel: str) -> Any:
        """Add a channel to a group."""
        self.answer()
        self.joined.add((group, channel))
        return "added"

    async def group_discard(self, group: str, channel: str) -> Any:
        self.answer()
        self.joined.discard((group, channel))
        return "discarded"

    async def flush(self) -> None:
        self.answer()
        self.joined.clear()

    def answer(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


def covered(layer: Any) -> Memberships:
    ours = memberships_of(layer)
    assert ours is not None
    return ours


def as_it_is(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    return method


async def settle_all(ours: Memberships, member: Member) -> None:
    for group in member.groups():
        await ours.settle(member, group, as_it_is)


ERRORS = {
    "none": None,
    "outage": ConnectionError("refused"),
    "mistake": TypeError("no name of a group"),
    "cancelled": asyncio.CancelledError(),
}
calls = st.tuples(
    st.sampled_from(["group_add", "group_discard"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(list(ERRORS)),
)


@given(st.lists(calls, max_size=8))
def test_server_that_has_forgotten_everything_is_told_what_was_asked_for_in_vain_or_not(
    history: list[tuple[str, str, str]],
) -> None:
    async def main() -> None:
        remote = Remote()
        ours = covered(remote)
        member = ours.open("x")
        expected: set[str] = set()
        for name, group, error in history:
            remote.error = ERRORS[error]
            with suppress(ConnectionError, TypeError, asyncio.CancelledError):
                await getattr(remote, name)(group, "x")
            if name == "group_discard" and error != "mistake":
                expected.discard(group)
            elif name == "group_add" and error == "none":
                expected.add(group)
        remote.joined.clear()
        await settle_all(ours, member)
        assert remote.joined == {(group, "x") for group in expected}
        assert set(member.groups()) == expected  # nothing is kept of those that were left

    trio.run(main)


class Slow(Remote):
    """A layer that can be awaited in trio, whose server takes its time there and back."""

    def __init__(self, times: list[int]) -> None:
        super().__init__()
        self.times = times

    async def group_add(self, group: str, channel: str) -> None:
        await trio.sleep(self.times.pop() if self.times else 1)
        self.joined.add((group, channel))
        await trio.sleep(self.times.pop() if self.times else 1)

    async def group_discard(self, group: str, channel: str) -> None:
        await trio.sleep(self.times.pop() if self.times else 1)
        self.joined.discard((group, channel))
        await trio.sleep(self.times.pop() if self.times else 1)


@given(
    st.lists(st.tuples(st.sampled_from(["group_add", "group_discard"]), st.integers(0, 3))),
    st.lists(st.integers(0, 3), max_size=20),
    st.booleans(),
)
def test_what_is_asked_for_while_the_server_is_told_is_what_it_knows_in_the_end(
    history: list[tuple[str, int]], times: list[int], ends: bool
) -> None:
    async def main() -> None:
        remote = Slow(times)
        ours = covered(remote)
        member = ours.open("x")
        await remote.group_add("a", "x")
        remote.joined.clear()

        async def use() -> None:
            for name, pause in history:
                await trio.sleep(pause)
                await getattr(remote, name)("a", "x")
            if ends:
                await remote.group_discard("a", "x")
                ours.close(member)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            nursery.start_soon(settle_all, ours, member)
        stays = not ends and (not history or history[-1][0] == "group_add")
        assert remote.joined == ({("a", "x")} if stays else set())
        assert member.groups() == (["a"] if stays else [])

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_only_channels_that_somebody_waits_for_are_noted() -> None:
    remote = Remote()
    ours = covered(remote)
    member = ours.open("x")
    for number in range(1000):
        await remote.group_add("a", f"stranger.{number}")
    await remote.group_add("a", "x")
    assert list(ours._members) == ["x"]
    ours.close(member)
    assert (ours._members, member.groups()) == ({}, [])


async def test_channel_that_two_wait_for_is_noted_until_both_have_left() -> None:
    ours = covered(remote := Remote())
    first, second = ours.open("x"), ours.open("x")
    await remote.group_add("a", "x")
    ours.close(first)
    assert second.groups() == ["a"]
    ours.close(second)
    assert ours._members == {}


async def test_flush_ends_all_groups() -> None:
    ours = covered(remote := Remote())
    member = ours.open("x")
    await remote.group_add("a", "x")
    remote.error = ConnectionError("refused")
    with pytest.raises(ConnectionError):
        await remote.flush()
    assert member.groups() == ["a"]
    await remote.flush()
    assert member.groups() == []


async def test_layer_looks_and_acts_as_before() -> None:
    remote, plain = Remote(), Remote()
    ours = covered(remote)
    assert covered(remote) is ours
    assert type(remote) is Remote
    for name in ("group_add", "group_discard", "flush"):
        method, other = getattr(remote, name), getattr(plain, name)
        assert inspect.iscoroutinefunction(method)
        assert is_for_asgiref(method)
        assert inspect.ismethod(method)
        assert method.__self__ is remote
        assert (method.__name__, method.__doc__) == (other.__name__, other.__doc__)
        assert method.__qualname__ == other.__qualname__
        assert inspect.signature(method) == inspect.signature(other)
    ours.open("x")
    assert await remote.group_add("a", "x") == "added"
    assert await remote.group_add(group="b", channel="x") == "added"
    assert await remote.group_discard(channel="x", group="a") == "discarded"
    assert ours.open("x").groups() == ["b"]
    remote.error = error = ConnectionError("refused")
    with pytest.raises(ConnectionError) as raised:
        await remote.group_add("a", "x")
    assert raised.value is error
    with pytest.raises(TypeError, match="group_add"):
        await remote.group_add("a")  # type: ignore[call-arg]


async def test_everybody_who_has_the_layer_is_noted() -> None:
    class Sub(Remote):
        async def group_add(self, group: str, channel: str) -> Any:
            return await super().group_add(f"sub.{group}", channel)

    remote = Sub()
    channel_layers.set("default", remote)
    ours = covered(remote)
    member = ours.open("x")
    await remote.group_add("a", "x")
    await trio.to_thread.run_sync(SyncLayer(remote).group_add, "b", "x")
    await trio.to_thread.run_sync(async_to_sync(remote.group_add), "c", "x")
    await trio.to_thread.run_sync(remote.sync.group_add, "d", "x")
    assert member.groups() == ["a", "b", "c", "d"]
    assert remote.joined == {(f"sub.{group}", "x") for group in "abcd"}
    assert HostedLayer(remote).group_add.args[0] == remote.group_add


def test_methods_that_tests_patch_are_theirs_and_then_ours_again() -> None:
    remote = Remote()
    channel_layers.set("default", remote)
    member = covered(remote).open("x")
    with mock.patch.object(remote, "group_add") as patched:
        asyncio.run(remote.group_add("a", "x"))
    patched.assert_awaited_once_with("a", "x")
    assert (member.groups(), remote.joined) == ([], set())
    with mock.patch.object(Remote, "group_add") as patched:
        asyncio.run(remote.group_add("b", "x"))
    patched.assert_awaited_once_with("b", "x")
    with mock.patch.object(Remote, "group_add", autospec=True) as patched:
        asyncio.run(remote.group_add("c", "x"))
    patched.assert_awaited_once_with(remote, "c", "x")
    assert remote.joined == set()
    asyncio.run(remote.group_add("d", "x"))
    assert remote.joined == {("d", "x")}
    assert member.groups() == ["b", "c", "d"]


async def test_copy_of_a_layer_is_one_of_its_own() -> None:
    remote = Remote()
    member = covered(remote).open("x")
    for copied in (copy.deepcopy(remote), pickle.loads(pickle.dumps(remote))):
        await copied.group_add("a", "y")
        assert (remote.joined, copied.joined) == (set(), {("a", "y")})
    assert member.groups() == []


def test_what_is_no_plain_layer_of_somebody_else_is_left_as_it_is() -> None:
    class Slots:
        __slots__ = ()

        async def group_add(self, group: str, channel: str) -> None: ...
        async def group_discard(self, group: str, channel: str) -> None: ...

    class Forwards:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no running event loop")

    class Plain:
        def group_add(self, group: str, channel: str) -> None: ...
        def group_discard(self, group: str, channel: str) -> None: ...

    class Awaited(InMemoryChannelLayer):
        async def receive(self, channel: str) -> Any: ...

    class Mocked:
        group_add = mock.AsyncMock()
        group_discard = mock.AsyncMock()

    patched = Remote()
    patched.group_add = mine = mock.AsyncMock()  # type: ignore[method-assign]
    layers = [Slots(), Forwards(), Plain(), Awaited(), Mocked(), mock.AsyncMock(), patched, None]
    for layer in layers:
        channel_layers.set("default", layer)
        assert memberships_of(layer) is None
    assert patched.group_add is mine
    ours = InMemoryChannelLayer()
    channel_layers.set("default", ours)
    assert "group_add" not in vars(ours)


def test_threads_that_join_and_leave_at_once_are_all_noted() -> None:
    ours = covered(remote := Remote())
    members = [ours.open(str(number)) for number in range(8)]

    async def use(number: int) -> None:
        for group in range(200):
            await remote.group_add(str(group), str(number))
            if group % 2:
                await remote.group_discard(str(group), str(number))

    threads = [threading.Thread(target=asyncio.run, args=(use(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for member in members:
        assert member.groups() == [str(group) for group in range(0, 200, 2)]
        ours.close(member)


def test_child_process_need_not_wait_for_a_thread_of_its_parent() -> None:
    child = multiprocessing.get_context("fork").Process(target=covered, args=(Remote(),))
    with _memberships._lock:
        child.start()
    child.join()
    assert child.exitcode == 0
