"""Services: who offers one, and who is told when that changes."""

import logging
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
    ExitReason,
    Lane,
    Listing,
    Overflow,
    Restart,
    ServiceKey,
    open_actor_system,
)

settled = trio.testing.wait_all_tasks_blocked

PRINTERS = ServiceKey[str]("printers")
SCANNERS = ServiceKey[str]("scanners")


class Printer(Actor[Any]):
    """Offers a service; crashes on exceptions."""

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        ctx.receptionist.register(PRINTERS, ctx.self)

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message


class Clerk(Actor[Any]):
    """Writes down the listings that it gets; sleeps, or crashes."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, float):
            await trio.sleep(message)

    async def on_signal(self, signal: Any) -> None:
        assert isinstance(signal, Listing)
        self.log.append(signal.refs)


def printer(id: str = "printer", **options: Any) -> ChildSpec:  # noqa: A002
    return ChildSpec(id, Printer, **options)


def clerk(log: list[Any], **options: Any) -> ChildSpec:
    return ChildSpec("clerk", lambda: Clerk(log), **options)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_keys_with_the_same_name_are_the_same() -> None:
    assert ServiceKey[str]("printers") == PRINTERS
    assert len({PRINTERS, ServiceKey("printers"), SCANNERS}) == 2


def test_a_key_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name must not be empty"):
        ServiceKey("")


async def test_actors_are_found_by_their_service_in_the_order_of_registration() -> None:
    async with open_actor_system("system", root=[printer("one"), printer("two")]) as system:
        one, two = system.children
        desk = system.receptionist
        assert desk.find(PRINTERS) == (one, two)
        assert desk.find(SCANNERS) == ()
        desk.register(SCANNERS, two)
        desk.register(SCANNERS, one)
        desk.register(SCANNERS, two)  # it stays where it is
        assert desk.find(SCANNERS) == (two, one)
        assert set(desk) == {PRINTERS, SCANNERS}
        desk.deregister(SCANNERS, two)
        desk.deregister(SCANNERS, two)
        assert desk.find(SCANNERS) == (one,)
        desk.deregister(SCANNERS, one)
        assert set(desk) == {PRINTERS}


async def test_i22_an_actor_that_ends_is_in_no_listing_in_the_same_step() -> None:
    found: list[Any] = []
    async with open_actor_system("system", root=[printer("one"), printer("two")]) as system:
        one, two = system.children
        desk = system.receptionist
        desk.register(SCANNERS, one)
        system.dead_letters.subscribe(lambda letter: found.append(desk.find(PRINTERS)))
        one.kill()
        one.tell("too late for it")
        await one.join()
        assert found == [(two,)]
        assert desk.find(SCANNERS) == ()
        with pytest.raises(AlreadyEnded):
            desk.register(PRINTERS, one)


async def test_i19_an_actor_keeps_its_place_over_a_restart_and_nobody_is_told(
    quiet: None,
) -> None:
    log: list[Any] = []
    specs = [printer("one"), printer("two"), clerk(log)]
    async with open_actor_system("system", root=specs) as system:
        one, two, subscriber = system.children
        system.receptionist.subscribe(PRINTERS, subscriber)
        await settled()
        one.tell(OSError("crash"))
        await settled()
        assert log == [(one, two)]
        assert system.receptionist.find(PRINTERS) == (one, two)


async def test_a_subscriber_is_told_now_and_after_each_change() -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[clerk(log)]) as system:
        (subscriber,) = system.children
        system.receptionist.subscribe(PRINTERS, subscriber)
        await settled()
        one = system.spawn(printer("one"))
        await settled()
        two = system.spawn(printer("two"))
        await settled()
        one.stop()
        await settled()
        system.receptionist.deregister(PRINTERS, two)
        await settled()
        system.receptionist.register(SCANNERS, two)  # of no interest
        await settled()
        assert log == [(), (one,), (one, two), (two,), ()]


async def test_changes_that_come_faster_than_a_subscriber_looks_make_one_listing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[clerk(log)]) as system:
        (subscriber,) = system.children
        subscriber.tell(1.0)
        await settled()
        system.receptionist.subscribe(PRINTERS, subscriber)
        refs = []
        for at in range(3):
            refs.append(system.spawn(printer(f"printer{at}")))
            await settled()
        refs[1].kill()
        await trio.sleep(2)
        assert log == [(refs[0], refs[2])]


async def test_no_mailbox_is_too_full_for_a_listing(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    spec = clerk(log, mailbox=Lane(1, Overflow.DROP_OLDEST))
    async with open_actor_system("system", root=[spec]) as system:
        (subscriber,) = system.children
        subscriber.tell(1.0)
        await settled()
        system.receptionist.subscribe(PRINTERS, subscriber)
        for _ in range(5):
            subscriber.tell("noise")
        await trio.sleep(2)
        assert log == [()]


async def test_a_subscription_survives_a_restart_and_subscribing_again_tells_again(
    quiet: None,
) -> None:
    log: list[Any] = []

    class Eager(Clerk):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            ctx.receptionist.subscribe(PRINTERS, ctx.self)

    spec = ChildSpec("eager", lambda: Eager(log))
    async with open_actor_system("system", root=[spec]) as system:
        (subscriber,) = system.children
        await settled()
        subscriber.tell(OSError("crash"))
        await settled()
        assert log == [(), ()]
        one = system.spawn(printer())
        await settled()
        assert log == [(), (), (one,)]


async def test_who_unsubscribes_is_told_no_more_not_even_what_waits_in_its_mailbox(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[clerk(log)]) as system:
        (subscriber,) = system.children
        desk = system.receptionist
        desk.subscribe(PRINTERS, subscriber)
        await settled()
        subscriber.tell(1.0)
        await settled()
        system.spawn(printer())
        await settled()
        desk.unsubscribe(PRINTERS, subscriber)
        desk.unsubscribe(PRINTERS, subscriber)
        await trio.sleep(2)
        assert log == [()]


async def test_i27_a_subscriber_that_ends_is_forgotten() -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[clerk(log)]) as system:
        (subscriber,) = system.children
        system.receptionist.subscribe(PRINTERS, subscriber)
        await settled()
        subscriber.kill()
        await subscriber.join()
        system.spawn(printer())
        await settled()
        assert log == [()]
        assert not system.receptionist._subscriptions
        with pytest.raises(AlreadyEnded):
            system.receptionist.subscribe(PRINTERS, subscriber)
    assert not system.receptionist._services


async def test_an_actor_may_subscribe_to_the_service_that_it_offers() -> None:
    log: list[Any] = []
    async with open_actor_system("system", root=[clerk(log)]) as system:
        (subscriber,) = system.children
        system.receptionist.subscribe(PRINTERS, subscriber)
        system.receptionist.register(PRINTERS, subscriber)
        await settled()
        assert log == [(subscriber,)]
        subscriber.kill()
        await subscriber.join()
        assert system.receptionist.find(PRINTERS) == ()


async def test_a_subscriber_that_handles_no_signals_is_refused() -> None:
    async with open_actor_system("system", root=[printer()]) as system:
        (ref,) = system.children
        with pytest.raises(TypeError, match="would get a Listing, but handles no signals"):
            system.receptionist.subscribe(PRINTERS, ref)


steps = st.lists(
    st.tuples(
        st.sampled_from(["register", "deregister", "kill", "crash", "subscribe", "unsubscribe"]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=15,
)


@given(steps)
@settings(deadline=None)
def test_i22_listings_hold_the_living_in_order_and_the_last_one_told_is_true(
    steps: list[tuple[str, int, bool]],
) -> None:
    log: list[Any] = []

    class Plain(Printer):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            pass

    async def main() -> None:
        offers: list[ActorRef[Any]] = []
        subscribed = False
        specs = [ChildSpec(f"p{at}", Plain, restart=Restart.TRANSIENT) for at in range(3)]
        async with open_actor_system("system", root=[*specs, clerk(log)], intensity=100) as system:
            *refs, subscriber = system.children
            desk = system.receptionist
            for what, at, looks in steps:
                ref = refs[at]
                match what:
                    case "register" if ref.alive:
                        desk.register(PRINTERS, ref)
                        if ref not in offers:
                            offers.append(ref)
                    case "deregister":
                        desk.deregister(PRINTERS, ref)
                        offers = [each for each in offers if each != ref]
                    case "kill":
                        ref.kill()
                        await ref.join()
                        offers = [each for each in offers if each != ref]
                    case "crash" if ref.alive:
                        ref.tell(OSError("crash"))
                    case "subscribe":
                        desk.subscribe(PRINTERS, subscriber)
                        subscribed = True
                    case "unsubscribe":
                        desk.unsubscribe(PRINTERS, subscriber)
                        subscribed = False
                assert desk.find(PRINTERS) == tuple(offers)
                if looks:
                    heard = len(log)
                    await settled()
                    assert len(log) - heard <= 1
                    if subscribed:
                        assert log[-1] == tuple(offers)

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main)
    finally:
        logging.disable(logging.NOTSET)
