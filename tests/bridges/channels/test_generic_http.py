"""Tests of the HTTP consumer: body, response, and what ends it."""

import asyncio
from typing import Any

import pytest
from tests.bridges.channels.serving import Wire, exchange

from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer

SCOPE = {"type": "http", "method": "POST", "path": "/"}


class Answers(AsyncHttpConsumer):
    left = 0

    async def handle(self, body: bytes) -> None:
        await self.send_response(201, b"got " + body, headers={b"a": b"b"})

    async def disconnect(self) -> None:
        type(self).left += 1


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_whole_body_goes_to_handle_and_the_answer_back() -> None:
    Answers.left = 0
    assert exchange(Answers.as_asgi(), SCOPE, body(b"a", more=True), body(b"b")) == [
        {"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]},
        {"type": "http.response.body", "body": b"got ab", "more_body": False},
    ]
    assert Answers.left == 1


def test_client_that_leaves_before_its_body_is_complete_ends_the_consumer() -> None:
    Answers.left = 0
    gone = {"type": "http.disconnect"}
    assert exchange(Answers.as_asgi(), SCOPE, body(b"a", more=True), gone) == []
    assert Answers.left == 1


def test_failing_handle_disconnects_once_and_raises() -> None:
    class Fails(Answers):
        async def handle(self, body: bytes) -> None:
            raise OSError("no disk")

    Fails.left = 0
    with pytest.raises(OSError, match="no disk"):
        exchange(Fails.as_asgi(), SCOPE, body(b""))
    assert Fails.left == 1


def test_handle_has_to_be_written_and_a_body_is_bytes() -> None:
    with pytest.raises(NotImplementedError, match="must provide a handle"):
        exchange(AsyncHttpConsumer.as_asgi(), SCOPE, body(b""))

    class Text(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_body("text")  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="Body is not bytes"):
        exchange(Text.as_asgi(), SCOPE, body(b""))


def test_unfinished_response_is_finished_by_a_message_of_the_layer(
    layer: InMemoryChannelLayer,
) -> None:
    class LongPoll(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.channel_layer.group_add("polls", self.channel_name)
            await self.send_headers(headers=[(b"content-type", b"text/plain")])
            await self.send_body(b"", more_body=True)

        async def chat_message(self, event: dict[str, Any]) -> None:
            await self.send_body(event["text"].encode())

    async def main() -> list[dict[str, Any]]:
        wire = Wire(body(b""))
        running = asyncio.create_task(LongPoll.as_asgi()(SCOPE, wire.receive, wire.send))
        await wire.answered.wait()
        await layer.group_send("polls", {"type": "chat.message", "text": "at last"})
        await asyncio.wait_for(running, 10)
        return wire.sent

    assert [message.get("body") for message in asyncio.run(main())] == [None, b"", b"at last"]
