import logging
import types
from collections.abc import Generator

import pytest
import trio
import trio.testing

from greenroom.actors import Context, Crash, Delivery, Normal, Shutdown
from greenroom.runtime import LocalProtocolError, Message, Receive, Scope, Send, open_scopes
from greenroom.runtime.scopes import Conversation


class Replies:
    """The sending side of a server of some protocol."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def __call__(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)


async def shout(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer each text in capitals, until one is empty."""
    while text := (await receive())["text"]:
        await send({"type": "chat.message", "text": text.upper()})


async def test_a_conversation_is_one_call_of_the_application() -> None:
    replies = Replies()
    async with open_scopes(shout) as scopes:
        conversation = scopes.open({"type": "chat", "user": "ada"}, send=replies)
        assert len(scopes) == 1
        for text in ("one", "two", ""):
            await conversation.feed({"type": "chat.message", "text": text})
        assert isinstance(await conversation.join(), Normal)
        assert len(scopes) == 0
    assert [message["text"] for message in replies.sent] == ["ONE", "TWO"]


async def test_a_scope_gets_the_version_of_asgi_where_the_server_gave_none() -> None:
    seen: list[Scope] = []

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async with open_scopes(record) as scopes:
        await scopes.open({"type": "chat"}, send=Replies()).join()
    assert seen[0]["asgi"]["version"] == "3.0"


async def test_a_crash_ends_one_conversation_only_and_is_logged_with_its_scope(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replies = Replies()

    async def fail_on_demand(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/crash":
            raise ValueError("on demand")
        await shout(scope, receive, send)

    async with open_scopes(fail_on_demand) as scopes:
        neighbour = scopes.open({"type": "chat", "path": "/"}, send=replies)
        crashed = scopes.open({"type": "chat", "path": "/crash"}, send=replies)
        reason = await crashed.join()
        assert isinstance(reason, Crash)
        assert isinstance(reason.error, ValueError)
        await neighbour.feed({"type": "chat.message", "text": "still here"})
        await trio.testing.wait_all_tasks_blocked()
        assert replies.sent[0]["text"] == "STILL HERE"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert ["chat /crash" in record.getMessage() for record in errors] == [True]


async def test_feeding_waits_for_an_application_that_is_behind(nursery: trio.Nursery) -> None:
    go_on = trio.Event()
    fed = 0

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await shout(scope, receive, send)

    async with open_scopes(late) as scopes:
        conversation = scopes.open({"type": "chat"}, send=Replies())

        async def feed_on() -> None:
            nonlocal fed
            for _ in range(200):
                await conversation.feed({"type": "chat.message", "text": "x"})
                fed += 1

        nursery.start_soon(feed_on)
        await trio.testing.wait_all_tasks_blocked()
        assert fed == 64
        assert not conversation.put({"type": "chat.message", "text": "x"}).accepted
        go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert fed == 200


async def test_an_ended_conversation_lets_go_who_feeds_it(nursery: trio.Nursery) -> None:
    delivered: list[Delivery] = []

    async def sleep(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with open_scopes(sleep) as scopes:
        conversation = scopes.open({"type": "chat"}, send=Replies())

        async def feed_on() -> None:
            delivered.extend([await conversation.feed({"type": "chat.message"}) for _ in range(65)])

        nursery.start_soon(feed_on)
        await trio.testing.wait_all_tasks_blocked()
        conversation.stop()
        assert isinstance(await conversation.join(), Shutdown)
        await trio.testing.wait_all_tasks_blocked()
    assert delivered == [Delivery.ACCEPTED] * 64 + [Delivery.DEAD]


async def test_what_is_no_message_never_reaches_the_servers_send(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replies = Replies()

    async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"text": "no type"})

    async with open_scopes(wrong) as scopes:
        reason = await scopes.open({"type": "chat"}, send=replies).join()
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, LocalProtocolError)
    assert replies.sent == []


async def test_a_scope_without_a_type_is_refused_to_the_server() -> None:
    async with open_scopes(shout) as scopes:
        with pytest.raises(ValueError, match="'type'"):
            scopes.open({"path": "/"}, send=Replies())


async def test_application_whose_coroutine_is_closed_does_not_fail() -> None:
    @types.coroutine
    def suspend() -> Generator[None, None, None]:
        yield

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await suspend()

    async def begin() -> None:
        life.send(None)

    conversation = Conversation(app, {"type": "chat"}, Replies())
    life = conversation.run(Context.__new__(Context))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin)
    life.close()  # as the garbage collector does; raises what is not a GeneratorExit
