"""The tour through what actors can do."""

import pytest
import trio
import trio.testing
from examples.actors import tour


async def test_the_tour_shows_one_of_each(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    await tour.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "total: 30",
        "/shop/till failed to reply: ValueError('nobody pays -5')",
        "total: 20",
        "SendReport(sent=1, accepted=1, refused=())",
        "guard: the doors are closed",
        "guard: time for a round",
    ]
    assert lines[6].startswith("shop ")
    assert lines[7].startswith("├─ till ")
    assert "restarted once, the last after Crash: ValueError: nobody pays -5" in lines[7]
    assert lines[8].startswith("└─ guard ")
    assert lines[-1] == "guard: the till has ended: Shutdown(by='closing time')"
