"""Our communicators beside Channels': the same situations, and the same outcomes."""

import asyncio
import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from tests.bridges.channels.testing import situations
from tests.bridges.channels.testing.situations import JumpingLoop, Situation, play, play_all

from greenroom.bridges.channels import testing
from greenroom.bridges.channels.testing import virtual_time

SITUATIONS = list(situations.situations())


@pytest.fixture(scope="module")
def channels() -> list[list[str]]:
    """What came of each situation with Channels' own communicators."""
    assert importlib.util.find_spec("daphne") is not None, "channels.testing needs it"
    done = subprocess.run(
        [sys.executable, situations.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes: list[list[str]] = json.loads(done.stdout)
    return outcomes


@pytest.fixture(autouse=True)
def nothing_is_logged() -> Iterator[None]:
    """Crashes that a situation does not ask for are logged; here there are hundreds."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


async def in_trio() -> list[list[str]]:
    outcomes: dict[int, list[str]] = {}

    async def note(number: int, situation: Situation) -> None:
        outcomes[number] = await play(testing, situation)

    async with trio.open_nursery() as nursery:
        for number, situation in enumerate(SITUATIONS):
            nursery.start_soon(note, number, situation)
    return [outcomes[number] for number in range(len(SITUATIONS))]


@pytest.mark.parametrize("world", ["asyncio", "hosted asyncio", "trio"])
def test_each_situation_comes_out_as_with_channels(world: str, channels: list[list[str]]) -> None:
    match world:
        case "asyncio":
            with asyncio.Runner(loop_factory=JumpingLoop) as runner:
                ours = runner.run(play_all(testing))
        case "hosted asyncio":
            ours = virtual_time(play_all)(testing)
        case _:
            ours = trio.run(in_trio, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(ours) == len(channels) > 1900
    different = [
        f"{situation}:\n  Channels: {theirs}\n  ours:     {mine}"
        for situation, theirs, mine in zip(SITUATIONS, channels, ours, strict=True)
        if theirs != mine
    ]
    assert not different, f"{len(different)} differ, such as\n" + "\n".join(different[:10])
