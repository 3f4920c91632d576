"""What the actors package raises, on one page."""

from math import inf

from ._reasons import ExitReason


class RestartsExhausted(Exception):
    """Raised by a supervisor that gives up, to be handled by its own supervisor.

    `__cause__` is the last crash. Seeing this at the top of a program means that
    no supervisor above could help: raise the intensity, or mend the child.
    """

    def __init__(self, intensity: float, period: float, path: str = "") -> None:
        super().__init__(intensity, period, path)
        self.intensity = intensity
        self.period = period
        self.path = path  # of the child that crashed last

    def __str__(self) -> str:
        whose = f" of {self.path}" if self.path else ""
        return f"more than {self.intensity:g} restarts{whose} within {self.period:g} seconds"


class ChildEscalated(Exception):
    """Raised by a supervisor whose child's decider said `Directive.ESCALATE`.

    `__cause__` is the child's crash.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} crashed in a way that its supervisor may not mend"


class StartTimeout(Exception):
    """Raised when an actor's `started` has not returned within `start_timeout` seconds."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(path, seconds)
        self.path = path
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.path} was not ready after {self.seconds:g} seconds"


class SupervisorClosed(Exception):
    """Raised when a child is to be started under a supervisor that cannot keep it.

    It is stopping, between two incarnations, or has ended.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} takes no children: it is stopping, being restarted, or has ended"


class SupervisorNotRunning(RuntimeError):
    """Raised when a child of a supervisor that was never started is used.

    Make the supervisor in a `ChildSpec`'s factory and spawn that, or use
    `open_dynamic_supervisor`.
    """

    def __str__(self) -> str:
        return "the supervisor of this actor was never started: spawn it from a ChildSpec"


class SupervisorFull(Exception):
    """Raised when a child is to be started under a supervisor that has `max_children`."""

    def __init__(self, path: str, children: int) -> None:
        super().__init__(path, children)
        self.path = path
        self.children = children

    def __str__(self) -> str:
        return f"{self.path} has {self.children} children, as many as it may"


class AlreadyEnded(Exception):
    """Raised when an actor that has ended for good is to get a name or a place among others.

    It ended while somebody held its reference: watch it, or look at `ActorRef.alive` first.
    """

    def __init__(self, path: str, reason: ExitReason) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} has ended: {self.reason}"


class NameTaken(Exception):
    """Raised by `Registry.register` when another live actor has the name.

    Choose another name, or stop its holder and wait for its end with `join`.
    """

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(name, holder)
        self.name = name
        self.holder = holder

    def __str__(self) -> str:
        return f"the name {self.name!r} is taken by {self.holder}"


class NotRegistered(LookupError):
    """Raised by `Registry.require` when no live actor has the name.

    Its actor was not started yet, or has ended; `Registry.find` answers None instead.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"no actor is registered as {self.name!r}"


class AskError(Exception):
    """Raised by `ActorRef.ask` when there is no reply.

    Always an `ActorDied`, an `AskTimeout`, a `MailboxFull` or a `RemoteError`.
    """

    def __init__(self, path: str, *args: object) -> None:
        super().__init__(path, *args)
        self.path = path


class ActorDied(AskError):
    """Raised by `ActorRef.ask` when the actor ended, or started anew, before it replied.

    Whether it has acted on the message is not known. After a restart the same reference
    may be asked again.
    """

    def __init__(self, path: str, reason: ExitReason) -> None:
        super().__init__(path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} ended before it replied: {self.reason}"


class AskTimeout(AskError):
    """Raised by `ActorRef.ask` when no reply came in time.

    Also raised in a handler when the one who asked for what it does waits no longer. If the
    message is still waiting in the mailbox, it will not be handled. If it was being
    handled, it will be to the end, and its reply becomes a dead letter.
    """

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(path, seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        if self.seconds == inf:
            return f"{self.path} has not replied before those who wait for it gave up"
        return f"{self.path} has not replied within {self.seconds:g} seconds"


class MailboxFull(AskError):
    """Raised by `ActorRef.ask` when the actor's mailbox has no room for the message.

    The actor is slower than those who ask it: ask less, or give it more room or company.
    """

    def __str__(self) -> str:
        return f"the mailbox of {self.path} is full"


class RemoteError(AskError):
    """Raised by `ActorRef.ask` when the actor's handler raised.

    `error`, also the `__cause__`, is what it raised. The fault is the actor's, or in the
    message, so that a `KeyError` there is not taken for one of the asker's own.
    """

    def __init__(self, path: str, error: Exception) -> None:
        super().__init__(path, error)
        self.error = error
        self.__cause__ = error

    def __str__(self) -> str:
        return f"{self.path} failed to reply: {self.error!r}"


class SelfAsk(RuntimeError):
    """Raised by `ActorRef.ask` in the actor's own handler, which would wait for itself.

    Call the method directly, or `tell` and go on.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} asks itself and would wait for ever: call the method directly, or tell"


class ForeignSystem(RuntimeError):
    """Raised when an actor is used from another thread than its system's.

    Go through `trio.from_thread.run_sync`, as in `run_sync(ref.tell, message)`, or through
    `trio.from_thread.run` for what is awaited; a thread that trio has not started needs
    the `trio_token` of the system's run.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path} belongs to an actor system in another thread: "
            "use trio.from_thread.run_sync, as in trio.from_thread.run_sync(ref.tell, message)"
        )


class StashFull(Exception):
    """Raised by `Context.stash` when the stash holds `ChildSpec.stash_capacity` messages.

    The message stays in the handler, which may do without it, or crash.
    """

    def __init__(self, path: str, capacity: int) -> None:
        super().__init__(path, capacity)
        self.path = path
        self.capacity = capacity

    def __str__(self) -> str:
        return f"the stash of {self.path} is full: it holds {self.capacity} messages"
