"""Tests of the in-memory channel layer: its rules, and who may call it from where."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import async_to_sync
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import Lane, Mailbox
from greenroom.runtime import Message
from greenroom.runtime.layers import ChannelFull, InMemoryChannelLayer


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_message_goes_to_the_receiver_as_a_copy() -> None:
    layer = InMemoryChannelLayer()
    message = {"type": "chat.message", "tags": ["a"]}
    await layer.send("room", message)
    message["tags"].append("b")  # type: ignore[attr-defined]
    assert await layer.receive("room") == {"type": "chat.message", "tags": ["a"]}
    assert layer.channels == {}


def test_message_is_sent_even_when_nobody_awaits_what_send_returns() -> None:
    layer = InMemoryChannelLayer()
    layer.send("room", {"type": "chat.message"})
    assert layer.channels["room"].qsize() == 1


def test_what_send_returns_can_be_awaited_in_every_way() -> None:
    layer = InMemoryChannelLayer()

    async def main() -> None:
        await layer.send("room", {"type": "awaited"})
        await asyncio.create_task(layer.send("room", {"type": "task"}))
        await asyncio.gather(layer.send("room", {"type": "gathered"}))
        await asyncio.wait_for(layer.send("room", {"type": "waited"}), 1)

    asyncio.run(main())
    async_to_sync(layer.send)("room", {"type": "sync"})
    assert layer.channels["room"].qsize() == 5


async def test_trio_nursery_runs_send_as_a_task() -> None:
    layer = InMemoryChannelLayer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(layer.send, "room", {"type": "x"})
    assert layer.channels["room"].qsize() == 1


async def test_receive_waits_and_each_message_goes_to_one_receiver() -> None:
    layer = InMemoryChannelLayer()
    got: list[str] = []

    async def reader() -> None:
        got.append((await layer.receive("jobs"))["type"])

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        for name in ("a", "b", "c"):
            await layer.send("jobs", {"type": name})
    assert sorted(got) == ["a", "b", "c"]
    assert layer.channels == {}


def test_asyncio_receiver_cancelled_after_it_was_woken_leaves_the_message_to_the_next() -> None:
    layer = InMemoryChannelLayer()

    async def main() -> dict[str, Any]:
        first = asyncio.create_task(layer.receive("jobs"))
        second = asyncio.create_task(layer.receive("jobs"))
        await asyncio.sleep(0)
        layer.send("jobs", {"type": "a"})
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await asyncio.wait_for(second, 10)

    assert asyncio.run(main()) == {"type": "a"}
    assert layer.channels == {}


async def test_receiver_that_is_cancelled_is_forgotten() -> None:
    layer = InMemoryChannelLayer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(layer.receive, "jobs")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    layer.send("jobs", {"type": "a"})
    assert await layer.receive("jobs") == {"type": "a"}


async def test_channel_that_somebody_receives_on_can_be_found_by_its_name() -> None:
    layer = InMemoryChannelLayer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(layer.receive, "specific.x!y")
        await trio.testing.wait_all_tasks_blocked()
        assert list(layer.channels) == ["specific.x!y"]
        nursery.cancel_scope.cancel()
    assert layer.channels == {}


def test_asyncio_task_receives_what_another_thread_sends() -> None:
    layer = InMemoryChannelLayer()

    async def main() -> dict[str, Any]:
        receiving = asyncio.create_task(layer.receive("room"))
        await asyncio.sleep(0)  # it waits now
        thread = threading.Thread(target=async_to_sync(layer.send), args=("room", {"type": "x"}))
        thread.start()
        message = await receiving
        thread.join()
        return message

    assert asyncio.run(main()) == {"type": "x"}
    assert layer.channels == {}


async def test_trio_task_receives_what_another_thread_sends() -> None:
    layer = InMemoryChannelLayer()
    mailbox = Mailbox(Lane())
    subscription = layer.subscribe("subscribed", mailbox)
    got: list[Any] = []

    async def reader() -> None:
        got.append(await layer.receive("room"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(layer.send, "room", {"type": "x"})
        await trio.to_thread.run_sync(layer.send, "subscribed", {"type": "y"})
        got.append(await mailbox.get())
    subscription.close()
    assert got == [{"type": "x"}, {"type": "y"}] or got == [{"type": "y"}, {"type": "x"}]


def in_a_thread(fn: Callable[..., object], *args: object) -> None:
    """Call it in a thread to its end, while the caller's loop stands still."""
    thread = threading.Thread(target=fn, args=args)
    thread.start()
    thread.join()


async def test_messages_of_other_threads_count_while_they_are_on_their_way() -> None:
    layer = InMemoryChannelLayer(capacity=3)
    mailbox = Mailbox(Lane())
    layer.subscribe("c", mailbox)
    refused: list[int] = []

    def burst() -> None:
        for number in range(5):
            try:
                async_to_sync(layer.send)("c", {"type": "x", "number": number})
            except ChannelFull:
                refused.append(number)

    in_a_thread(burst)
    assert refused == [3, 4]
    assert layer.channels["c"].qsize() == 3
    assert [(await mailbox.get())["number"] for _ in range(3)] == [0, 1, 2]
    assert layer.channels["c"].empty()
    layer.send("c", {"type": "x", "number": 5})  # there is room again
    assert (await mailbox.get())["number"] == 5


async def test_message_sent_after_that_of_another_thread_comes_after_it() -> None:
    layer = InMemoryChannelLayer()
    mailbox = Mailbox(Lane())
    layer.subscribe("c", mailbox)
    in_a_thread(layer.send, "c", {"type": "first"})
    layer.send("c", {"type": "second"})
    in_a_thread(layer.send, "c", {"type": "third"})
    assert [(await mailbox.get())["type"] for _ in range(3)] == ["first", "second", "third"]


def test_loops_in_several_threads_share_a_layer() -> None:
    layer = InMemoryChannelLayer()
    receiving = threading.Barrier(3)
    got: list[Any] = []

    async def receive(name: str) -> None:
        await layer.group_add("g", name)
        task = asyncio.ensure_future(layer.receive(name))
        await asyncio.sleep(0)
        receiving.wait()
        got.append(await task)

    threads = [threading.Thread(target=asyncio.run, args=(receive(name),)) for name in "ab"]
    for thread in threads:
        thread.start()
    receiving.wait()
    asyncio.run(_send_to_group(layer))
    for thread in threads:
        thread.join()
    assert got == [{"type": "x"}, {"type": "x"}]


async def _send_to_group(layer: InMemoryChannelLayer) -> None:
    await layer.group_send("g", {"type": "x"})


def test_send_after_the_receivers_run_has_ended_finds_a_queue() -> None:
    layer = InMemoryChannelLayer()

    async def main() -> None:
        with trio.move_on_after(0):
            await layer.receive("room")

    trio.run(main)
    layer.send("room", {"type": "x"})
    assert asyncio.run(layer.receive("room")) == {"type": "x"}


async def test_full_channel_refuses_and_a_group_goes_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = InMemoryChannelLayer(capacity=2)
    await layer.group_add("g", "slow")
    await layer.group_add("g", "quick")
    for _ in range(2):
        await layer.send("slow", {"type": "x"})
    with pytest.raises(ChannelFull, match="slow"):
        await layer.send("slow", {"type": "x"})
    with caplog.at_level("INFO", "greenroom.layers"):
        await layer.group_send("g", {"type": "y"})
    assert await layer.receive("quick") == {"type": "y"}
    assert caplog.messages == ["1 of 2 channels over capacity in group g"]


async def test_capacity_by_channel_name_takes_globs_in_order() -> None:
    layer = InMemoryChannelLayer(capacity=1, channel_capacity={"big.*": 3, "*": 2})
    assert [layer.get_capacity(name) for name in ("big.one", "other")] == [3, 2]
    await layer.send("other", {"type": "x"})
    await layer.send("other", {"type": "x"})
    with pytest.raises(ChannelFull):
        await layer.send("other", {"type": "x"})


async def test_expired_message_is_dropped_and_its_channel_leaves_its_groups() -> None:
    clock = Clock()
    layer = InMemoryChannelLayer(expiry=60, clock=clock)
    await layer.group_add("g", "gone")
    await layer.send("gone", {"type": "x"})
    clock.now += 59
    await layer.group_send("g", {"type": "y"})
    assert layer.channels["gone"].qsize() == 2
    clock.now += 1
    await layer.group_send("other", {"type": "z"})
    assert layer.channels["gone"].qsize() == 1
    assert layer.groups == {}
    clock.now += 60
    await layer.group_send("other", {"type": "z"})
    assert layer.channels == {}


async def test_message_that_nobody_took_in_time_takes_nobodys_place() -> None:
    clock = Clock()
    layer = InMemoryChannelLayer(expiry=60, capacity=1, clock=clock)
    await layer.send("c", {"type": "old"})
    clock.now += 59
    with pytest.raises(ChannelFull):
        await layer.send("c", {"type": "early"})
    clock.now += 2
    await layer.send("c", {"type": "new"})
    assert await layer.receive("c") == {"type": "new"}


async def test_test_that_looks_into_a_channel_can_take_what_waits_there() -> None:
    clock = Clock()
    layer = InMemoryChannelLayer(expiry=60, clock=clock)
    layer.subscribe("subscribed", Mailbox(Lane()))
    await layer.send("queued", {"type": "x"})
    await layer.send("subscribed", {"type": "y"})
    queued = layer.channels["queued"]
    assert queued.get_nowait() == (1060.0, {"type": "x"})
    assert layer.channels["subscribed"].get_nowait()[1] == {"type": "y"}
    with pytest.raises(asyncio.QueueEmpty):
        queued.get_nowait()
    with pytest.raises(asyncio.QueueEmpty):
        layer.channels["subscribed"].get_nowait()


async def test_membership_ends_after_group_expiry_unless_its_reader_is_subscribed() -> None:
    clock = Clock()
    layer = InMemoryChannelLayer(group_expiry=100, clock=clock)
    mailbox = Mailbox(Lane())
    layer.subscribe("alive", mailbox)
    await layer.group_add("g", "alive")
    await layer.group_add("g", "old")
    clock.now += 101
    await layer.group_send("g", {"type": "x"})
    assert list(layer.groups["g"]) == ["alive"]
    assert mailbox.get_nowait() == {"type": "x"}


async def test_last_discard_deletes_the_group_and_a_group_without_channels_takes_all() -> None:
    layer = InMemoryChannelLayer()
    await layer.group_add("g", "a")
    await layer.group_discard("g", "a")
    await layer.group_discard("g", "a")
    await layer.group_send("g", {"type": "x"})
    assert layer.groups == {}
    assert layer.channels == {}


async def test_flush_forgets_messages_and_groups() -> None:
    layer = InMemoryChannelLayer()
    await layer.send("a", {"type": "x"})
    await layer.group_add("g", "a")
    await layer.flush()
    await layer.close()
    assert (layer.channels, layer.groups) == ({}, {})


async def test_subscribed_mailbox_gets_what_waits_and_what_comes_up_to_the_capacity() -> None:
    layer = InMemoryChannelLayer(capacity=3)
    mailbox = Mailbox(Lane(), Lane())
    layer.send("c", {"type": "before"})
    subscription = layer.subscribe("c", mailbox, 1)
    layer.send("c", {"type": "after"})
    layer.send("c", {"type": "last"})
    assert layer.channels["c"].qsize() == mailbox.depth(1) == 3
    with pytest.raises(ChannelFull):
        layer.send("c", {"type": "too many"})
    assert [mailbox.get_nowait_from(1)["type"] for _ in range(3)] == ["before", "after", "last"]
    with pytest.raises(ValueError, match="has a subscription already"):
        layer.subscribe("c", mailbox, 1)
    subscription.close()
    subscription.close()
    assert layer.channels == {}


async def test_lane_of_a_subscription_holds_what_the_layer_allows() -> None:
    layer = InMemoryChannelLayer(channel_capacity={"big": 300})
    mailbox = Mailbox(Lane(capacity=100))
    layer.subscribe("big", mailbox)
    for _ in range(300):
        await layer.send("big", {"type": "x"})
    with pytest.raises(ChannelFull):
        await layer.send("big", {"type": "x"})


async def test_subscribed_channel_leaves_nothing_to_receive() -> None:
    layer = InMemoryChannelLayer()
    subscription = layer.subscribe("a", Mailbox(Lane()))
    with pytest.raises(RuntimeError, match="nothing can be received from 'a'"):
        await layer.receive("a")
    subscription.close()
    await layer.send("a", {"type": "x"})
    assert await layer.receive("a") == {"type": "x"}


class Counting(InMemoryChannelLayer):
    """A layer of a project, which does something of its own with each message."""

    def __init__(self) -> None:
        super().__init__(capacity=1)
        self.sent: list[str] = []

    async def send(self, channel: str, message: Message) -> None:  # type: ignore[override]
        self.sent.append(channel)
        await super().send(channel, message)


async def test_subclass_sends_each_message_of_a_group_in_its_own_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "greenroom.layers")
    layer = Counting()
    for name in "ab":
        await layer.group_add("g", name)
    await layer.group_send("g", {"type": "x"})
    await layer.receive("a")
    await layer.group_send("g", {"type": "x"})
    assert layer.sent == ["a", "b", "a", "b"]
    assert caplog.messages == ["1 of 2 channels over capacity in group g"]


async def test_channel_leaves_its_groups_when_its_subscription_ends() -> None:
    layer = InMemoryChannelLayer()
    subscription = layer.subscribe("c", Mailbox(Lane()))
    await layer.group_add("g", "c")
    await layer.group_add("h", "c")
    await layer.group_add("h", "other")
    subscription.close()
    assert {group: list(members) for group, members in layer.groups.items()} == {"h": ["other"]}


async def test_new_channel_names_are_valid_and_differ() -> None:
    layer = InMemoryChannelLayer()
    names = {await layer.new_channel() for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("specific..inmemory!") for name in names)
    assert (await layer.new_channel("worker")).startswith("worker.inmemory!")
    assert layer.valid_channel_names(names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_does_not_reach_the_parents_readers() -> None:
    layer = InMemoryChannelLayer()

    async def main() -> int:
        layer.subscribe("c", Mailbox(Lane()))
        child = os.fork()
        if child == 0:
            layer.send("c", {"type": "x"})  # into a queue of its own
            os._exit(0 if layer.channels["c"].qsize() == 1 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222

    assert trio.run(main) == 0


def _use(layer: InMemoryChannelLayer) -> None:
    layer.sync.group_add("g", "a")
    async_to_sync(layer.group_send)("g", {"type": "x"})
    assert asyncio.run(layer.receive("a")) == {"type": "x"}
    trio.run(layer.group_send, "g", {"type": "y"})
    assert trio.run(layer.receive, "a") == {"type": "y"}
    assert "parent" not in layer.channels


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_layer_works_in_a_child_that_was_forked_while_a_thread_held_its_lock() -> None:
    layer = InMemoryChannelLayer()
    layer.send("parent", {"type": "x"})
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with layer._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = multiprocessing.get_context("fork").Process(target=_use, args=(layer,))
    child.start()
    child.join()
    done.set()
    thread.join()
    assert child.exitcode == 0
    assert layer.channels["parent"].qsize() == 1


# Few names and a small capacity, so that channels fill and groups overlap.
names = st.sampled_from(["a", "b", "c"])
groups = st.sampled_from(["g", "h"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), names),
        st.tuples(st.just("group_add"), groups, names),
        st.tuples(st.just("group_discard"), groups, names),
        st.tuples(st.just("group_send"), groups),
        st.tuples(st.just("receive"), names),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 3), st.sets(names))
def test_layer_does_what_a_dict_of_lists_does(
    operations: list[tuple[str, ...]], capacity: int, subscribed: set[str]
) -> None:
    queues: dict[str, list[int]] = {name: [] for name in "abc"}
    members: dict[str, set[str]] = {"g": set(), "h": set()}
    layer = InMemoryChannelLayer(capacity=capacity)

    async def main() -> None:
        mailboxes = {name: Mailbox(Lane()) for name in subscribed}
        for name, mailbox in mailboxes.items():
            layer.subscribe(name, mailbox)
        for number, (operation, *arguments) in enumerate(operations):
            message = {"type": "x", "number": number}
            match operation:
                case "send" if len(queues[arguments[0]]) == capacity:
                    with pytest.raises(ChannelFull):
                        await layer.send(arguments[0], message)
                case "send":
                    await layer.send(arguments[0], message)
                    queues[arguments[0]].append(number)
                case "group_add":
                    await layer.group_add(*arguments)
                    members[arguments[0]].add(arguments[1])
                case "group_discard":
                    await layer.group_discard(*arguments)
                    members[arguments[0]].discard(arguments[1])
                case "group_send":
                    await layer.group_send(arguments[0], message)
                    for name in members[arguments[0]]:
                        if len(queues[name]) < capacity:
                            queues[name].append(number)
                case "receive" if queues[arguments[0]]:
                    name = arguments[0]
                    got = (
                        mailboxes[name].get_nowait()
                        if name in mailboxes
                        else await layer.receive(name)
                    )
                    assert got["number"] == queues[name].pop(0)
        for name, queue in queues.items():
            waiting = layer.channels[name].qsize() if name in layer.channels else 0
            assert waiting == len(queue)
        assert {group: set(names) for group, names in layer.groups.items()} == {
            group: names for group, names in members.items() if names
        }

    trio.run(main)
