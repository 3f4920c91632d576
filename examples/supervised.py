"""An actor crashes, its supervisor replaces it, and its mailbox goes on."""

import trio

from greenroom.actors import Actor, ChildSpec, open_actor_system


class Adder(Actor[str]):
    total = 0

    async def receive(self, number: str) -> None:
        self.total += int(number)
        print("the total is", self.total)


async def main() -> None:
    async with open_actor_system("sums") as system:
        adder = system.spawn(ChildSpec("adder", Adder))
        for number in ("1", "2", "three"):
            adder.tell(number)
        await adder.ask("4")  # as `tell`, and waits until it is handled


if __name__ == "__main__":
    trio.run(main)
