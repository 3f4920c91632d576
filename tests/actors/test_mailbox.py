"""The mailbox against a model: lists, and every rule written out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import Delivery, Lane, Loss, Mailbox, Overflow

POLICIES = [Overflow.REJECT, Overflow.DROP_NEW, Overflow.DROP_OLDEST, Overflow.CLOSE]
lanes = st.one_of(
    st.builds(Lane, st.one_of(st.none(), st.integers(1, 3)), st.sampled_from(POLICIES)),
    st.builds(Lane, st.integers(1, 3), st.just(Overflow.COALESCE), st.just(lambda item: item[0])),
)
# What to do to a lane with a key; None takes one item.
verbs = st.sampled_from(["put", "put", "put", "put_soon", "seal"])
steps = st.lists(st.one_of(st.none(), st.tuples(verbs, st.sampled_from("abc"), st.integers(0, 1))))


class Model:
    """One lane, as plainly as it can be said."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.waiting: list[tuple[str, int]] = []
        self.blocked: list[tuple[str, int]] = []
        self.sealed = False
        self.accepted = self.refused = self.taken = 0
        self.lost: list[tuple[tuple[str, int], Loss]] = []

    def put(self, item: tuple[str, int]) -> Delivery:
        if self.sealed:
            return self._refuse(item, Loss.STOPPING, Delivery.STOPPING)
        if not self.full:
            return self._accept(item, Delivery.ACCEPTED)
        if self.lane.overflow is Overflow.DROP_OLDEST:
            self.lost.append((self.waiting.pop(0), Loss.DROPPED))
            return self._accept(item, Delivery.DROPPED_OLDEST)
        if self.lane.overflow is Overflow.COALESCE:
            for at, other in enumerate(self.waiting):
                if other[0] == item[0]:
                    self.lost.append((self.waiting.pop(at), Loss.COALESCED))
                    return self._accept(item, Delivery.COALESCED)
        loss, delivery = {
            Overflow.REJECT: (Loss.REJECTED, Delivery.REJECTED),
            Overflow.COALESCE: (Loss.REJECTED, Delivery.REJECTED),
            Overflow.DROP_NEW: (Loss.DROPPED, Delivery.DROPPED_NEW),
            Overflow.CLOSE: (Loss.OVERLOAD, Delivery.CLOSED),
        }[self.lane.overflow]
        return self._refuse(item, loss, delivery)

    def put_soon(self, item: tuple[str, int]) -> None:
        if self.full and not self.sealed:
            self.blocked.append(item)
        else:
            self.put(item)

    def seal(self, last: tuple[str, int]) -> None:
        if not self.sealed:
            self.sealed = True
            for item in self.blocked:
                self._refuse(item, Loss.STOPPING, Delivery.STOPPING)
            self.blocked.clear()
            self._accept(last, Delivery.ACCEPTED)

    def take(self) -> tuple[str, int]:
        item = self.waiting.pop(0)
        self.taken += 1
        if self.blocked:
            self._accept(self.blocked.pop(0), Delivery.ACCEPTED)
        return item

    @property
    def full(self) -> bool:
        return self.lane.capacity is not None and len(self.waiting) >= self.lane.capacity

    def _refuse(self, item: tuple[str, int], loss: Loss, delivery: Delivery) -> Delivery:
        self.refused += 1
        self.lost.append((item, loss))
        return delivery

    def _accept(self, item: tuple[str, int], delivery: Delivery) -> Delivery:
        self.waiting.append(item)
        self.accepted += 1
        return delivery


@given(lanes, lanes, steps)
def test_i1_i2_i5_i6_every_item_is_taken_in_order_or_waits_or_is_lost_once_with_its_reason(
    first: Lane, second: Lane, script: list[tuple[str, str, int] | None]
) -> None:
    mailbox = Mailbox(first, second)
    models = [Model(first), Model(second)]
    lost: list[list[tuple[Any, Loss]]] = [[], []]
    mailbox.on_loss = lambda item, lane, loss: lost[lane].append((item, loss))
    for number, step in enumerate(script):
        if step is not None:
            verb, key, lane = step
            item, model = (key, number), models[lane]
            match verb:
                case "put":
                    assert mailbox.put(item, lane) is model.put(item)
                case "put_soon":
                    mailbox.put_soon(item, lane)
                    model.put_soon(item)
                case "seal":
                    mailbox.seal(lane, item)
                    model.seal(item)
        elif any(model.waiting for model in models):
            model = next(model for model in models if model.waiting)
            assert mailbox.get_nowait() == model.take()
        else:
            with pytest.raises(trio.WouldBlock):
                mailbox.get_nowait()
        for at, model in enumerate(models):
            counts = mailbox.counts(at)
            assert lost[at] == model.lost
            assert counts.waiting == mailbox.depth(at) == len(model.waiting)
            assert (counts.accepted, counts.refused) == (model.accepted, model.refused)
            assert counts.accepted == counts.taken + counts.evicted + counts.waiting
            assert counts.evicted + counts.refused == len(lost[at])
            # The last item of a sealed lane has a place of its own.
            most = model.lane.capacity
            assert most is None or counts.waiting <= most + model.sealed
    mailbox.close()
    for at, model in enumerate(models):
        sent_away = [(item, Loss.DEAD) for item in model.blocked]
        left_over = [(item, Loss.LEFT_OVER) for item in model.waiting]
        assert lost[at] == model.lost + sent_away + left_over
        assert mailbox.counts(at).evicted == model.accepted - model.taken
        assert mailbox.put(("late", -1), at) is Delivery.DEAD
        assert lost[at][-1] == (("late", -1), Loss.DEAD)


def test_i5_the_urgent_lane_is_taken_first_and_one_lane_can_be_asked_alone() -> None:
    mailbox = Mailbox(Lane(), Lane())
    mailbox.put("later", lane=1)
    mailbox.put("urgent", lane=0)
    mailbox.put("last", lane=1)
    assert mailbox.get_nowait_from(1) == "later"
    assert mailbox.get_nowait() == "urgent"
    with pytest.raises(trio.WouldBlock):
        mailbox.get_nowait_from(0)
    assert mailbox.get_nowait() == "last"


def test_wake_is_called_once_by_the_next_put_and_forgotten_before() -> None:
    mailbox = Mailbox(Lane(), Lane(capacity=1))
    seen: list[Callable[[], object] | None] = []
    mailbox.wake = lambda: seen.append(mailbox.wake)
    mailbox.put(1, lane=1)
    mailbox.put(2, lane=1)
    mailbox.put(3)
    assert seen == [None]


def test_a_refused_item_wakes_nobody_and_a_replaced_one_does() -> None:
    woken: list[str] = []
    for overflow in (Overflow.REJECT, Overflow.DROP_OLDEST):
        mailbox = Mailbox(Lane(capacity=1, overflow=overflow))
        mailbox.put(1)
        mailbox.wake = lambda overflow=overflow: woken.append(overflow.name)
        mailbox.put(2)
    assert woken == ["DROP_OLDEST"]


def test_what_is_put_soon_wakes_the_receiver_only_if_it_went_in_and_a_seal_always() -> None:
    woken: list[str] = []
    mailbox = Mailbox(Lane(), Lane(capacity=1))
    for verb, expected in [("went in", 1), ("waits", 1), ("seal", 2), ("seal again", 2)]:
        mailbox.wake = None
        mailbox.wait_with(partial(woken.append, verb))
        if verb.startswith("seal"):
            mailbox.seal(1, verb)
        else:
            mailbox.put_soon(verb, 1)
        assert len(woken) == expected
    assert woken == ["went in", "seal"]
    assert [mailbox.get_nowait() for _ in range(2)] == ["went in", "seal"]


async def test_a_lane_sealed_while_its_receiver_waits_wakes_it_with_the_last_item() -> None:
    mailbox = Mailbox(Lane(), Lane(capacity=1))
    taken: list[Any] = []

    async def receive() -> None:
        taken.append(await mailbox.get())
        mailbox.seal(1, "not this one")
        with trio.move_on_after(0):
            taken.append(await mailbox.get())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.seal(1, "last")
    assert taken == ["last"]
    assert mailbox.put("late", 1) is Delivery.STOPPING
    assert mailbox.put("urgent", 0) is Delivery.ACCEPTED
    mailbox.set_capacity(1, None)
    assert await mailbox.feed("late", 1) is Delivery.STOPPING


def test_a_sealed_lane_answers_dead_once_the_mailbox_is_closed() -> None:
    lost: list[Any] = []
    mailbox = Mailbox(Lane())
    mailbox.on_loss = lambda item, lane, loss: lost.append((item, loss))
    mailbox.seal(0, "last")
    mailbox.close()
    mailbox.seal(0, "never")
    mailbox.put_soon("late")
    assert mailbox.put("late") is Delivery.DEAD
    assert lost == [("last", Loss.LEFT_OVER), ("late", Loss.DEAD), ("late", Loss.DEAD)]


async def test_i2_who_waits_and_what_is_put_soon_are_let_in_by_turns() -> None:
    mailbox = Mailbox(Lane(capacity=1))
    mailbox.put("there")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.feed, "first")
        await trio.testing.wait_all_tasks_blocked()
        mailbox.put_soon("second")
        nursery.start_soon(mailbox.feed, "third")
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.put("pushy") is Delivery.REJECTED
        assert [mailbox.get_nowait() for _ in range(4)] == ["there", "first", "second", "third"]


@pytest.mark.parametrize("how", ["seal", "close"])
async def test_i1_who_is_told_of_a_loss_may_put_something_and_cancel_who_waits(how: str) -> None:
    mailbox = Mailbox(Lane(capacity=1))
    scopes = [trio.CancelScope() for _ in range(3)]
    lost: list[tuple[Any, Loss]] = []
    answers: list[Delivery] = []

    def told(item: Any, lane: int, loss: Loss) -> None:
        lost.append((item, loss))
        for scope in scopes[:2]:
            scope.cancel()
        if item != "answer":
            answers.append(mailbox.put("answer"))

    async def send(number: int) -> None:
        with scopes[number]:
            answers.append(await mailbox.feed(number))

    mailbox.on_loss = told
    mailbox.put("there")
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(send, number)
            await trio.testing.wait_all_tasks_blocked()
        if how == "seal":
            mailbox.seal(0, "last")
        else:
            mailbox.close()
    delivery, loss = {
        "seal": (Delivery.STOPPING, Loss.STOPPING), "close": (Delivery.DEAD, Loss.DEAD),
    }[how]  # fmt: skip
    assert [item for item, _ in lost if item != "answer"] == (
        [0, 2] if how == "seal" else [0, 2, "there"]
    )
    assert set(answers) == {delivery}
    assert ("answer", loss) in lost
    counts = mailbox.counts(0)
    assert counts.refused + counts.evicted == len(lost)


def test_a_failing_key_rejects_the_item_and_does_not_reach_the_sender() -> None:
    mailbox = Mailbox(Lane(1, Overflow.COALESCE, key=lambda item: item["id"]))
    assert mailbox.put({"id": 1}) is Delivery.ACCEPTED
    assert mailbox.put({"no": 1}) is Delivery.REJECTED


@pytest.mark.parametrize(
    ("capacity", "overflow", "key"),
    [(0, Overflow.REJECT, None), (1, Overflow.COALESCE, None), (1, Overflow.REJECT, id)],
)
def test_a_lane_refuses_arguments_that_do_not_fit(
    capacity: int, overflow: Overflow, key: Callable[[Any], int] | None
) -> None:
    with pytest.raises(ValueError, match=r"capacity|key"):
        Lane(capacity, overflow, key)


def test_a_lane_takes_as_many_as_its_capacity_says_now() -> None:
    mailbox = Mailbox(Lane(capacity=1))
    mailbox.set_capacity(0, 2)
    assert [mailbox.put(item).accepted for item in "abc"] == [True, True, False]
    mailbox.set_capacity(0, 1)
    assert mailbox.depth(0) == 2
    assert not mailbox.put("d").accepted
    mailbox.set_capacity(0, None)
    assert mailbox.put("e").accepted
    with pytest.raises(ValueError, match="capacity must be 1 or more, or None; it is 0"):
        mailbox.set_capacity(0, 0)


async def test_more_room_is_first_for_those_who_wait_for_it() -> None:
    mailbox = Mailbox(Lane(capacity=1))
    mailbox.put("a")
    async with trio.open_nursery() as nursery:
        for item in "bcd":
            nursery.start_soon(mailbox.feed, item)
            await trio.testing.wait_all_tasks_blocked()
        mailbox.set_capacity(0, 3)
        assert mailbox.put("too late") is Delivery.REJECTED
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        assert [mailbox.get_nowait() for _ in range(4)] == ["a", "b", "c", "d"]


async def test_get_waits_for_a_put_and_a_second_waiter_is_refused() -> None:
    mailbox = Mailbox()
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await mailbox.get() == "hello"

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await mailbox.wait()
        mailbox.put("hello")
    assert mailbox.counts(0).taken == 1


async def test_a_cancelled_wait_takes_nothing_and_leaves_room_for_another() -> None:
    mailbox = Mailbox()
    with trio.move_on_after(0):
        await mailbox.get()
    assert mailbox.wake is None
    mailbox.put("kept")
    assert await mailbox.get() == "kept"


async def test_wait_parks_although_another_lane_has_items() -> None:
    mailbox = Mailbox(Lane(), Lane())
    mailbox.put("other", lane=1)
    with trio.move_on_after(0) as scope:
        await mailbox.wait()
    assert scope.cancelled_caught


async def test_get_gives_others_a_turn_after_64_items() -> None:
    mailbox = Mailbox()
    for number in range(65):
        mailbox.put(number)
    with trio.testing.assert_no_checkpoints():
        for _ in range(64):
            await mailbox.get()
    with trio.testing.assert_checkpoints():
        await mailbox.get()


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_i2_senders_that_wait_for_room_are_let_in_by_turns_and_a_cancelled_one_is_not(
    stay: list[bool],
) -> None:
    async def main() -> list[int]:
        mailbox = Mailbox(Lane(capacity=1))
        mailbox.put(-1)
        answers: list[Delivery] = []
        scopes = [trio.CancelScope() for _ in stay]

        async def send(number: int) -> None:
            with scopes[number]:
                answers.append(await mailbox.feed(number))

        async with trio.open_nursery() as nursery:
            for number in range(len(stay)):
                nursery.start_soon(send, number)
                await trio.testing.wait_all_tasks_blocked()
            for number, stays in enumerate(stay):
                if not stays:
                    scopes[number].cancel()
            await trio.testing.wait_all_tasks_blocked()
            taken = [mailbox.get_nowait()]
            while mailbox.depth(0):
                assert mailbox.put("pushy") is Delivery.REJECTED  # nobody overtakes who waits
                taken.append(mailbox.get_nowait())
        assert answers == [Delivery.ACCEPTED] * sum(stay)
        counts = mailbox.counts(0)
        assert counts.accepted == counts.taken == len(taken)
        return taken

    assert trio.run(main) == [-1, *(number for number, stays in enumerate(stay) if stays)]


async def test_feed_is_a_checkpoint_and_answers_dead_after_a_close() -> None:
    mailbox = Mailbox(Lane(capacity=1))
    with trio.testing.assert_checkpoints():
        assert await mailbox.feed(1) is Delivery.ACCEPTED
    answers: list[Delivery] = []

    async def send() -> None:
        answers.append(await mailbox.feed(2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.close()
    assert answers == [Delivery.DEAD]
    assert await mailbox.feed(3) is Delivery.DEAD
