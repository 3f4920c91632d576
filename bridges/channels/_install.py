"""Making `import channels` mean this package, as `pymysql.install_as_MySQLdb()` does for MySQLdb.

A finder in front of all others answers for `channels` and every name below it. What it
hands out are the very modules of `greenroom.bridges.channels`: there is one of each, under
two names, so `mock.patch("channels.db.close_old_connections")` acts, and a class is the same
class whichever name it was imported by. A module is loaded when somebody first asks for it.

Only the standard library is imported here: the call stands above everything else.
"""

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from threading import Lock
from types import FunctionType, ModuleType
from typing import Final, final

NAME: Final = "channels"
HOME: Final = __name__.rpartition(".")[0]

_lock = Lock()


class ChannelsImportedFirst(RuntimeError):
    """Raised by `install_as_channels` after somebody has imported the real Channels.

    The call comes too late: whoever has imported Channels keeps its classes and its
    channel layers, which know nothing of ours. Call `install_as_channels()` before that
    import, best in the first line of the `__init__.py` of the package that holds settings.

    Attributes:
        origin: the file of the `channels` that was imported, if it tells.
        importers: names of the modules that hold something of it, the earliest first;
            empty where it was only imported inside functions.
    """

    def __init__(self, origin: str | None, importers: Sequence[str]) -> None:
        super().__init__(origin, importers)
        self.origin = origin
        self.importers = importers

    def __str__(self) -> str:
        who = ", ".join(self.importers[:5]) or "who did it cannot be found out"
        return (
            f"install_as_channels() was called after the real Channels had been imported, from "
            f"{self.origin or 'a place that it does not tell'} (imported by: {who}). Call "
            f"install_as_channels() before that: first of all in the __init__.py of the package "
            f"that holds your settings.py and asgi.py, and in tests without such a package at "
            f"the top of conftest.py."
        )


def install_as_channels() -> None:
    """Let `import channels`, and every import below it, give the modules of this package.

    For projects and packages of others that say `channels` and are not to be edited. The
    one line that serves all processes stands in the `__init__.py` of the package that holds
    `settings.py` and `asgi.py`, because that runs before either of them, and so before
    anything that either imports: under every server, `manage.py`, its autoreload, pytest,
    Celery, and in children that were spawned instead of forked:

    ```python
    from greenroom.bridges.channels import install_as_channels

    install_as_channels()
    ```

    At the top of `settings.py` it is early enough only if `asgi.py` imports nothing of
    Channels before it reads settings. A test without a project calls it in `conftest.py`.
    Nothing is imported by the call; it may be repeated, and be made from any thread.

    `INSTALLED_APPS = ["channels"]` then is this package under the name and the label
    `channels`. `channels.__version__` is the version of Channels whose behaviour is kept,
    for those who ask whether it is new enough. `importlib.metadata.version("channels")`
    asks for an installed distribution: that is the real one, if it is installed beside
    Greenroom, and `PackageNotFoundError` if not. Being installed does not disturb.

    Raises:
        ChannelsImportedFirst: the real Channels has been imported in this process.
    """
    with _lock:
        if any(isinstance(finder, _Finder) for finder in sys.meta_path):
            return
        package = sys.modules[HOME]
        real = sys.modules.get(NAME)
        if real is not None and real is not package:
            raise ChannelsImportedFirst(getattr(real, "__file__", None), list(_importers()))
        sys.meta_path.insert(0, _Finder())


def is_installed() -> bool:
    """Tell whether `import channels` gives this package."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


@final
class _Finder(MetaPathFinder):
    """Answers for `channels` and what is below it, by what is below this package."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 -- the modules have their own places
        target: ModuleType | None = None,  # noqa: ARG002 -- only of use to a reload
    ) -> ModuleSpec | None:
        """Give the alias of the module below this package, None if there is none."""
        if fullname != NAME and not fullname.startswith(NAME + "."):
            return None
        real = find_spec(HOME + fullname[len(NAME) :])
        if real is None:
            return None
        # It tells where the module is from as its own spec does.
        alias = ModuleSpec(fullname, _Loader(real.name), origin=real.origin)
        alias.submodule_search_locations = real.submodule_search_locations
        alias.has_location = real.has_location
        return alias


@final
class _Loader(Loader):
    """Loads nothing: hands out the module that there is, or will be once it is imported."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system to make a module, which nobody will see.

        On one that it is given it sets the alias's spec, for other threads to stumble over:
        by its own spec a module is pickled, reloaded and asked for resources.
        """

    def exec_module(self, module: ModuleType) -> None:
        """Import the module under its own name, and put it where the import system looks."""
        sys.modules[module.__name__] = import_module(self._name)


def _importers() -> Iterator[str]:
    """Give the names of modules that hold a module, class or function of the real Channels.

    Modules are listed in the order in which their imports began.
    """
    for name, module in list(sys.modules.items()):
        if not _is_below(name) and isinstance(module, ModuleType):
            for value in list(vars(module).values()):
                # Of other kinds some come to life when they are asked for an attribute.
                if issubclass(type(value), ModuleType):
                    origin = value.__name__
                elif issubclass(type(value), type | FunctionType):
                    origin = value.__module__
                else:
                    continue
                if isinstance(origin, str) and _is_below(origin):
                    yield name
                    break


def _is_below(name: str) -> bool:
    return name == NAME or name.startswith(NAME + ".")
