"""Names: unique among the living, kept over restarts, free when their actor ends."""

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
    Backoff,
    ChildSpec,
    Context,
    ExitReason,
    Killed,
    NameTaken,
    NotRegistered,
    Restart,
    open_actor_system,
)

settled = trio.testing.wait_all_tasks_blocked


class Clerk(Actor[Any]):
    """Has a name by its own doing; crashes on exceptions."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        if self.name:
            ctx.registry.register(self.name, ctx.self)

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message


def clerk(id: str = "clerk", name: str = "", **options: Any) -> ChildSpec:  # noqa: A002
    return ChildSpec(id, lambda: Clerk(name), **options)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_an_actor_is_found_by_its_names_everywhere_in_its_system() -> None:
    async with open_actor_system("system", root=[clerk(name="front desk")]) as system:
        (ref,) = system.children
        system.registry.register("lost property", ref)
        assert system.registry.find("front desk") == ref
        assert system.registry.require("lost property") == ref
        assert system.registry.names() == ("front desk", "lost property")


async def test_a_name_that_nobody_has_is_none_or_an_error_that_names_it() -> None:
    async with open_actor_system("system") as system:
        assert system.registry.find("nobody") is None
        with pytest.raises(NotRegistered, match="no actor is registered as 'nobody'"):
            system.registry.require("nobody")


async def test_i22_a_name_that_is_taken_is_refused_with_the_path_of_its_holder() -> None:
    async with open_actor_system("system", root=[clerk("one"), clerk("two")]) as system:
        one, two = system.children
        system.registry.register("desk", one)
        system.registry.register("desk", one)  # its own already
        with pytest.raises(NameTaken, match="the name 'desk' is taken by /system/one") as failure:
            system.registry.register("desk", two)
        assert (failure.value.name, failure.value.holder) == ("desk", "/system/one")
        assert system.registry.find("desk") == one


async def test_i22_names_are_free_in_the_step_in_which_their_actor_ends() -> None:
    names: list[tuple[str, ...]] = []
    async with open_actor_system("system", root=[clerk()]) as system:
        (ref,) = system.children
        for name in ("b", "a"):
            system.registry.register(name, ref)
        # Told of the death's dead letters, the first who can look.
        system.dead_letters.subscribe(lambda letter: names.append(system.registry.names()))
        ref.kill()
        ref.tell("too late for it")
        assert system.registry.names() == ("a", "b")
        await ref.join()
        assert names == [()]
        assert system.registry.names() == ()


async def test_i19_a_name_is_kept_over_a_restart_and_in_the_pause_before_it(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    spec = clerk(name="desk", backoff=Backoff(first=10, jitter=0))
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell(OSError("crash"))
        await trio.sleep(1)
        assert system.registry.find("desk") == ref
        await trio.sleep(10)  # the next incarnation registers itself once more
        assert system.registry.find("desk") == ref
        ref.kill()
        await ref.join()
        assert system.registry.names() == ()


async def test_a_name_that_is_given_back_can_be_taken_and_outlives_its_first_holder() -> None:
    async with open_actor_system("system", root=[clerk("one"), clerk("two")]) as system:
        one, two = system.children
        registry = system.registry
        registry.register("desk", one)
        registry.unregister("desk")
        registry.unregister("desk")
        registry.register("desk", two)
        one.kill()
        await one.join()
        assert registry.find("desk") == two
        registry.unregister("desk")
        assert not two._cell._farewells


async def test_i22_an_actor_that_has_ended_gets_no_name() -> None:
    async with open_actor_system("system", root=[clerk()]) as system:
        (ref,) = system.children
        ref.kill("the test")
        await ref.join()
        with pytest.raises(AlreadyEnded, match="/system/clerk has ended") as failure:
            system.registry.register("desk", ref)
        assert failure.value.reason == Killed("the test")
        assert system.registry.names() == ()


@pytest.mark.parametrize("name", ["", None])
async def test_a_name_is_a_text_that_is_not_empty(name: Any) -> None:
    async with open_actor_system("system", root=[clerk()]) as system:
        (ref,) = system.children
        with pytest.raises(ValueError, match="name must be a text that is not empty; it is "):
            system.registry.register(name, ref)


async def test_systems_do_not_share_names() -> None:
    async with (
        open_actor_system("one", root=[clerk(name="desk")]) as one,
        open_actor_system("two", root=[clerk(name="desk")]) as two,
    ):
        assert one.registry.require("desk").path == "/one/clerk"
        assert two.registry.require("desk").path == "/two/clerk"


async def test_i27_after_the_end_of_a_system_no_name_is_left() -> None:
    async with open_actor_system("system", root=[clerk(name="desk")]) as system:
        pass
    assert system.registry.names() == ()


steps = st.lists(
    st.tuples(
        st.sampled_from(["register", "unregister", "kill", "crash"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 2),
    ),
    max_size=15,
)


@given(steps)
@settings(deadline=None)
def test_i22_a_name_maps_to_one_live_actor_whatever_happens(
    steps: list[tuple[str, str, int]],
) -> None:
    async def main() -> None:
        holders: dict[str, ActorRef[Any]] = {}
        specs = [clerk(f"clerk{at}", restart=Restart.TRANSIENT) for at in range(3)]
        async with open_actor_system("system", root=specs, intensity=100) as system:
            refs, registry = list(system.children), system.registry
            for what, name, at in steps:
                ref = refs[at]
                if what == "register":
                    expected: type[Exception] | None = None
                    if not ref.alive:
                        expected = AlreadyEnded
                    elif holders.get(name, ref) != ref:
                        expected = NameTaken
                    if expected is None:
                        registry.register(name, ref)
                        holders[name] = ref
                    else:
                        with pytest.raises(expected):
                            registry.register(name, ref)
                elif what == "unregister":
                    registry.unregister(name)
                    holders.pop(name, None)
                elif what == "kill":
                    ref.kill()
                    await ref.join()
                    holders = {each: held for each, held in holders.items() if held != ref}
                elif ref.alive:
                    ref.tell(OSError("crash"))
                    await settled()
                assert {each: registry.find(each) for each in registry.names()} == holders

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main)
    finally:
        logging.disable(logging.NOTSET)
