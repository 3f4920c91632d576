"""The selector of a hosted loop: when a burst of turns goes on, and when it ends."""

import math
import socket
from collections.abc import Iterator
from selectors import EVENT_READ

import pytest

from greenroom.bridges.asyncio._selector import TURNS, BurstSelector


@pytest.fixture
def ends() -> list[float | str]:
    return []


@pytest.fixture
def selector(ends: list[float | str]) -> Iterator[BurstSelector]:
    selector = BurstSelector()
    selector.on_idle = ends.append
    selector.on_tired = lambda: ends.append("tired")
    selector.begin_burst()
    yield selector
    selector.close()


@pytest.mark.parametrize(("timeout", "idle_for"), [(None, math.inf), (5.0, 5.0)])
def test_a_burst_ends_when_nothing_is_ready_and_no_timer_is_due(
    selector: BurstSelector, ends: list[float | str], timeout: float | None, idle_for: float
) -> None:
    assert selector.select(timeout) == []
    assert ends == [idle_for]


def test_a_burst_ends_after_its_turns_although_callbacks_are_ready(
    selector: BurstSelector, ends: list[float | str]
) -> None:
    for _ in range(TURNS - 1):
        selector.select(0)
    assert ends == []
    selector.select(0)
    assert ends == ["tired"]


def test_a_burst_goes_on_with_events_and_asks_for_them_only_when_trio_has_seen_some(
    selector: BurstSelector, ends: list[float | str]
) -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        selector.register(reader, EVENT_READ)
        writer.send(b"x")
        assert selector.select(0) == []
        selector.ready = True
        assert [key.fileobj for key, _ in selector.select(None)] == [reader]
        assert ends == []
        reader.recv(1)
        assert selector.select(None) == []
        assert ends == [math.inf]
