"""Calling applications across flavours: routes, tasks that are left, scopes of the runtime."""

import asyncio
import contextvars
import inspect
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from greenroom.actors import ExitReason, Lane, Mailbox, Normal, open_dynamic_supervisor
from greenroom.bridges.asyncio import (
    HostedScope,
    MailboxWaiter,
    NoHostedLoop,
    TaskCancelled,
    anywhere,
    call_app,
    hosted,
    open_hosted_loop,
    wait_mailbox,
)
from greenroom.runtime import App, Receive, Scope, Send, restarts_in_place
from greenroom.runtime.flavours import flavour_of, speaks
from greenroom.runtime.restarting import EXTENSION
from greenroom.runtime.scopes import EVENTS, MESSAGES, SCOPE_SPEC, ScopeActor, scope_ended

Message = dict[str, Any]


class Scene(ScopeActor):
    """A scope without a socket: what is sent is kept, and it can be congested."""

    def __init__(self, app: Any = None) -> None:
        super().__init__(app, {"type": "test"})
        self.sent: list[Message] = []
        self.room = 1_000_000
        self.writers: list[Callable[[], object]] = []
        self.times_read_ready = 0

    @property
    def congested(self) -> bool:
        return self.room <= 0

    def send_nowait(self, message: Message) -> bool:
        self.sent.append(message)
        self.room -= 1
        return self.room > 0

    def wake_writer_with(self, wake: Callable[[], object]) -> None:
        self.writers.append(wake)

    def make_room(self, room: int) -> None:
        self.room = room
        writers, self.writers = self.writers, []
        for wake in writers:
            wake()

    def read_ready(self) -> None:
        self.times_read_ready += 1

    def ended(self, reason: ExitReason) -> None:
        """Say nothing."""


async def echo(scope: Message, receive: Any, send: Any) -> None:
    asyncio.get_running_loop()
    while (message := await receive())["type"] != "end":
        await send({"type": "echo", "text": message["text"]})


@speaks("trio")
async def trio_echo(scope: Message, receive: Any, send: Any) -> None:
    assert trio.lowlevel.in_trio_task()
    while (message := await receive())["type"] != "end":
        await send({"type": "echo", "text": message["text"]})


@speaks("both")
async def router(scope: Message, receive: Any, send: Any) -> None:
    await call_app(scope["inner"], scope, receive, send)


def say(scene: Scene, *texts: str) -> None:
    for text in texts:
        scene.mailbox.put({"type": "say", "text": text}, EVENTS)


def texts_of(scene: Scene) -> list[str]:
    return [message["text"] for message in scene.sent]


async def test_an_asyncio_application_is_served_through_the_actors_mailbox_and_transport() -> None:
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        scene = Scene()
        say(scene, "already there")
        nursery.start_soon(call_app, echo, {}, scene.receive, scene.send)
        await trio.testing.wait_all_tasks_blocked()
        assert texts_of(scene) == ["already there"]
        assert scene.times_read_ready > 0
        say(scene, "one", "two")
        scene.mailbox.put({"type": "end"}, EVENTS)
    assert texts_of(scene) == ["already there", "one", "two"]


async def test_a_channel_layer_message_does_not_disturb_receive() -> None:
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        scene = Scene()
        nursery.start_soon(call_app, echo, {}, scene.receive, scene.send)
        await trio.testing.wait_all_tasks_blocked()
        scene.mailbox.put({"type": "from.layer"}, MESSAGES)
        await trio.testing.wait_all_tasks_blocked()
        say(scene, "one")
        scene.mailbox.put({"type": "end"}, EVENTS)
    assert texts_of(scene) == ["one"]
    assert scene.mailbox.depth(MESSAGES) == 1


async def test_a_slow_client_holds_its_sender_back_until_it_has_read() -> None:
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        scene = Scene()
        scene.room = 2
        say(scene, *"abcde")
        scene.mailbox.put({"type": "end"}, EVENTS)
        nursery.start_soon(call_app, echo, {}, scene.receive, scene.send)
        await trio.testing.wait_all_tasks_blocked()
        assert texts_of(scene) == ["a", "b"]
        scene.make_room(2)
        await trio.testing.wait_all_tasks_blocked()
        assert texts_of(scene) == ["a", "b", "c", "d"]
        scene.make_room(0)  # woken, but the client has read nothing
        await trio.testing.wait_all_tasks_blocked()
        assert texts_of(scene) == ["a", "b", "c", "d"]
        scene.make_room(9)
    assert texts_of(scene) == ["a", "b", "c", "d", "e"]


async def test_two_tasks_that_receive_at_once_get_one_message_each() -> None:
    async def pair(scope: Message, receive: Any, send: Any) -> None:
        for message in await asyncio.gather(receive(), receive()):
            await send(message)

    async with open_hosted_loop(), trio.open_nursery() as nursery:
        scene = Scene()
        nursery.start_soon(call_app, pair, {}, scene.receive, scene.send)
        await trio.testing.wait_all_tasks_blocked()
        say(scene, "one")
        await trio.testing.wait_all_tasks_blocked()
        say(scene, "two")
    assert texts_of(scene) == ["one", "two"]


async def test_a_cancelled_receive_loses_no_message() -> None:
    async def impatient(scope: Message, receive: Any, send: Any) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0)
        await send(await receive())

    async with open_hosted_loop(), trio.open_nursery() as nursery:
        scene = Scene()
        nursery.start_soon(call_app, impatient, {}, scene.receive, scene.send)
        await trio.testing.wait_all_tasks_blocked()
        say(scene, "one")
    assert texts_of(scene) == ["one"]


async def test_an_application_that_never_waits_lets_others_have_their_turn() -> None:
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        greedy, modest = Scene(), Scene()
        say(greedy, *("x" for _ in range(1000)))
        say(modest, "y")
        nursery.start_soon(call_app, echo, {}, greedy.receive, greedy.send)
        nursery.start_soon(call_app, echo, {}, modest.receive, modest.send)
        while not modest.sent:
            await trio.lowlevel.checkpoint()
        assert len(greedy.sent) < 500
        nursery.cancel_scope.cancel()


async def test_a_wrapped_receive_and_send_are_honoured() -> None:
    async def loud(scope: Message, receive: Any, send: Any) -> None:
        async def louder(message: Message) -> None:
            assert trio.lowlevel.in_trio_task()
            await send({**message, "text": message["text"].upper()})

        async def exclaiming() -> Message:
            message = await receive()
            return {**message, "text": message.get("text", "") + "!"}

        await call_app(echo, scope, exclaiming, louder)

    async with open_hosted_loop(), trio.open_nursery() as nursery:
        scene = Scene()
        say(scene, "one", "two")
        scene.mailbox.put({"type": "end"}, EVENTS)
        nursery.start_soon(loud, {}, scene.receive, scene.send)
    assert texts_of(scene) == ["ONE!", "TWO!"]


async def test_a_trio_application_behind_an_asyncio_one_gets_the_actors_own_methods() -> None:
    seen = []

    @speaks("trio")
    async def inner(scope: Message, receive: Any, send: Any) -> None:
        seen.append((receive, send))
        await trio_echo(scope, receive, send)

    async def middleware(scope: Message, receive: Any, send: Any) -> None:
        assert isinstance(receive.__self__, HostedScope)
        await call_app(inner, scope, receive, send)

    async with open_hosted_loop():
        scene = Scene()
        say(scene, "one")
        scene.mailbox.put({"type": "end"}, EVENTS)
        await call_app(middleware, {}, scene.receive, scene.send)
    assert seen == [(scene.receive, scene.send)]
    assert texts_of(scene) == ["one"]


async def test_a_trio_application_behind_a_wrapping_asyncio_one_crosses_back() -> None:
    async def middleware(scope: Message, receive: Any, send: Any) -> None:
        async def louder(message: Message) -> None:
            asyncio.get_running_loop()
            await send({**message, "text": message["text"].upper()})

        async def plain() -> Message:
            message: Message = await receive()
            return message

        await call_app(trio_echo, scope, plain, louder)

    async with open_hosted_loop():
        scene = Scene()
        say(scene, "one")
        scene.mailbox.put({"type": "end"}, EVENTS)
        await call_app(middleware, {}, scene.receive, scene.send)
    assert texts_of(scene) == ["ONE"]


@pytest.mark.parametrize("inner", [echo, trio_echo])
async def test_a_router_of_both_flavours_passes_on_under_trio(inner: Any) -> None:
    async with open_hosted_loop():
        scene = Scene()
        say(scene, "one")
        scene.mailbox.put({"type": "end"}, EVENTS)
        await call_app(router, {"inner": inner}, scene.receive, scene.send)
    assert texts_of(scene) == ["one"]


async def in_asyncio(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await call_app(app, scope, receive, send)


def test_on_another_servers_loop_asyncio_applications_run_as_they_are() -> None:
    sent = []
    messages = [{"type": "say", "text": "one"}, {"type": "end"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message["text"])

    asyncio.run(in_asyncio(router, {"inner": echo}, receive, send))
    assert sent == ["one"]


def test_in_a_trio_program_that_hosts_no_loop_one_is_opened_until_its_end() -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[None]] = []
    ended: list[str] = []

    async def leave_a_task(_scope: Message, _receive: Any, _send: Any) -> None:
        loops.append(asyncio.get_running_loop())
        tasks.append(asyncio.create_task(last(), context=contextvars.Context()))
        await asyncio.sleep(0)

    async def last() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    async def call() -> None:
        scene = Scene()
        await call_app(leave_a_task, {}, scene.receive, scene.send)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
        await call()
        assert ended == []

    for _ in range(2):
        trio.run(main)
        assert len(set(loops)) == 1
        assert loops.pop().is_closed()
        assert ended == ["task"] * 3
        loops.clear()
        ended.clear()


async def test_where_no_loop_can_be_hosted_an_asyncio_application_is_refused_with_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on Windows.
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    scene = Scene()
    with pytest.raises(NoHostedLoop) as refused:
        await call_app(echo, {}, scene.receive, scene.send)
    assert "epoll or kqueue" in str(refused.value.__cause__)


def test_hosted_leaves_trio_applications_and_routers_as_they_are() -> None:
    assert hosted(trio_echo) is trio_echo
    assert hosted(router) is router
    assert flavour_of(hosted(echo)) == "trio"


@pytest.mark.parametrize("inner", [echo, trio_echo])
def test_a_server_that_knows_no_flavours_awaits_any_application_that_is_made_for_it(
    inner: Any,
) -> None:
    sent: list[str] = []
    messages = [{"type": "say", "text": "one"}, {"type": "end"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message["text"])

    app = anywhere(inner)
    assert inspect.iscoroutinefunction(app)  # by which they know ASGI 3
    assert (flavour_of(app), anywhere(app)) == ("both", app)
    asyncio.run(app({}, receive, send))
    assert sent == ["one"]
    scene = Scene()
    say(scene, "two")
    scene.mailbox.put({"type": "end"}, EVENTS)
    trio.run(app, {}, scene.receive, scene.send)
    assert texts_of(scene) == ["two"]


async def test_a_plain_function_that_returns_a_coroutine_is_an_application_too() -> None:
    def factory(scope: Message, receive: Any, send: Any) -> Awaitable[None]:
        asyncio.get_running_loop()
        return echo(scope, receive, send)

    async with open_hosted_loop():
        scene = Scene()
        say(scene, "one")
        scene.mailbox.put({"type": "end"}, EVENTS)
        await hosted(factory)({}, scene.receive, scene.send)
    assert texts_of(scene) == ["one"]


async def test_tasks_that_an_application_leaves_are_cancelled_and_awaited_at_its_end() -> None:
    seen = []

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            seen.append(name)
            if name == "first":
                asyncio.create_task(linger("born late"))  # noqa: RUF006
                await asyncio.sleep(0)

    async def careless(scope: Message, receive: Any, send: Any) -> None:
        asyncio.create_task(linger("first"))  # noqa: RUF006
        asyncio.ensure_future(linger("second"))  # noqa: RUF006
        await asyncio.sleep(0)

    async with open_hosted_loop() as loop:
        scene = Scene()
        await call_app(careless, {}, scene.receive, scene.send)
        assert sorted(seen) == ["born late", "first", "second"]
        assert asyncio.all_tasks(loop.loop) == set()


async def test_tasks_of_one_application_survive_the_end_of_another() -> None:
    async def short(scope: Message, receive: Any, send: Any) -> None: ...

    async def long(scope: Message, receive: Any, send: Any) -> None:
        task = asyncio.create_task(receive())
        await send(await task)

    async with open_hosted_loop(), trio.open_nursery() as nursery:
        scene = Scene()
        nursery.start_soon(call_app, long, {}, scene.receive, scene.send)
        await trio.testing.wait_all_tasks_blocked()
        await call_app(short, {}, scene.receive, scene.send)
        say(scene, "one")
    assert texts_of(scene) == ["one"]


class Lasting(Scene):
    """A scope whose client is there whatever happens."""

    restartable = True


async def test_a_restart_in_place_ends_the_tasks_of_the_call_that_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @restarts_in_place()
    async def reads_in_a_task(scope: Message, receive: Any, send: Any) -> None:
        reading = asyncio.create_task(receive(), name="reader")
        await asyncio.sleep(0)
        if EXTENSION not in scope.get("extensions", {}):
            raise ValueError("while its task waits")
        await send(await reading)

    async with open_hosted_loop(), open_dynamic_supervisor(on_exit=scope_ended) as supervisor:
        scene = Lasting(hosted(reads_in_a_task))
        ref = supervisor.start_child(SCOPE_SPEC, scene)
        await trio.testing.wait_all_tasks_blocked()
        say(scene, "one")
        assert isinstance(await ref.join(), Normal)
    assert texts_of(scene) == ["one"]
    first, second = caplog.messages
    assert "'reader'" in first
    assert second == "the application failed in test and is called again (restart 1)"


async def test_a_task_with_an_empty_context_belongs_to_nobody() -> None:
    kept = []

    async def starts(scope: Message, receive: Any, send: Any) -> None:
        kept.append(asyncio.create_task(asyncio.sleep(3600), context=contextvars.Context()))
        await asyncio.sleep(0)

    async with open_hosted_loop():
        scene = Scene()
        await call_app(starts, {}, scene.receive, scene.send)
        await trio.testing.wait_all_tasks_blocked()
        assert not kept[0].done()
    assert kept[0].cancelled()


async def test_cancelling_the_scope_cancels_application_and_tasks_and_waits_for_both() -> None:
    seen = []

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            seen.append(name)

    async def app(scope: Message, receive: Any, send: Any) -> None:
        asyncio.create_task(linger("task"))  # noqa: RUF006
        await linger("application")

    async with open_hosted_loop():
        scene = Scene()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call_app, app, {}, scene.receive, scene.send)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        assert seen == ["application", "task"]


async def test_an_escaping_asyncio_cancellation_is_an_ordinary_failure_of_the_application() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    async with open_hosted_loop():
        scene = Scene()
        with pytest.raises(TaskCancelled):
            await call_app(app, {}, scene.receive, scene.send)


async def test_each_call_has_a_context_of_its_own() -> None:
    language: contextvars.ContextVar[str] = contextvars.ContextVar("language", default="en")
    seen = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        seen.append(language.get())
        language.set("fr")

    async with open_hosted_loop():
        scene = Scene()
        for _ in range(2):
            await call_app(app, {}, scene.receive, scene.send)
    assert seen == ["en", "en"]
    assert language.get() == "en"


async def test_wait_mailbox_wakes_for_every_lane_in_both_flavours() -> None:
    woken = []

    async def wait(name: str, mailbox: Any) -> None:
        await wait_mailbox(mailbox)
        woken.append(name)

    async with open_hosted_loop() as loop, trio.open_nursery() as nursery:
        one, two = Scene(), Scene()
        nursery.start_soon(wait, "trio", one.mailbox)
        nursery.start_soon(loop.run_asyncio, wait, "asyncio", two.mailbox)
        await trio.testing.wait_all_tasks_blocked()
        one.mailbox.put({}, MESSAGES)
        two.mailbox.put({}, EVENTS)
    assert sorted(woken) == ["asyncio", "trio"]


async def test_a_mailbox_has_one_waiter_and_a_cancelled_one_makes_room() -> None:
    async def crowd(mailbox: Any) -> None:
        first = asyncio.create_task(wait_mailbox(mailbox))
        await asyncio.sleep(0)
        with pytest.raises(trio.BusyResourceError):
            await wait_mailbox(mailbox)
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(wait_mailbox(mailbox))
        await asyncio.sleep(0)
        mailbox.put({})
        await second

    async with open_hosted_loop() as loop:
        await loop.run_asyncio(crowd, Scene().mailbox)


async def test_a_waiter_waits_again_also_after_a_wait_that_was_cancelled() -> None:
    mailbox = Mailbox(Lane(), Lane())

    async def wait_twice() -> list[str]:
        waiter = MailboxWaiter(mailbox)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiter.wait(), 1)
        woken = []
        for word in ("one", "two"):
            waiting = asyncio.ensure_future(waiter.wait())
            asyncio.get_running_loop().call_soon(mailbox.put, word, 1)
            await waiting
            woken.append(mailbox.get_nowait())
        return woken

    async with open_hosted_loop() as loop:
        assert await loop.run_asyncio(wait_twice) == ["one", "two"]


async def test_a_waiter_is_refused_a_mailbox_that_somebody_else_waits_for() -> None:
    mailbox = Mailbox(Lane())

    async def wait() -> None:
        first = asyncio.ensure_future(MailboxWaiter(mailbox).wait())
        with pytest.raises(trio.BusyResourceError):
            await MailboxWaiter(mailbox).wait()
        mailbox.put("one")
        await first

    async with open_hosted_loop() as loop:
        await loop.run_asyncio(wait)
