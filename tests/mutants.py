"""Breaks the actor core on purpose, one line at a time, and tells which test notices.

    python -m tests.mutants [--tests PATH]... [--limit SECONDS] [NAME]...

Each mutant of `mutations.py` is one exact replacement in a copy of the checkout; the copy's
tests have 60 seconds to fail. Exits with 1 if a mutant survives that is not expected to. That every
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
from pathlib import Path
from typing import Final

from tests.mutations import MUTANTS

ROOT: Final = Path(__file__).resolve().parent.parent
LIMIT: Final = 60.0  # seconds for all tests of one mutant

COPIED: Final = (".src", "__init__.py", "__main__.py", "actors", "runtime", "bridges", "tests")


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
    for name in (*COPIED, "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, folder / name)


def run_tests(folder: Path, tests: Iterable[str], limit: float) -> tuple[str | None, float]:
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
        output, _ = process.communicate(timeout=limit)
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
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for each mutant")
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
            caught_by, seconds = run_tests(folder, arguments.tests or mutant.tests, arguments.limit)
            path.write_text(text)
            unexpected += caught_by is None and not mutant.survives
            result = caught_by or f"SURVIVES {mutant.survives}"
            print(f"{mutant.name:70} {seconds:5.1f} s  {result}", flush=True)
    print(f"{len(chosen) - unexpected} of {len(chosen)} as expected")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
