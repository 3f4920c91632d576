"""A pool of workers whose work fails: they crash, come back after a pause, and no job is lost.

    pool              if the dispatcher crashes, the workers start anew, too
    |-- dispatcher    knows every job until it is done
    `-- workers       starts each worker that crashed again, after a pause that grows
        |-- worker-1, worker-2, ...

A worker says that it is ready, gets one job, and says that it is done. If it crashes, its next
incarnation says that it is ready: so the dispatcher learns that the job is still to be done.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from greenroom.actors import (
    INFINITY,
    Actor,
    ActorRef,
    Backoff,
    ChildSpec,
    Context,
    ExitReason,
    Reply,
    Signal,
    Strategy,
    Supervisor,
    Terminated,
    open_actor_system,
)

ATTEMPTS = 4  # a job that failed so often is given up, or workers would crash for ever

Fetch = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class Work:
    """Asks the dispatcher; the reply is a `Summary`, when all jobs are done or given up."""

    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Ready:
    worker: ActorRef[str]


@dataclass(frozen=True)
class Done:
    worker: ActorRef[str]
    job: str
    result: str


@dataclass
class Summary:
    done: dict[str, str] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)


class Dispatcher(Actor[Work | Ready | Done]):
    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.reply: Reply | None = None
        self.summary = Summary()
        self.failures: Counter[str] = Counter()
        self.waiting: deque[str] = deque()
        self.idle: list[ActorRef[str]] = []
        self.busy: dict[ActorRef[str], str] = {}
        ctx.registry.register("dispatcher", ctx.self)

    async def receive(self, message: Work | Ready | Done) -> None:
        match message:
            case Work() if self.reply is not None:
                self.ctx.stash()  # one order after the other
            case Work(jobs):
                self.reply = self.ctx.reply_later()
                self.waiting.extend(jobs)
            case Ready(worker):
                self.ctx.watch(worker)
                self.take_back_from(worker)
                self.idle.append(worker)
            # A death overtakes messages: the job may be somebody else's by now.
            case Done(worker, job, result) if self.busy.get(worker) == job:
                del self.busy[worker]
                self.summary.done[job] = result
                self.idle.append(worker)
        self.hand_out()

    async def on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Terminated):  # it does not come back, as after a crash
            self.take_back_from(signal.ref)
            self.hand_out()

    def take_back_from(self, worker: ActorRef[str]) -> None:
        job = self.busy.pop(worker, None)
        if job is not None:
            self.failures[job] += 1
            hopeless = self.failures[job] == ATTEMPTS
            (self.summary.given_up if hopeless else self.waiting).append(job)

    def hand_out(self) -> None:
        while self.waiting and self.idle:
            worker = self.idle.pop()
            if worker.tell(self.waiting[0]).accepted:
                self.busy[worker] = self.waiting.popleft()
        if self.reply is not None and not self.waiting and not self.busy:
            self.reply.send(self.summary)
            self.reply, self.summary, self.failures = None, Summary(), Counter()
            self.ctx.unstash_all()


@dataclass
class Worker(Actor[str]):
    fetch: Fetch

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.dispatcher = ctx.registry.require("dispatcher")
        self.dispatcher.tell(Ready(ctx.self))

    async def receive(self, job: str) -> None:
        result = await self.fetch(job)  # what this raises is for the supervisor
        self.dispatcher.tell(Done(self.ctx.self, job, result))


def pool(fetch: Fetch, size: int = 3) -> ChildSpec:
    """Describe a pool; its dispatcher is registered as "dispatcher"."""
    workers = [
        ChildSpec(
            f"worker-{n}",
            partial(Worker, fetch),
            backoff=Backoff(first=0.05, longest=5),
            intensity=INFINITY,
            expected=(OSError,),
        )
        for n in range(1, size + 1)
    ]
    parts = [
        ChildSpec("dispatcher", Dispatcher),
        ChildSpec("workers", partial(Supervisor, workers)),
    ]
    return ChildSpec("pool", partial(Supervisor, parts, strategy=Strategy.REST_FOR_ONE))


class Site:
    """Stands for a web site with bad days: "page-2" fails twice before it comes."""

    def __init__(self) -> None:
        self.visits: Counter[str] = Counter()

    async def fetch(self, page: str) -> str:
        await trio.sleep(0.05)
        self.visits[page] += 1
        if self.visits[page] <= int(page.removeprefix("page-")):
            raise ConnectionError(f"{page} is down")
        return f"the text of {page}"


async def main() -> None:
    async with open_actor_system("fetching", root=[pool(Site().fetch)]) as system:
        dispatcher = system.registry.require("dispatcher")
        pages = tuple(f"page-{n}" for n in (0, 1, 2, 3, 9))
        summary = await dispatcher.ask(Work(pages), timeout=30)
    print("done:", *sorted(summary.done))
    print("given up:", *summary.given_up)


if __name__ == "__main__":
    trio.run(main)
