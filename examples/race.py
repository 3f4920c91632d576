"""The last guest closes the room; in one order of tasks, while the next one comes in."""

import trio
from hypothesis import given, settings

from greenroom.actors import Actor, ActorRef, ChildSpec, open_actor_system
from greenroom.actors.testing import schedules, simulate


class Room(Actor[int]):
    guests = 0

    async def receive(self, change: int) -> None:
        self.guests += change
        if not self.guests:
            self.ctx.stop("the last guest")


async def visit(room: ActorRef[int], comes: float, stays: float) -> None:
    await trio.sleep(comes)
    await room.ask(+1)
    await trio.sleep(stays)
    await room.ask(-1)


async def evening() -> None:
    async with open_actor_system("house") as system, trio.open_nursery() as nursery:
        room = system.spawn(ChildSpec("room", Room))
        await room.wait_started()
        nursery.start_soon(visit, room, 1, 1)
        nursery.start_soon(visit, room, 0, 1)


@given(schedules())
@settings(deadline=None)  # of real time, which depends on what else the machine does
def test_every_guest_finds_the_room_open(choices: list[int]) -> None:
    simulate(evening, choices=choices)
