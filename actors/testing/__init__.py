"""Runs a program of actors, or any trio code, on a schedule that is data.

`simulate` runs a scenario in virtual time, and gives its trace. The same choices give the same
trace, byte for byte, in any process; another choice is another order of tasks, a crash, or
a cancellation at a certain step. Hypothesis draws such choices, and shrinks those that
break a promise; see `schedules` and `plans`.

>>> import trio
>>> async def count(name: str) -> None:
...     for number in range(2):
...         note(f"{name}{number}")
...         await trio.sleep(1)
>>> async def scenario() -> None:
...     async with trio.open_nursery() as nursery:
...         nursery.start_soon(count, "a")
...         nursery.start_soon(count, "b")
>>> simulate(scenario).notes
('a0', 'b0', 'a1', 'b1')
>>> simulate(scenario, choices=[1]).notes  # at decision 1, who is first goes last, for good
('a0', 'b0', 'b1', 'a1')
>>> print(simulate(scenario, cancel_at=2).trace)
  0.000000      0 scenario
  0.000000      1 count
  0.000000      1 count: a0
  0.000000      2 (simulation): the scenario is cancelled
  0.000000      2 count/2
  0.000000      2 count/2: b0
  0.000000      3 count
  0.000000      4 count/2
  0.000000      5 scenario
  0.000000      5 (simulation): is over, cancelled
"""

from ._crashes import InjectedCrash as InjectedCrash
from ._crashes import crash_point as crash_point
from ._crashes import crashing as crashing
from ._enumerate import every_cancellation as every_cancellation
from ._enumerate import every_crash as every_crash
from ._errors import Deadlock as Deadlock
from ._errors import EndlessRun as EndlessRun
from ._errors import HypothesisMissing as HypothesisMissing
from ._errors import NestedSimulation as NestedSimulation
from ._errors import Unsteady as Unsteady
from ._plan import Plan as Plan
from ._run import aim as aim
from ._run import note as note
from ._simulate import simulate as simulate
from ._simulation import Simulation as Simulation
from ._steering import Steering as Steering
from ._strategies import plans as plans
from ._strategies import schedules as schedules

__all__ = [
    "Deadlock",
    "EndlessRun",
    "HypothesisMissing",
    "InjectedCrash",
    "NestedSimulation",
    "Plan",
    "Simulation",
    "Steering",
    "Unsteady",
    "aim",
    "crash_point",
    "crashing",
    "every_cancellation",
    "every_crash",
    "note",
    "plans",
    "schedules",
    "simulate",
]
