"""Tests of how a handler in a thread sends."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from greenroom.actors import ExitReason
from greenroom.bridges.channels._outlet import Outlet
from greenroom.bridges.threads import call_home, run_sync
from greenroom.runtime import LocalProtocolError, ScopeActor


async def nothing(scope: Any, receive: Any, send: Any) -> None: ...


class Sink(ScopeActor):
    """A client that reads when the test says so."""

    def __init__(self) -> None:
        super().__init__(nothing, {"type": "test"})
        self.sent: list[str] = []
        self.full = False
        self.wake: Callable[[], object] | None = None
        self.waited_for = trio.Event()

    @property
    def congested(self) -> bool:
        return self.full

    def send_nowait(self, message: dict[str, Any]) -> bool:
        if message["type"] == "wrong":
            raise LocalProtocolError("no such message")
        self.sent.append(message["type"])
        return not self.full

    def wake_writer_with(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.waited_for.set()

    def ended(self, reason: ExitReason) -> None: ...


async def test_messages_are_written_in_order_before_the_handlers_end() -> None:
    sink = Sink()
    outlet = Outlet(sink)

    def handler() -> None:
        for name in "abc":
            outlet({"type": name})

    await run_sync(handler)
    assert sink.sent == ["a", "b", "c"]


async def test_thread_waits_for_a_client_that_does_not_read() -> None:
    sink = Sink()
    outlet = Outlet(sink)
    sink.full = True

    def handler() -> None:
        outlet({"type": "a"})
        call_home(lambda: None)  # what was handed over is written now
        outlet({"type": "b"})
        outlet({"type": "c"})

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_sync, handler)
            await sink.waited_for.wait()
            assert sink.sent == ["a"]
            sink.full = False
            assert sink.wake is not None
            sink.wake()
    assert sink.sent == ["a", "b", "c"]


async def test_what_is_wrong_with_a_message_is_raised_by_the_handler() -> None:
    sink = Sink()
    outlet = Outlet(sink)

    def handler() -> None:
        outlet({"type": "wrong"})

    with pytest.raises(LocalProtocolError, match="no such message"):
        await run_sync(handler)
