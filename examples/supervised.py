"""An actor crashes, its supervisor replaces it, and its mailbox goes on."""

import trio

from greenroom.actors import Actor, ChildSpec, open_actor_system


class Adder(Actor[str]):
    def __init__(self, done: trio.Event) -> None:
        self.total = 0
        self.done = done

    async def receive(self, message: str) -> None:
        if message == "done":
            self.done.set()
        else:
            self.total += int(message)
            print("the total is", self.total)


async def main() -> None:
    done = trio.Event()
    async with open_actor_system("sums") as system:
        adder = system.spawn(ChildSpec("adder", Adder), done)
        for message in ("1", "2", "three", "4", "done"):
            adder.tell(message)
        await done.wait()


if __name__ == "__main__":
    trio.run(main)
