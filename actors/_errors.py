"""What the actors package raises, on one page."""


class RestartsExhausted(Exception):
    """Raised by a supervisor that gives up, to be handled by its own supervisor.

    `__cause__` is the last crash. Seeing this at the top of a program means that
    no supervisor above could help: raise the intensity, or mend the child.
    """

    def __init__(self, intensity: int, period: float) -> None:
        super().__init__(intensity, period)
        self.intensity = intensity
        self.period = period

    def __str__(self) -> str:
        return f"more than {self.intensity} restarts within {self.period:g} seconds"


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
    """Raised when a child is to be started under a supervisor that is stopping or has ended."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} takes no more children: it is stopping or has ended"


class SupervisorFull(Exception):
    """Raised when a child is to be started under a supervisor that has `max_children`."""

    def __init__(self, path: str, children: int) -> None:
        super().__init__(path, children)
        self.path = path
        self.children = children

    def __str__(self) -> str:
        return f"{self.path} has {self.children} children, as many as it may"
