"""The bank of the examples: whatever fails, and whenever, no money is made or lost."""

from dataclasses import replace

import pytest
import trio
import trio.testing
from examples.actors import bank
from examples.actors.bank import Books, Outcome, Transfer
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors import ActorRef, AskError, open_actor_system
from greenroom.actors.testing import (
    Plan,
    crashing,
    every_cancellation,
    every_crash,
    plans,
    simulate,
)

# Seconds that a customer waits: for nothing, for a part of a transfer, for all of it.
TRANSFERS = [
    (Transfer("t1", "ada", "bob", 30), 0.05),
    (Transfer("t2", "bob", "eve", 60), 0.09),
    (Transfer("t3", "ada", "eve", 40), 0.2),
    (Transfer("t4", "eve", "eve", 10), 1.0),
]

Transfers = list[tuple[Transfer, float]]


async def ask_twice(
    teller: ActorRef[Transfer], transfer: Transfer, patience: float, replies: dict[str, Outcome]
) -> None:
    """Be a customer who asks a second time if the first was in vain."""
    for seconds in (patience, 3 * patience):
        try:
            outcome = await teller.ask(transfer, timeout=seconds)
        except AskError:
            continue
        if outcome is not Outcome.PENDING:
            replies[transfer.id] = outcome
            return


async def day(transfers: Transfers) -> Books:
    """Have a day with crashes, which may end before its time; give the books of the next."""
    books = Books({"ada": {"opening": 50}, "bob": {"opening": 50}, "eve": {}})
    replies: dict[str, Outcome] = {}
    try:
        root = [crashing(replace(spec, intensity=100)) for spec in bank.bank(books)]
        async with open_actor_system("bank", root=root) as system, trio.open_nursery() as nursery:
            teller = system.registry.require("teller")
            for transfer, patience in transfers:
                nursery.start_soon(ask_twice, teller, transfer, patience, replies)
    finally:
        with trio.CancelScope(shield=True):
            async with open_actor_system("bank", root=bank.bank(books)):
                await trio.sleep(10)
        check(books, transfers, replies)
    return books


def check(books: Books, transfers: Transfers, replies: dict[str, Outcome]) -> None:
    """Every transfer is done whole or not at all, as the customer was told."""
    assert books.unsettled == {}
    assert sum(books.balance(name) for name in books.accounts) == 100
    for name in books.accounts:
        assert books.balance(name) >= 0
    for transfer, _ in transfers:
        source, target = books.accounts[transfer.source], books.accounts[transfer.target]
        received = target.get(f"{transfer.id} in", 0)
        assert (
            source.get(f"{transfer.id} out", 0) + source.get(f"{transfer.id} back", 0) == -received
        )
        assert received in (0, transfer.amount)
        if transfer.id in replies:
            assert (replies[transfer.id] is Outcome.DONE) == (received > 0)


def test_no_money_is_lost_by_a_crash_at_any_point() -> None:
    runs = list(every_crash(day, TRANSFERS))
    assert len(runs) > 20


def test_no_money_is_lost_by_a_cancellation_at_any_step() -> None:
    assert any(run.cancelled for run in every_cancellation(day, TRANSFERS))


@pytest.mark.parametrize("target", ["/bank/teller", "/bank/ada", "/bank/bob"])
def test_no_money_is_lost_when_one_of_the_actors_is_killed_at_any_step(target: str) -> None:
    assert any(run.hit for run in every_cancellation(day, TRANSFERS, target=target))


names = st.sampled_from(["ada", "bob", "eve"])
amounts = st.integers(1, 60)
# In hundredths of a second, in which accounts count, too, so that deadlines meet the entries.
patiences = st.integers(0, 20).map(lambda hundredths: hundredths / 100)


@given(
    st.lists(st.tuples(names, names, amounts, patiences), min_size=1, max_size=4),
    plans(decisions=200, crash_points=60, checkpoints=300, targets=("/bank/teller", "/bank/ada")),
)
@settings(deadline=None)
def test_no_money_is_made_or_lost(drawn: list[tuple[str, str, int, float]], plan: Plan) -> None:
    transfers = [
        (Transfer(f"t{number}", source, target, amount), patience)
        for number, (source, target, amount, patience) in enumerate(drawn)
    ]
    simulate(day, transfers, plan=plan)


async def test_the_example_shows_what_may_become_of_a_transfer(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    await bank.main()
    assert capsys.readouterr().out.splitlines() == [
        "t1 is done",
        "t2 is refused",
        "t3: /bank/teller has not replied within 0.1 seconds",
        "t4 is done",
        "t3 is taken back",
        "{'ada': 60, 'bob': 40}",
    ]


async def test_a_transfer_to_nobody_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    books = Books({"ada": {"opening": 50}})
    async with open_actor_system("bank", root=bank.bank(books)) as system:
        teller = system.registry.require("teller")
        assert await teller.ask(Transfer("t1", "ada", "nobody", 1)) is Outcome.REFUSED
    assert books == Books({"ada": {"opening": 50}})


def test_a_transfer_moves_more_than_nothing() -> None:
    with pytest.raises(ValueError, match="amount must be more than 0; it is -5"):
        Transfer("t1", "ada", "bob", -5)


async def test_more_transfers_can_be_settled_than_a_mailbox_holds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left = {f"t{number}": Transfer(f"t{number}", "ada", "bob", 1) for number in range(1100)}
    books = Books({"ada": {"opening": 50}, "bob": {}}, left)
    async with open_actor_system("bank", root=bank.bank(books)):
        await trio.sleep(300)
    assert books.unsettled == {}
    assert books.balance("ada") == 50
