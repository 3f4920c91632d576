"""A transfer between two accounts may stop half way; no money is made or lost by that.

An account keeps entries, each under an id, and the first entry under an id stands. So all may
be said twice, and an entry of 0 keeps a later one out:

    "t1" is done                  ada: "t1 out" -30                   bob: "t1 in" +30
    "t1" was too late for bob     ada: "t1 out" -30, "t1 back" +30    bob: "t1 in" 0

The teller asks both accounts. The deadline of whoever asks the teller travels with these
questions: an account handles nothing that is overdue. But it may have been half way through,
so that nobody knows what stands; then the teller settles it, with all the time in the world.
"""

from dataclasses import dataclass, field
from enum import Enum
from functools import partial

import trio

from greenroom.actors import (
    Actor,
    ActorRef,
    AskError,
    AskTimeout,
    ChildSpec,
    Context,
    ExitReason,
    NotRegistered,
    open_actor_system,
)


class Outcome(Enum):
    DONE = "done"
    REFUSED = "refused"  # there is no such account, or not so much in it
    TAKEN_BACK = "taken back"  # what had been done of it
    PENDING = "pending"  # one of the accounts failed; ask again


@dataclass(frozen=True)
class Transfer:
    """Asks the teller; the reply is an `Outcome`. Asked again, it is not done again."""

    id: str
    source: str
    target: str
    amount: int

    def __post_init__(self) -> None:
        if self.amount <= 0:
            raise ValueError(f"amount must be more than 0; it is {self.amount!r}")


@dataclass(frozen=True)
class Settle:
    """The teller's own, for a transfer of which it is not known how far it came."""

    transfer: Transfer


@dataclass(frozen=True)
class Post:
    """Asks an account; the reply is the amount that stands under this id."""

    id: str
    amount: int


@dataclass
class Books:
    """Stands for a database: it outlives the actors."""

    accounts: dict[str, dict[str, int]]
    unsettled: dict[str, Transfer] = field(default_factory=dict)

    def balance(self, name: str) -> int:
        return sum(self.accounts[name].values())


@dataclass
class Account(Actor[Post]):
    name: str
    books: Books

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        ctx.registry.register(f"account {self.name}", ctx.self)

    async def receive(self, post: Post) -> int:
        await trio.sleep(0.01)  # the database is slow: a crash may come before the entry ...
        covered = self.books.balance(self.name) + post.amount >= 0
        entries = self.books.accounts[self.name]
        stands = entries.setdefault(post.id, post.amount if covered else 0)
        await trio.sleep(0.01)  # ... or after it, when only the answer is missing
        return stands


@dataclass
class Teller(Actor[Transfer | Settle]):
    books: Books

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        ctx.registry.register("teller", ctx.self)
        for transfer in self.books.unsettled.values():
            ctx.timers.start_single(transfer.id, Settle(transfer), 0)  # there may be thousands

    async def receive(self, message: Transfer | Settle) -> Outcome:
        match message:
            case Transfer() as transfer:
                if not {transfer.source, transfer.target} <= self.books.accounts.keys():
                    return Outcome.REFUSED
                self.books.unsettled[transfer.id] = transfer  # before anybody is asked
                act = self.move
            case Settle(transfer):
                act = self.settle
        try:
            outcome = await act(transfer)
        except (AskError, NotRegistered):  # too late, crashed, or gone: what stands is not known
            # A timer's message, unlike this one, has all the time it needs.
            pause = 0 if message is transfer else 0.1
            self.ctx.timers.start_single(transfer.id, Settle(transfer), pause)
            return Outcome.PENDING
        self.books.unsettled.pop(transfer.id, None)
        return outcome

    async def move(self, transfer: Transfer) -> Outcome:
        """Do it, as long as there is time."""
        took = -await self.post(transfer.source, f"{transfer.id} out", -transfer.amount)
        if not took:
            return Outcome.REFUSED
        if await self.post(transfer.target, f"{transfer.id} in", took):
            return Outcome.DONE
        return await self.settle(transfer)

    async def settle(self, transfer: Transfer) -> Outcome:
        """Keep from happening what has not happened yet, and take back the rest."""
        if await self.post(transfer.target, f"{transfer.id} in", 0):
            return Outcome.DONE
        took = -await self.post(transfer.source, f"{transfer.id} out", 0)
        if took:
            await self.post(transfer.source, f"{transfer.id} back", took)
        return Outcome.TAKEN_BACK

    async def post(self, account: str, id: str, amount: int) -> int:  # noqa: A002 - as in `Post`
        ref: ActorRef[Post] = self.ctx.registry.require(f"account {account}")
        stands: int = await ref.ask(Post(id, amount))  # within the deadline of who asked us
        return stands


def bank(books: Books) -> list[ChildSpec]:
    """Describe the actors of a bank: one for each account, and the teller."""
    accounts = [ChildSpec(name, partial(Account, name, books)) for name in books.accounts]
    return [*accounts, ChildSpec("teller", partial(Teller, books))]


async def main() -> None:
    books = Books({"ada": {"opening": 100}, "bob": {"opening": 0}})
    async with open_actor_system("bank", root=bank(books)) as system:
        teller, bob = system.registry.require("teller"), system.registry.require("account bob")

        async def say(transfer: Transfer, seconds: float) -> None:
            try:
                outcome = await teller.ask(transfer, timeout=seconds)
                print(f"{transfer.id} is {outcome.value}")
            except AskTimeout as error:
                print(f"{transfer.id}: {error}")

        await say(Transfer("t1", "ada", "bob", 30), 1)
        await say(Transfer("t2", "bob", "ada", 40), 1)
        for number in range(10):
            bob.tell(Post(f"audit {number}", 0))  # keeps the account busy for a while
        late = Transfer("t3", "ada", "bob", 50)
        await say(late, 0.1)
        await say(Transfer("t4", "ada", "bob", 10), 1)
        await say(late, 1)
    print({name: books.balance(name) for name in books.accounts})


if __name__ == "__main__":
    trio.run(main)
