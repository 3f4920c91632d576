"""Breaks the actor core on purpose, one line at a time, and tells which test notices.

    python tests/mutants.py [--tests PATH]... [NAME]...

Each mutant is one exact replacement in a copy of the checkout; the copy's tests have 60
seconds to fail. Exits with 1 if a mutant survives that is not expected to. That every
mutant still fits the sources is tested by `test_mutants.py`, so the list cannot rot.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LIMIT: Final = 60.0  # seconds for all tests of one mutant

_COPIED: Final = (".src", "__init__.py", "__main__.py", "actors", "runtime", "bridges", "tests")
_PROOF: Final = "tests/actors/proof"


@dataclass(frozen=True)
class Mutant:
    """One fault, and where it is to be noticed.

    Args:
        name: what is wrong.
        file: where.
        old: the text that is replaced; it stands there exactly once.
        new: the text that takes its place.
        tests: what is run, in this order.
        survives: why no test can notice it, for a fault that changes nothing that counts.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""

    def mutate(self, text: str) -> str:
        """Put the fault into the text of the file.

        Raises:
            ValueError: the text to be replaced does not stand there exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"the mutant {self.name!r} does not fit {self.file} any more: "
                f"the text that it replaces stands there {count} times"
            )
        return text.replace(self.old, self.new)


MESSAGES: Final = (f"{_PROOF}/test_messages.py",)

MUTANTS: Final = (
    Mutant(
        "a message in flight is forgotten when its handler crashes",
        "actors/_inbox.py",
        "self.lose(message, Loss.CRASHED if crashed else Loss.CANCELLED)",
        "pass",
        MESSAGES,
    ),
    Mutant(
        "a redelivered message comes after those that were unstashed",
        "actors/_inbox.py",
        "self._front = deque([again, *(self._front or ())])",
        "self._front = deque([*(self._front or ()), again])",
        MESSAGES,
    ),
    Mutant(
        "a redelivered message goes to the tail of the mailbox",
        "actors/_inbox.py",
        "self._front = deque([again, *(self._front or ())])",
        "self.mailbox.put_soon(again, MESSAGES)",
        MESSAGES,
    ),
    Mutant(
        "a message is redelivered again and again",
        "actors/_inbox.py",
        "again.redelivered = True",
        "again.redelivered = False",
        MESSAGES,
    ),
    Mutant(
        "a mailbox holds one message more than its capacity",
        "actors/_mailbox.py",
        "elif len(items) >= queue.limit:",
        "elif len(items) > queue.limit:",
        MESSAGES,
    ),
    Mutant(
        "a refused message becomes two dead letters",
        "actors/_mailbox.py",
        """        queue.refused += 1
        self._lose(item, queue, loss)
""",
        """        queue.refused += 1
        self._lose(item, queue, loss)
        self._lose(item, queue, loss)
""",
        MESSAGES,
    ),
    Mutant(
        "a message is handled in the moment of its deadline",
        "actors/_inbox.py",
        "deadline != inf and deadline <= trio.current_time()",
        "deadline != inf and deadline < trio.current_time()",
        MESSAGES,
    ),
    Mutant(
        "a message is handled although nobody waits for its reply",
        "actors/_inbox.py",
        "if (ask is not None and not ask.open) or (",
        "if (",
        MESSAGES,
    ),
    Mutant(
        "messages come before signals where some are handled again",
        "actors/_inbox.py",
        "        if self.mailbox.depth(CONTROL):\n",
        "        if self.mailbox.depth(CONTROL) and not self._front:\n",
        MESSAGES,
    ),
    Mutant(
        "the most urgent lane is asked last",
        "actors/_mailbox.py",
        """        while True:
            for queue in self._queues:
""",
        """        while True:
            for queue in reversed(self._queues):
""",
        MESSAGES,
    ),
    Mutant(
        "the newest message is dropped for the oldest",
        "actors/_mailbox.py",
        "return self._replace(queue, items, 0, item, Delivery.DROPPED_OLDEST)",
        "return self._replace(queue, items, -1, item, Delivery.DROPPED_OLDEST)",
        MESSAGES,
    ),
    Mutant(
        "a coalesced message takes the place of the older one in the queue",
        "actors/_mailbox.py",
        """        del items[at]
        items.append(item)
""",
        """        items[at] = item
""",
        MESSAGES,
    ),
    Mutant(
        "the stash comes back in reverse",
        "actors/_inbox.py",
        """        stash, self._stash = self._stash, None
""",
        """        stash, self._stash = deque(reversed(self._stash)), None
""",
        MESSAGES,
    ),
    Mutant(
        "the stash comes back behind what is put back already",
        "actors/_inbox.py",
        """        stash.extend(self._front or ())
        self._front = stash
""",
        """        self._front = deque([*(self._front or ()), *stash])
""",
        MESSAGES,
    ),
    Mutant(
        "the stash is lost at a restart",
        "actors/_inbox.py",
        """        self.unstash_all()

    def close""",
        """        self._stash = None

    def close""",
        MESSAGES,
    ),
    Mutant(
        "a restart does not put the stash back",
        "actors/_inbox.py",
        """        self.unstash_all()

    def close""",
        """
    def close""",
        MESSAGES,
    ),
    Mutant(
        "what is stashed at the end is no dead letter",
        "actors/_inbox.py",
        """        self.unstash_all()
        front, self._front = self._front, None
""",
        """        front, self._front = self._front, None
""",
        MESSAGES,
    ),
    Mutant(
        "what waits at the end is no dead letter",
        "actors/_mailbox.py",
        """            queue.evicted += 1
            self._lose(self._take(queue), queue, Loss.LEFT_OVER)
""",
        """            queue.evicted += 1
            self._take(queue)
""",
        MESSAGES,
    ),
    Mutant(
        "who waits for room is dismissed without a dead letter",
        "actors/_mailbox.py",
        """        for task, item in blocked or ():
            self._refuse(queue, item, loss, delivery)
""",
        """        for task, item in blocked or ():
""",
        MESSAGES,
    ),
    Mutant(
        "a failing key of a coalescing lane raises into the sender",
        "actors/_lanes.py",
        "        except Exception:\n",
        "        except OSError:\n",
        MESSAGES,
    ),
    Mutant(
        "a failing subscriber to dead letters raises into the sender",
        "actors/_dead_letters.py",
        "                except Exception:\n",
        "                except OSError:\n",
        MESSAGES,
    ),
    Mutant(
        "a restart forgets the signals that wait, with the requests to stop",
        "actors/_inbox.py",
        """            if isinstance(item, Notice):
                self.mailbox.put(item, CONTROL)
""",
        "",
        MESSAGES,
    ),
    Mutant(
        "a request to stop waits behind the messages",
        "actors/_inbox.py",
        "self.mailbox.put(START_TO_DRAIN if drain else STOP, CONTROL)",
        "self.mailbox.put(START_TO_DRAIN, CONTROL)",
        MESSAGES,
    ),
    Mutant(
        "the next incarnation starts before the old one has cleaned up",
        "actors/_life.py",
        """        reason, passing = await _clean_up(cell, actor, reason, passing)
        if cell.companions""",
        """        cell.keeper.start_helper(lambda: actor.stopped(reason), "clean up")
        if cell.companions""",
        MESSAGES,
    ),
)


# As a plugin of pytest, in the copy: failures are found, and not made simpler.


def pytest_configure() -> None:
    """Have Hypothesis look for one failure only, and at the same examples each time."""
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants",
        parent=settings.get_profile("ci"),
        phases=[Phase.explicit, Phase.generate],
        database=None,
    )
    settings.load_profile("mutants")


def copy_checkout(folder: Path) -> None:
    """Copy what the tests of the actors need."""
    for name in (*_COPIED, "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, folder / name)


def run_tests(folder: Path, tests: Iterable[str]) -> tuple[str | None, float]:
    """Run tests of the copy until one fails; give its name, and the seconds it took."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutants", "-p", "no:cacheprovider"]
    command += ["-x", "-q", "--tb=no", "--no-header", *tests]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder / ".src"), str(folder)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, time.monotonic() - started
    seconds = time.monotonic() - started
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0], seconds
    return (None if process.returncode == 0 else output[-200:].strip()), seconds


def main() -> int:
    """Run the mutants that are asked for, or all."""
    parser = argparse.ArgumentParser(description="Break the actor core, and see a test fail.")
    parser.add_argument("name", nargs="*", help="a part of the names of the mutants to run")
    parser.add_argument("--tests", action="append", help="run these instead of those in the list")
    arguments = parser.parse_args()
    names: list[str] = arguments.name
    chosen = [each for each in MUTANTS if not names or any(name in each.name for name in names)]
    unexpected = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folder = Path(place)
        copy_checkout(folder)
        for mutant in chosen:
            path = folder / mutant.file
            text = path.read_text()
            path.write_text(mutant.mutate(text))
            caught_by, seconds = run_tests(folder, arguments.tests or mutant.tests)
            path.write_text(text)
            unexpected += caught_by is None and not mutant.survives
            result = caught_by or f"SURVIVES {mutant.survives}"
            print(f"{mutant.name:70} {seconds:5.1f} s  {result}", flush=True)
    print(f"{len(chosen) - unexpected} of {len(chosen)} as expected")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
