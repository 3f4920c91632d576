"""Groups: who is in, in which order they get a message, and what the report says."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    ActorRef,
    AlreadyEnded,
    ChildSpec,
    Context,
    Delivery,
    ExitReason,
    ForeignSystem,
    Lane,
    Loss,
    Overflow,
    Restart,
    SendReport,
    open_actor_system,
)

settled = trio.testing.wait_all_tasks_blocked


class Member(Actor[Any]):
    """Writes down what it gets, with its name; sleeps, or crashes."""

    def __init__(self, name: str, log: list[Any]) -> None:
        self.name = name
        self.log = log

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, float):
            await trio.sleep(message)
        else:
            self.log.append((self.name, message))


def member(name: str, log: list[Any], **options: Any) -> ChildSpec:
    return ChildSpec(name, lambda: Member(name, log), **options)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_a_message_to_a_group_goes_to_all_members_and_the_report_says_so() -> None:
    log: list[Any] = []
    specs = [member(name, log) for name in ("a", "b", "c")]
    async with open_actor_system("system", root=specs) as system:
        a, _, c = system.children
        for ref in (c, a, c):  # nobody is in a group twice
            system.groups.join("room", ref)
        assert system.groups.members("room") == (c, a)
        assert system.groups.names() == ("room",)
        assert system.groups.send("room", "hello") == SendReport(2, 2, ())
        await settled()
        assert sorted(log) == [("a", "hello"), ("c", "hello")]


async def test_members_get_a_message_in_the_order_in_which_they_joined(quiet: None) -> None:
    targets: list[str] = []
    specs = [member(name, [], mailbox=Lane(1)) for name in ("a", "b", "c")]
    async with open_actor_system("system", root=specs) as system:
        a, b, c = system.children
        for ref in (b, c, a):
            system.groups.join("room", ref)
        system.dead_letters.subscribe(lambda letter: targets.append(letter.target.path))
        system.groups.send("room", "fits")
        system.groups.send("room", "is refused")
        assert targets == ["/system/b", "/system/c", "/system/a"]


async def test_the_report_names_who_has_refused_and_why_and_dead_letters_agree(
    quiet: None,
) -> None:
    log: list[Any] = []
    specs = [
        member("roomy", log),
        member("full", log, mailbox=Lane(1)),
        member("forgetful", log, mailbox=Lane(1, Overflow.DROP_OLDEST)),
        member("stubborn", log, mailbox=Lane(1, Overflow.DROP_NEW)),
        member("impatient", log, mailbox=Lane(1, Overflow.CLOSE), restart=Restart.TEMPORARY),
    ]
    async with open_actor_system("system", root=specs) as system:
        refs = list(system.children)
        for ref in refs:
            system.groups.join("room", ref)
            ref.tell("first")
        report = system.groups.send("room", "second")
        assert report == SendReport(
            5,
            2,
            (
                (refs[1], Delivery.REJECTED),
                (refs[3], Delivery.DROPPED_NEW),
                (refs[4], Delivery.CLOSED),
            ),
        )
        assert system.dead_letters.by_loss == {
            Loss.REJECTED: 1,
            Loss.DROPPED: 2,  # the forgetful one's oldest, the stubborn one's newest
            Loss.OVERLOAD: 1,
        }
        await settled()
        assert system.groups.members("room") == tuple(refs[:4])


async def test_a_group_without_members_gets_nothing_and_says_so() -> None:
    async with open_actor_system("system") as system:
        assert system.groups.send("nobody", "hello") == SendReport(0, 0, ())
        assert system.groups.members("nobody") == ()


async def test_who_leaves_gets_nothing_more_and_the_last_takes_the_group_along() -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[member("a", log), member("b", log)]) as system:
        a, b = system.children
        groups = system.groups
        groups.join("room", a)
        groups.join("room", b)
        groups.send("room", 1)
        groups.leave("room", a)
        groups.leave("room", a)
        groups.leave("other room", a)
        groups.send("room", 2)
        await settled()
        assert sorted(log) == [("a", 1), ("b", 1), ("b", 2)]
        groups.leave("room", b)
        assert groups.names() == ()
        assert not a._cell._farewells


async def test_i22_a_member_that_ends_has_left_in_the_same_step() -> None:
    seen: list[Any] = []
    async with open_actor_system("system", root=[member("a", []), member("b", [])]) as system:
        a, b = system.children
        groups = system.groups
        for name in ("one", "two"):
            groups.join(name, a)
        groups.join("one", b)
        system.dead_letters.subscribe(lambda letter: seen.append(groups.members("one")))
        a.kill()
        a.tell("too late for it")
        await a.join()
        assert seen == [(b,)]
        assert groups.names() == ("one",)
        assert groups.send("one", "hello").refused == ()
        with pytest.raises(AlreadyEnded):
            groups.join("one", a)


async def test_i19_a_member_stays_in_its_place_over_a_restart_and_misses_nothing(
    quiet: None,
) -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[member("a", log), member("b", log)]) as system:
        a, b = system.children
        system.groups.join("room", a)
        system.groups.join("room", b)
        a.tell(OSError("crash"))
        assert system.groups.send("room", "hello").refused == ()
        await settled()
        assert sorted(log) == [("a", "hello"), ("b", "hello")]
        assert system.groups.members("room") == (a, b)


async def test_members_find_the_sender_and_the_deadline_of_a_message() -> None:
    seen: list[Any] = []

    class Curious(Member):
        async def receive(self, message: Any) -> None:
            seen.append((message, self.ctx.sender, self.ctx.deadline))

    specs = [ChildSpec(name, lambda: Curious("", [])) for name in ("a", "b")]
    async with open_actor_system("system", root=specs) as system:
        a, b = system.children
        due = trio.current_time() + 60
        system.groups.join("room", a)
        system.groups.join("room", b)
        system.groups.send("room", "hello", sender=a, deadline=due)
        await settled()
        assert seen == [("hello", a, due)] * 2


async def test_i8_a_message_that_is_overdue_at_a_member_is_not_handled_there(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[member("a", log), member("b", log)]) as system:
        a, b = system.children
        system.groups.join("room", a)
        system.groups.join("room", b)
        a.tell(2.0)
        await settled()
        system.groups.send("room", "soon", deadline=trio.current_time() + 1)
        await trio.sleep(3)
        assert log == [("b", "soon")]
        assert system.dead_letters.by_loss == {Loss.EXPIRED: 1}


async def test_a_group_may_change_while_a_message_goes_round(quiet: None) -> None:
    specs = [member(name, [], mailbox=Lane(1)) for name in ("a", "b", "c")]
    async with open_actor_system("system", root=specs) as system:
        a, b, c = system.children
        groups = system.groups
        for ref in (a, b):
            groups.join("room", ref)
            ref.tell("first")

        def change(letter: Any) -> None:
            groups.leave("room", b)
            groups.join("room", c)

        system.dead_letters.subscribe(change)
        assert groups.send("room", "second").sent == 2  # those of the beginning
        assert groups.members("room") == (a, c)


async def test_a_group_is_used_in_its_own_thread() -> None:
    async with open_actor_system("system", root=[member("a", [])]) as system:
        (a,) = system.children
        system.groups.join("room", a)
        errors: list[str] = []

        def elsewhere() -> None:
            for use in (
                lambda: system.groups.send("room", "hello"),
                lambda: system.groups.join("room", a),
            ):
                with pytest.raises(ForeignSystem) as failure:
                    use()
                errors.append(str(failure.value))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert errors[0].startswith("group 'room' belongs to an actor system in another thread")
        assert errors[1].startswith("/system/a belongs to an actor system in another thread")


@pytest.mark.parametrize("name", ["", None])
async def test_a_group_has_a_name(name: Any) -> None:
    async with open_actor_system("system", root=[member("a", [])]) as system:
        (a,) = system.children
        with pytest.raises(ValueError, match="name must be a text that is not empty; it is "):
            system.groups.join(name, a)


steps = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "kill", "crash", "send"]),
        st.integers(0, 2),
        st.sampled_from(["x", "y"]),
    ),
    max_size=15,
)


@given(steps)
@settings(deadline=None)
def test_i22_every_live_member_gets_each_message_once_and_nobody_else(
    steps: list[tuple[str, int, str]],
) -> None:
    log: list[Any] = []
    expected: list[Any] = []

    async def main() -> None:
        members: dict[str, list[ActorRef[Any]]] = {"x": [], "y": []}
        specs = [member(str(at), log, restart=Restart.TRANSIENT) for at in range(3)]
        async with open_actor_system("system", root=specs, intensity=100) as system:
            refs, groups = list(system.children), system.groups
            for number, (what, at, name) in enumerate(steps):
                ref = refs[at]
                match what:
                    case "join" if ref.alive:
                        groups.join(name, ref)
                        if ref not in members[name]:
                            members[name].append(ref)
                    case "leave":
                        groups.leave(name, ref)
                        if ref in members[name]:
                            members[name].remove(ref)
                    case "kill":
                        await settled()  # what was sent before is handled
                        ref.kill()
                        await ref.join()
                        for each in members.values():
                            if ref in each:
                                each.remove(ref)
                    case "crash" if ref.alive:
                        ref.tell(OSError("crash"))
                    case "send":
                        report = groups.send(name, number)
                        assert report == SendReport(len(members[name]), len(members[name]), ())
                        expected.extend((str(refs.index(each)), number) for each in members[name])
                for group, inside in members.items():
                    assert groups.members(group) == tuple(inside)
                assert groups.names() == tuple(group for group in "xy" if members[group])
            await settled()

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main)
    finally:
        logging.disable(logging.NOTSET)
    assert sorted(log) == sorted(expected)
    for at in "012":  # in the order in which they were sent
        got = [number for name, number in log if name == at]
        assert got == sorted(got)
