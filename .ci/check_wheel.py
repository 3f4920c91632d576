"""Build the wheel, compare its files with the checkout's, and use it where nothing else is.

A build backend that finds nothing under our layout makes an empty wheel and says nothing,
so the list of files is compared name by name.
"""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("__init__.py", "__main__.py", "py.typed", "actors", "runtime", "bridges")
# What a plain install, without any extra, must be able to import.
MODULES = ("actors", "runtime.server", "bridges.asyncio", "bridges.threads", "bridges.command")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run `command` and give its output; a failure ends the check with it."""
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    try:
        return subprocess.run(
            command, cwd=cwd, env=environment, check=True, capture_output=True, text=True
        ).stdout
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{error.stdout}{error.stderr}")


def check_files(wheel: Path) -> None:
    """Compare the wheel's list of files with the checkout's."""
    tracked = run("git", "ls-files", *SHIPPED).split()
    expected = {f"greenroom/{name}" for name in tracked}
    metadata = f"greenroom-{version(wheel)}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.startswith(metadata)}
    if missing := sorted(expected - packed):
        sys.exit(f"not in the wheel: {', '.join(missing)}")
    if extra := sorted(packed - expected):
        sys.exit(f"in the wheel, but not in the repository: {', '.join(extra)}")
    print(f"{wheel.name}: the checkout's {len(packed)} files")


def check_install(wheel: Path, scratch: Path) -> None:
    """Install the wheel alone, import it from an empty folder, and run its command."""
    venv.create(scratch / "venv", with_pip=True)
    binaries = scratch / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", wheel)
    empty = scratch / "empty"
    empty.mkdir()
    for module in MODULES:
        run(binaries / "python", "-W", "error", "-c", f"import greenroom.{module}", cwd=empty)
    shown = run(binaries / "greenroom", "--version", cwd=empty).strip()
    if not shown.endswith(version(wheel)):
        sys.exit(f"greenroom --version printed {shown!r}, and the wheel is {version(wheel)}")
    print(f"installed alone: imports {', '.join(MODULES)}; {shown}")


def version(wheel: Path) -> str:
    """Read the version in the wheel's name."""
    return wheel.name.split("-")[1]


def main() -> None:
    """Build and check the wheel."""
    with tempfile.TemporaryDirectory(prefix="greenroom-wheel-") as folder:
        scratch = Path(folder)
        run(sys.executable, "-m", "hatchling", "build", "-d", scratch)
        [sdist] = scratch.glob("*.tar.gz")
        [wheel] = scratch.glob("*.whl")
        check_files(wheel)
        # Whoever installs from the source archive gets the same.
        rebuilt = scratch / "rebuilt"
        run(
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
            "--no-build-isolation", "--wheel-dir", rebuilt, sdist,
        )  # fmt: skip
        check_files(rebuilt / wheel.name)
        check_install(wheel, scratch)


if __name__ == "__main__":
    main()
