"""Applications that speak only trio, on a loop of asyncio's own, as under another server."""

import asyncio
import contextvars
import gc
import selectors
import signal
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sniffio
import trio
import trio.testing
from asgiref.sync import async_to_sync
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import Actor, ActorRef, ChildSpec, open_actor_system
from greenroom.bridges.asyncio import (
    NoHostedLoop,
    OuterLoop,
    call_app,
    current_hosted_loop,
    open_hosted_loop,
)
from greenroom.bridges.asyncio import _guest as guest_module
from greenroom.bridges.threads import Home, Lease, call_home, run_sync
from greenroom.runtime import Receive, Scope, Send
from greenroom.runtime.flavours import speaks

T = TypeVar("T")
Message = dict[str, Any]

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture(params=["turned by the loop", "with a thread that waits"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which a loop can have a trio run as its guest."""
    if request.param == "with a thread that waits":
        monkeypatch.setattr(guest_module, "_look_inside", lambda _tick: None)
    way: str = request.param
    return way


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No test leaves a trio run, or a descriptor, in this thread."""
    before = len(list(DESCRIPTORS.iterdir()))
    yield
    assert not trio.lowlevel.in_trio_run()
    assert len(list(DESCRIPTORS.iterdir())) <= before


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nothing else is left to do."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(JumpingSelector(self))

    def time(self) -> float:
        """Give the time that was jumped to."""
        return self.now


class JumpingSelector(selectors.EpollSelector):
    """Never waits for a timer."""

    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        """Tell what is ready, or let time pass if nothing is."""
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self._loop.now += timeout
        return ready


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a program in virtual time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


class Client:
    """The other end of a scope: a queue of what it says, and a list of what it hears."""

    def __init__(self, *messages: str) -> None:
        self.says: asyncio.Queue[Message] = asyncio.Queue()
        self.heard: list[Message] = []
        self.say(*messages)

    def say(self, *messages: str) -> None:
        for each in messages:
            self.says.put_nowait({"type": each})

    async def send(self, message: Message) -> None:
        assert sniffio.current_async_library() == "asyncio"
        await asyncio.sleep(0)
        self.heard.append(message)

    async def receive(self) -> Message:
        assert sniffio.current_async_library() == "asyncio"
        return await self.says.get()

    async def call(self, app: Any, scope: Message | None = None) -> None:
        await call_app(app, scope or {}, self.receive, self.send)

    @property
    def words(self) -> list[str]:
        return [each["type"] for each in self.heard]


@speaks("trio")
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "end":
        assert sniffio.current_async_library() == "trio"
        await trio.lowlevel.checkpoint()
        await send(message)


def of_trio(fn: Callable[[], Awaitable[object]]) -> Any:
    """Make an application that speaks trio of a function that asks for no messages."""

    @speaks("trio")
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await fn()

    return app


def left() -> list[object]:
    """Tell what is left of a trio run in this thread and its loop, but for the current task."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return [*tasks, *(["a trio run"] if trio.lowlevel.in_trio_run() else [])]


async def some_turns() -> None:
    """Let everything go as far as it can without anybody's message."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_an_application_for_trio_talks_to_its_client_and_leaves_nothing(way: str) -> None:
    async def main() -> None:
        client = Client("one", "two", "end")
        await client.call(echo)
        assert client.words == ["one", "two"]
        assert left() == []

    threads = threading.active_count()
    asyncio.run(main())
    if way == "turned by the loop":
        assert threading.active_count() == threads


def test_scopes_of_one_loop_share_a_trio_run_that_ends_with_the_last(way: str) -> None:
    tokens = set()

    @speaks("trio")
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tokens.add(trio.lowlevel.current_trio_token())
        await echo(scope, receive, send)

    async def main() -> None:
        clients = [Client("word") for _ in range(3)]
        tasks = [asyncio.create_task(client.call(app)) for client in clients]
        for client, task in zip(clients, tasks, strict=True):
            assert trio.lowlevel.in_trio_run() or client is clients[0]
            client.say("end")
            await task
            assert client.words == ["word"]
        assert left() == []
        assert len(tokens) == 1
        another = Client("end")
        await another.call(app)
        assert len(tokens) == 2

    asyncio.run(main())


def test_a_scope_that_comes_while_the_run_ends_gets_another(way: str) -> None:
    """However far the end of the run is when it comes."""

    async def main() -> None:
        for moment in range(30):
            first, second = Client("end"), Client("word", "end")
            ending = asyncio.create_task(first.call(echo))
            for _ in range(moment):
                await asyncio.sleep(0)
            await second.call(echo)
            await ending
            assert second.words == ["word"]
            assert left() == []

    asyncio.run(main())


colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def test_a_scope_has_its_context_in_trio_and_brings_back_what_is_set_there() -> None:
    seen = []

    @speaks("trio")
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append(colour.get())
        colour.set(colour.get().upper())

    async def main() -> None:
        async def paint(name: str) -> None:
            colour.set(name)
            await Client("end").call(app)
            assert colour.get() == name.upper()

        await asyncio.gather(paint("red"), paint("blue"))
        await Client("end").call(app)

    asyncio.run(main())
    assert sorted(seen) == ["blue", "none", "red"]


# What ends an application, and how.


def test_a_cancelled_scope_is_over_when_its_trio_code_is_at_whatever_moment_it_comes(
    way: str,
) -> None:
    async def main() -> None:
        began = 0
        for moment in range(40):
            journal: list[str] = []
            client = Client("one", "two", "three")

            @speaks("trio")
            async def app(
                scope: Scope, receive: Receive, send: Send, journal: list[str] = journal
            ) -> None:
                journal.append("began")
                try:
                    await echo(scope, receive, send)
                finally:
                    with trio.CancelScope(shield=True):
                        await send({"type": "goodbye"})
                        await run_sync(journal.append, "in a thread")
                        await trio.lowlevel.checkpoint()
                    journal.append("ended")

            task = asyncio.create_task(client.call(app))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert left() == []
            if journal:
                began += 1
                assert journal == ["began", "in a thread", "ended"]
                assert client.words[-1] == "goodbye"
        assert began > 20

    asyncio.run(main())


def test_asyncio_run_waits_for_the_trio_code_of_the_tasks_that_it_cancels(way: str) -> None:
    ended = []

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            ended.append("scope")

    async def main() -> None:
        tasks.extend(asyncio.create_task(Client().call(of_trio(wait))) for _ in range(3))
        await some_turns()

    tasks: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert all(task.cancelled() for task in tasks)
    assert ended == ["scope"] * 3


def test_a_second_cancellation_does_not_cut_the_cleanup_short() -> None:
    async def main() -> None:
        cleaning, go_on = asyncio.Event(), trio.Event()

        async def wait() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    cleaning.set()
                    await go_on.wait()

        task = asyncio.create_task(Client().call(of_trio(wait)))
        await some_turns()
        task.cancel()
        await cleaning.wait()
        task.cancel()
        await some_turns()
        assert not task.done()
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert left() == []

    asyncio.run(main())


class Failed(Exception):
    """Raised on purpose."""


def test_a_crash_is_raised_as_it_is_with_its_notes(way: str) -> None:
    failure = Failed("in trio")
    failure.add_note("a note of the application's")

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise failure

    async def main() -> None:
        with pytest.raises(Failed) as caught:
            await Client().call(of_trio(fail))
        assert caught.value is failure
        assert failure.__notes__ == ["a note of the application's"]
        assert left() == []

    asyncio.run(main())


def test_a_crash_while_it_is_cancelled_goes_before_the_cancellation() -> None:
    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Failed

    async def main() -> None:
        task = asyncio.create_task(Client().call(of_trio(fail_late)))
        await some_turns()
        task.cancel()
        with pytest.raises(Failed):
            await task
        assert left() == []

    asyncio.run(main())


def test_an_exit_ends_the_scope_and_not_the_loop() -> None:
    from greenroom.runtime._errors import ApplicationExited

    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        with pytest.raises(ApplicationExited) as caught:
            await Client().call(of_trio(leave))
        assert caught.value.code == 3
        assert isinstance(caught.value.__cause__, SystemExit)
        assert left() == []

    asyncio.run(main())


def test_an_interrupt_of_the_application_ends_the_program() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(Client().call(of_trio(interrupt)))


def test_control_c_in_trio_code_ends_a_program_whose_loop_takes_no_signals() -> None:
    ended = []

    async def hear_it() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        finally:
            ended.append("application")

    loop = asyncio.new_event_loop()
    task = loop.create_task(Client().call(of_trio(hear_it)))
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        with pytest.raises(trio.RunFinishedError):
            loop.run_until_complete(task)
        assert ended == ["application"]
    finally:
        loop.close()


def test_a_trio_run_that_fails_lets_nobody_wait_and_another_takes_its_place(way: str) -> None:
    async def fail() -> None:
        raise Failed("in a system task")

    async def start_failing() -> None:
        trio.lowlevel.spawn_system_task(fail)
        await trio.sleep_forever()

    async def main() -> None:
        scopes = [Client().call(app) for app in (echo, of_trio(start_failing))]
        for failure in await asyncio.gather(*scopes, return_exceptions=True):
            assert isinstance(failure, trio.RunFinishedError)
            assert isinstance(failure.__cause__, trio.TrioInternalError)
        client = Client("word", "end")
        await client.call(echo)
        assert client.words == ["word"]
        assert left() == []

    asyncio.run(main())


# Messages.


class ForgetfulClient(Client):
    """Its server loses the message that comes while `receive` is cancelled."""

    async def receive(self) -> Message:
        message = await super().receive()
        for _ in range(3):
            await asyncio.sleep(0)
        return message


# Turns of the loop before a message is said, or before the application gives up waiting.
steps = st.lists(st.tuples(st.sampled_from(["say", "give up"]), st.integers(0, 6)), max_size=12)


@given(steps)
def test_no_message_is_lost_however_often_waiting_for_it_is_given_up(
    steps: list[tuple[str, int]],
) -> None:
    async def main() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        client = ForgetfulClient()
        waits: list[trio.CancelScope] = []

        @speaks("trio")
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while True:
                with trio.CancelScope() as wait:
                    waits.append(wait)
                    message = await receive()
                    client.heard.append(message)
                    if message["type"] == "end":
                        return

        task = asyncio.create_task(client.call(app))
        said: list[str] = []
        for what, turns in steps:
            for _ in range(turns):
                await asyncio.sleep(0)
            if what == "say":
                said.append(f"number {len(said)}")
                client.say(said[-1])
            elif waits:
                waits[-1].cancel()
        client.say("end")
        await task
        assert client.words == [*said, "end"]
        assert left() == complaints == []

    asyncio.run(main())


def test_several_tasks_may_wait_for_messages_at_once() -> None:
    got = []

    @speaks("trio")
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def get() -> None:
            got.append((await receive())["type"])

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(get)

    asyncio.run(Client("one", "two", "three", "four").call(app))
    assert sorted(got) == ["one", "three", "two"]


def test_what_the_servers_side_raises_is_raised_in_trio() -> None:
    failure = Failed("the client has left")

    async def fail(*_: object) -> Any:
        await asyncio.sleep(0)
        raise failure

    @speaks("trio")
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for ask in (receive, lambda: send({})):
            with pytest.raises(Failed) as caught:
                await ask()
            assert caught.value is failure

    async def main() -> None:
        await call_app(app, {}, fail, fail)

    asyncio.run(main())


# What else works in such trio code.


def test_threads_find_their_way_home_to_trio_and_to_the_outer_loop(way: str) -> None:
    async def main() -> None:
        outer = asyncio.get_running_loop()

        async def which_loop() -> bool:
            await asyncio.sleep(0)
            return asyncio.get_running_loop() is outer

        async def which_task() -> object:
            await trio.lowlevel.checkpoint()
            return trio.lowlevel.current_task()

        def block(home: Home) -> list[object]:
            told: list[object] = []
            home.tell(told.append, "told")
            return [async_to_sync(which_loop)(), call_home(which_task), home.call(len, told)]

        async def call_threads() -> None:
            home = Home()
            task = trio.lowlevel.current_task()
            try:
                assert await run_sync(block, home) == [True, task, 1]
                async with Lease() as lease:
                    first = await run_sync(threading.get_ident, pool=lease)
                    assert await run_sync(threading.get_ident, pool=lease) == first
                answers: list[int] = []
                thread = threading.Thread(target=lambda: answers.append(home.call(len, "four")))
                thread.start()
                while not answers:
                    await trio.lowlevel.checkpoint()
                thread.join()
                assert answers == [4]
            finally:
                home.close()

        await Client().call(of_trio(call_threads))
        assert left() == []

    asyncio.run(main())


def test_a_cancelled_scope_waits_for_its_thread() -> None:
    async def main() -> None:
        began, go_on, seen = asyncio.Event(), threading.Event(), []
        loop = asyncio.get_running_loop()

        def block() -> None:
            loop.call_soon_threadsafe(began.set)
            go_on.wait()
            seen.append("over")

        async def wait() -> None:
            await run_sync(block)

        task = asyncio.create_task(Client().call(of_trio(wait)))
        await began.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert seen == ["over"]

    asyncio.run(main())


def test_actors_live_there_and_are_told_from_asyncio_and_from_threads(way: str) -> None:
    async def main() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        class Listener(Actor[str]):
            async def receive(self, message: str) -> None:
                told.put_nowait(message)
                if message == "stop":
                    self.ctx.stop()

        refs: asyncio.Queue[ActorRef[str]] = asyncio.Queue()

        async def keep_actor() -> None:
            async with open_actor_system("house") as system:
                ref = system.spawn(ChildSpec("listener", Listener))
                refs.put_nowait(ref)
                await run_sync(call_home, ref.tell, "from a thread")
                await ref.join()

        task = asyncio.create_task(Client().call(of_trio(keep_actor)))
        ref = await refs.get()
        ref.tell("from asyncio")
        assert {await told.get(), await told.get()} == {"from a thread", "from asyncio"}
        ref.tell("stop")
        await task
        assert left() == []

    asyncio.run(main())


def test_an_asyncio_application_inside_runs_on_the_outer_loop_and_owns_its_tasks() -> None:
    ended = []

    async def main() -> None:
        outer = asyncio.get_running_loop()

        async def linger() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append("task")

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            assert asyncio.get_running_loop() is outer
            asyncio.create_task(linger())  # noqa: RUF006
            await asyncio.sleep(0)
            await call_app(echo, {}, receive, send)  # and back to trio
            await send({"type": "inner"})

        @speaks("trio")
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await call_app(inner, scope, receive, send)
            assert ended == ["task"]
            await echo(scope, receive, send)

        client = Client("one", "end", "two", "end")
        await client.call(app)
        assert client.words == ["one", "inner", "two"]
        assert left() == []

    asyncio.run(main())


def test_trio_code_finds_the_outer_loop_and_asyncio_code_none() -> None:
    async def main() -> None:
        outer = asyncio.get_running_loop()

        async def look() -> None:
            loop = current_hosted_loop()
            assert isinstance(loop, OuterLoop)
            assert loop.loop is outer
            assert loop.time() <= trio.current_time()
            async with open_hosted_loop() as opened:
                assert opened is loop
            assert await loop.run_asyncio(ask) == "asyncio"

        async def ask() -> str:
            await asyncio.sleep(0)
            assert current_hosted_loop() is None
            return sniffio.current_async_library()

        await Client().call(of_trio(look))

    asyncio.run(main())


def test_trio_waits_on_the_clock_of_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        starts: list[float] = []

        async def wait() -> None:
            starts.append(trio.current_time())
            await trio.sleep(60)
            with trio.move_on_after(30) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
            starts.append(trio.current_time())

        before = loop.time()
        await asyncio.gather(Client().call(of_trio(wait)), asyncio.sleep(75))
        assert [each - before for each in starts] == [0, 90]
        assert loop.time() - before == 90

    run_virtually(main())


def test_a_deadline_that_asyncio_code_sets_is_kept() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await trio.sleep(3600)

        task = asyncio.create_task(Client().call(of_trio(wait)))
        await asyncio.sleep(1)
        scope.deadline = loop.time() + 10
        before = loop.time()
        await task
        assert loop.time() - before == 10

    run_virtually(main())


def test_trio_does_its_own_io_and_waits_until_all_is_quiet(way: str) -> None:
    async def main() -> None:
        async def talk() -> None:
            one, other = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in pair)
            async with one, other, trio.open_nursery() as nursery:
                nursery.start_soon(one.send_all, b"x" * 1_000_000)
                received = 0
                while received < 1_000_000:
                    received += len(await other.receive_some())
                nursery.start_soon(other.receive_some)
                await trio.testing.wait_all_tasks_blocked()
                await trio.testing.wait_all_tasks_blocked(0.001)
                await one.send_all(b"x")

        pair = socket.socketpair()
        await Client().call(of_trio(talk))

    asyncio.run(main())


def test_generators_belong_to_whoever_runs_them() -> None:
    finished = []

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            finished.append("asyncio")

    async def main() -> None:
        kept = []

        async def begin() -> None:
            kept.append(numbers())
            await anext(kept[-1])

        async def begin_here(_scope: object, receive: Receive, _send: object) -> None:
            await begin()

        @speaks("trio")
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await call_app(begin_here, scope, receive, send)

        await Client().call(app)
        assert finished == []
        # One of trio's that is left is closed at the end of its run, where nothing can wait.
        await kept[0].aclose()

    asyncio.run(main())
    assert finished == ["asyncio"]


# Loops and runs of others.


def test_a_loop_that_is_closed_too_early_costs_its_own_scopes_only() -> None:
    async def wait() -> None:
        await trio.sleep_forever()

    loop = asyncio.new_event_loop()
    task = loop.create_task(Client().call(of_trio(wait)))
    loop.run_until_complete(some_turns())
    task.cancel()
    loop.close()
    client = Client("word", "end")
    asyncio.run(client.call(echo))
    assert client.words == ["word"]
    del task
    gc.collect()


def test_while_another_loop_of_the_thread_has_scopes_there_is_no_way() -> None:
    first = asyncio.new_event_loop()
    client = Client("word")
    task = first.create_task(client.call(echo))
    first.run_until_complete(asyncio.sleep(0))
    try:
        with pytest.raises(NoHostedLoop, match="another asyncio loop"):
            asyncio.run(Client().call(echo))
        client.say("end")
        first.run_until_complete(task)
        assert client.words == ["word"]
    finally:
        first.close()


def test_each_thread_has_a_run_of_its_own() -> None:
    async def main() -> None:
        client = Client("word", "end")
        waiting = Client()
        task = asyncio.create_task(waiting.call(echo))
        await asyncio.to_thread(asyncio.run, client.call(echo))
        assert client.words == ["word"]
        waiting.say("end")
        await task

    asyncio.run(main())


def test_a_guest_run_of_somebody_else_is_used_both_ways() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Any] = loop.create_future()
        stop, client = trio.Event(), Client("one", "end")

        async def asyncio_app(_scope: object, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0)
            await send(await receive())

        async def guest() -> None:
            outer = current_hosted_loop()
            assert outer is not None
            receive = guest_receive(outer)
            await call_app(asyncio_app, {}, receive, send)
            await stop.wait()

        def guest_receive(outer: Any) -> Any:
            async def receive() -> Message:
                await trio.lowlevel.checkpoint()
                return {"type": "from trio"}

            return receive

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            client.heard.append(message)

        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=over.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        await client.call(echo)
        assert trio.lowlevel.in_trio_run()
        stop.set()
        (await over).unwrap()
        assert sorted(client.words) == ["from trio", "one"]

    asyncio.run(main())


# What is left in the end.


def test_a_thousand_scopes_leave_no_thread_no_task_and_no_object() -> None:
    async def crash() -> None:
        raise Failed

    async def wait() -> None:
        await trio.sleep_forever()

    async def live_and_die(number: int) -> None:
        if number % 3 == 0:
            client = Client("one", "end")
            await client.call(echo, {"number": number})
            assert client.words == ["one"]
        elif number % 3 == 1:
            with pytest.raises(Failed):
                await Client().call(of_trio(crash))
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(Client().call(of_trio(wait)), 0)

    async def main() -> None:
        for number in range(60):
            await live_and_die(number)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(6):
            await asyncio.gather(*map(live_and_die, range(100)))
        for number in range(400):
            await live_and_die(number)
        assert left() == []
        gc.collect()
        assert len(gc.get_objects()) - before < 200

    threads = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() <= threads


def test_a_crash_keeps_no_cycle_alive() -> None:
    async def crash() -> None:
        raise Failed

    async def main() -> None:
        try:
            await Client().call(of_trio(crash))
        except Failed as failure:
            witness = weakref.ref(failure)
        await asyncio.sleep(0)
        assert witness() is None

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
