"""Two actors, and what they can do: replies, a crash, a name, a watch, a timer and a group."""

import trio

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    ExitReason,
    RemoteError,
    Signal,
    Terminated,
    open_actor_system,
)


class Till(Actor[int]):
    def __init__(self) -> None:
        self.total = 0

    async def receive(self, amount: int) -> int:
        if amount < 0:
            raise ValueError(f"nobody pays {amount}")
        self.total += amount
        return self.total  # the reply, if the message was asked


class Guard(Actor[str]):
    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        ctx.watch(ctx.registry.require("till"))
        ctx.groups.join("staff", ctx.self)
        ctx.timers.start_periodic("round", "time for a round", interval=0.1)

    async def receive(self, message: str) -> None:
        print("guard:", message)

    async def on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Terminated):
            print("guard: the till has ended:", signal.reason)
            self.ctx.stop()


async def main() -> None:
    async with open_actor_system("shop") as system:
        till = system.spawn(ChildSpec("till", Till))
        system.registry.register("till", till)
        guard = system.spawn(ChildSpec("guard", Guard))
        print("total:", await till.ask(30, timeout=1))
        try:
            await till.ask(-5)
        except RemoteError as error:
            print(error)
        print("total:", await till.ask(20))  # a new till behind the same reference
        print(system.groups.send("staff", "the doors are closed"))
        await trio.sleep(0.15)
        print(system.snapshot())
        till.stop("closing time")
        await guard.join()


if __name__ == "__main__":
    trio.run(main)
