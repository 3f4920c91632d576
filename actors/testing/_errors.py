"""What simulations raise, on one page. What the scenario raises comes out as it is."""


class NestedSimulation(RuntimeError):
    """Raised when `simulate` is called where a run is going on already.

    A simulation is a run of its own, and takes trio's scheduler for itself: call it from a
    plain function, such as `def test_...`, and from one thread at a time.
    """

    def __init__(self, inside: str) -> None:
        super().__init__(inside)
        self.inside = inside

    def __str__(self) -> str:
        return (
            f"simulate() was called inside {self.inside}; call it from a plain `def`, one at a time"
        )


class Deadlock(Exception):
    """Raised when all tasks of a simulation wait for something that nobody will do.

    No task can run, there is no deadline, and no thread or socket is waited for. The
    scenario has been cancelled; what it raised then is the `__cause__`.
    """

    def __init__(self, time: float, waiting: tuple[str, ...], trace: str) -> None:
        super().__init__(time, waiting, trace)
        self.time = time
        self.waiting = waiting
        self.trace = trace

    def __str__(self) -> str:
        lines = "\n".join(f"  {line}" for line in self.waiting)
        return f"at {self.time:g} seconds all tasks wait, and nothing will wake one:\n{lines}"


class EndlessRun(Exception):
    """Raised when a simulation has not ended after `max_steps` steps of its tasks.

    The scenario has been cancelled; what it raised then is the `__cause__`. If it has more
    to do than that, raise `max_steps`.
    """

    def __init__(self, max_steps: int, last_lines: str, trace: str) -> None:
        super().__init__(max_steps, last_lines, trace)
        self.max_steps = max_steps
        self.last_lines = last_lines
        self.trace = trace

    def __str__(self) -> str:
        return f"not over after {self.max_steps} steps, the last of which were:\n{self.last_lines}"


class Unsteady(Exception):
    """Raised when a second run of a scenario differs from the first without a reason.

    The scenario uses something that is not part of the simulation: state that it keeps from
    run to run, the time of day, the order of a set, `uuid4`, a thread.
    """

    def __init__(self, step: int, before: str, now: str) -> None:
        super().__init__(step, before, now)
        self.step = step
        self.before = before
        self.now = now

    def __str__(self) -> str:
        return (
            f"the runs part at step {self.step}, though nothing was changed before it;"
            f" does the scenario keep state between runs?\n"
            f"  first: {self.before}\n"
            f"  now:   {self.now}"
        )


class HypothesisMissing(ImportError):
    """Raised when a strategy is asked for and Hypothesis is not installed."""

    def __str__(self) -> str:
        return "strategies need Hypothesis: pip install 'greenroom[testing]'"
