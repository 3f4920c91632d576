"""Tests of named channels served in this process."""

from typing import Any

import pytest
import trio
import trio.testing

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer
from greenroom.bridges.channels.worker import serve_channels


async def test_consumer_keeps_its_state_and_a_new_one_follows_a_failed_one(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    done, told = trio.Event(), []

    class Job(AsyncConsumer):
        count = 0

        async def job_run(self, message: dict[str, Any]) -> None:
            self.count += 1
            told.append((self.scope["channel"], self.count))

        async def job_fail(self, message: dict[str, Any]) -> None:
            raise OSError("no disk")

        async def job_end(self, message: dict[str, Any]) -> None:
            done.set()

    with trio.fail_after(10):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            await nursery.start(serve_channels, Job.as_asgi(), ["jobs"])
            await layer.send("jobs", {"type": "job.run"})
            await layer.send("jobs", {"type": "job.run"})
            await trio.testing.wait_all_tasks_blocked()
            await layer.send("jobs", {"type": "job.fail"})
            await trio.testing.wait_all_tasks_blocked()
            await layer.send("jobs", {"type": "job.run"})
            await layer.send("jobs", {"type": "job.end"})
            await done.wait()
            nursery.cancel_scope.cancel()
    assert told == [("jobs", 1), ("jobs", 2), ("jobs", 1)]
    assert caplog.messages == ["the application failed in channel jobs"]


async def test_consumer_of_a_channel_has_nobody_to_send_to(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[str] = []

    class Sends(SyncConsumer):
        def job_run(self, message: dict[str, Any]) -> None:
            try:
                self.send({"type": "answer"})
            except RuntimeError as error:
                refused.append(str(error))
            self.channel_layer.send(message["reply_to"], {"type": "done"})

    with trio.fail_after(10):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            await nursery.start(serve_channels, Sends.as_asgi(), ["jobs"])
            await layer.send("jobs", {"type": "job.run", "reply_to": "replies"})
            assert await layer.receive("replies") == {"type": "done"}
            nursery.cancel_scope.cancel()
    assert refused == [
        "a consumer of a named channel has no client to send 'answer' to; "
        "use self.channel_layer.send()"
    ]
    assert caplog.records == []


async def test_channels_need_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.bridges.channels.worker.get_channel_layer", lambda: None)
    with pytest.raises(ValueError, match="Channel layer is not valid"):
        await serve_channels(AsyncConsumer.as_asgi(), ["jobs"])
