"""From "module:attribute" to an ASGI application, or to an error that says whose fault it is.

Imports run the user's code, so whatever they raise is the user's to read: it is kept as
`__cause__`, and `ApplicationNotLoaded.traceback` shows it from the user's first line on.
"""

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable
from itertools import dropwhile
from pathlib import Path
from types import ModuleType
from typing import Any, Final, final

from ._types import App, Receive, Scope, Send

# Names that applications usually have, for "did you mean".
_USUAL: Final = ("application", "app", "asgi_app", "asgi_application")


@final
class ApplicationNotLoaded(Exception):
    """Raised when "module:attribute" names no ASGI application.

    `__cause__` is what the user's own code raised, if it was that.
    """

    def __init__(self, target: str, why: str) -> None:
        super().__init__(target, why)
        self.target = target
        self.why = why

    def __str__(self) -> str:
        return f"cannot load {self.target!r}: {self.why}"

    def traceback(self) -> str:
        """Give the traceback of the user's code, without our frames and importlib's; may be ""."""
        if self.__cause__ is None:
            return ""
        shown = traceback.TracebackException.from_exception(self.__cause__)
        frames: list[traceback.FrameSummary] = list(dropwhile(_is_machinery, shown.stack))
        shown.stack = traceback.StackSummary.from_list(frames)
        return "".join(shown.format())


def load_application(
    target: str, *, factory: bool | None = False, app_dir: str | Path | None = "."
) -> App:
    """Import the application that `target` names.

    An application in ASGI 2's two-step form, `application(scope)` then
    `instance(receive, send)`, is wrapped into one of today's form.

    Args:
        target: "package.module:attribute", the attribute dotted if it is nested.
        factory: the attribute is a function without arguments that makes the application; None
            where nobody can say so, and an error is not to speak of it.
        app_dir: put first on `sys.path`, unless it is there already, or None.

    Raises:
        ApplicationNotLoaded: the target is malformed, its module is missing or raises while it
            is imported, the attribute is missing, or it is not an ASGI application.
    """
    module_name, attributes = _split(target)
    folder = None if app_dir is None else str(Path(app_dir).resolve())
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
    found: Any = _import(target, module_name, folder)
    where = module_name
    for name in attributes.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ApplicationNotLoaded(target, _missing(found, where, name)) from None
        where = f"{where}.{name}"
    if factory:
        found = _call_factory(target, found)
    return _checked(target, found, factory=factory)


def _split(target: str) -> tuple[str, str]:
    module_name, colon, attributes = target.partition(":")
    if module_name and attributes:
        if "/" in module_name or module_name.endswith(".py"):
            dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
            why = f"name the module, not its file: {dotted}:{attributes}"
            raise ApplicationNotLoaded(target, why)
        return module_name, attributes
    why = "it must have the form module:attribute"
    if module_name and not colon:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        why = f"{why}, such as {dotted}:application"
    raise ApplicationNotLoaded(target, why)


def _import(target: str, module_name: str, folder: str | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # The named module or a package above it is missing, or one that it imports is.
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            where = "on sys.path" if folder is None else f"in {folder} or elsewhere on sys.path"
            why = f"there is no module {error.name!r} {where}"
            raise ApplicationNotLoaded(target, why) from None
        why = f"{module_name} imports {error.name!r}, which is missing"
        raise ApplicationNotLoaded(target, why) from error
    except SystemExit as error:
        why = f"{module_name} called sys.exit({error.code!r}) while it was imported"
        raise ApplicationNotLoaded(target, why) from error
    except Exception as error:
        why = f"importing {module_name} raised {type(error).__name__}: {error}"
        raise ApplicationNotLoaded(target, why) from error


def _missing(owner: object, where: str, name: str) -> str:
    public = [known for known in dir(owner) if not known.startswith("_")]
    near = difflib.get_close_matches(name, public, n=1, cutoff=0.6)
    near += [usual for usual in _USUAL if usual in public]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where} has no attribute {name!r}{hint}"


def _call_factory(target: str, make: object) -> object:
    if not callable(make):
        why = f"a factory must be callable, and this is of type {type(make).__name__}"
        raise ApplicationNotLoaded(target, why)
    if inspect.iscoroutinefunction(make):
        raise ApplicationNotLoaded(target, "a factory must be a plain function, not async")
    try:
        return make()
    except Exception as error:
        why = f"the factory raised {type(error).__name__}: {error}"
        raise ApplicationNotLoaded(target, why) from error


def _checked(target: str, found: object, *, factory: bool | None) -> App:
    what = "what the factory returned" if factory else "it"
    if not callable(found):
        why = f"{what} is of type {type(found).__name__}, which can't be called"
        raise ApplicationNotLoaded(target, why)
    if _accepts(found, 3):
        # A class whose instances can be awaited is an application, as are Starlette's endpoints.
        if not inspect.isclass(found) or hasattr(found, "__await__"):
            return found
        why = f"{what} is a class, and its instances can't be awaited"
    elif _accepts(found, 1) and not inspect.iscoroutinefunction(found):
        return _single(found)
    else:
        why = f"{what} can't be called with (scope, receive, send)"
    if inspect.isclass(found) and hasattr(found, "as_asgi"):
        why = f"{why}; name what its as_asgi() returns"
    elif _accepts(found, 0) and factory is False:
        why = f"{why}; if it makes the application, add --factory"
    elif _accepts(found, 2):
        why = f"{why}; it looks like a WSGI application"
    raise ApplicationNotLoaded(target, why)


def _single(double: Callable[[Scope], Callable[[Receive, Send], Awaitable[object]]]) -> App:
    """Wrap an application of ASGI 2, which is called in two steps."""

    async def application(scope: Scope, receive: Receive, send: Send) -> object:
        return await double(scope)(receive, send)

    return application


def _accepts(found: Callable[..., object], count: int) -> bool:
    try:
        inspect.signature(found).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return count == 3
    return True


def _is_machinery(frame: traceback.FrameSummary) -> bool:
    own = (__file__, "<frozen importlib", str(Path(importlib.__file__).parent))
    return frame.filename.startswith(own)
