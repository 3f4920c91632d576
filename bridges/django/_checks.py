"""Django system checks: mistakes in a project's settings that can be seen before it runs.

They look at settings that may hold anything, and import nothing of the project that is not
imported already: its `asgi` module sets Django up, and may do more. A check that is not
sure says nothing, since one that fails itself would keep every command from running.
"""

import symtable
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags
from django.core.checks import Warning as CheckWarning
from django.core.management import find_commands, load_command_class

OURS: Final = "greenroom.bridges.django"
STATICFILES: Final = "django.contrib.staticfiles"

# Where one of these stands, a module may have names that its source does not show.
OPAQUE: Final = (
    "import *",
    "__getattr__",
    "globals(",
    "exec(",
    "setattr(",
    "sys.modules",
    "global ",
)


def check_order_of_applications(**_: Any) -> list[CheckMessage]:
    """Say so if the runserver of `django.contrib.staticfiles` would be taken, not ours.

    Of two applications with a command of one name Django takes the one listed first.
    """
    names = [config.name for config in apps.get_app_configs()]
    if not _is_above(STATICFILES, names):
        return []
    return [
        Error(
            f"'{OURS}' is listed below '{STATICFILES}' in INSTALLED_APPS, so `runserver` would be "
            "Django's and not serve ASGI.",
            hint=f"List '{OURS}' first.",
            id="greenroom.E001",
        )
    ]


def check_other_servers(**_: Any) -> list[CheckMessage]:
    """Warn of other applications whose `runserver` may be taken instead of ours."""
    names = [config.name for config in apps.get_app_configs()]
    if "daphne" in names:
        winner = "daphne's" if _is_above("daphne", names) else "Greenroom's"
        return [
            CheckWarning(
                f"'daphne' and '{OURS}' are both in INSTALLED_APPS; `runserver` is {winner}, "
                "which is listed first.",
                hint=f"Remove 'daphne', in whose place '{OURS}' stands: its application also "
                "installs Twisted's reactor in every process.",
                id="greenroom.W002",
            )
        ]
    first = next((name for name in names if _has_runserver(name)), OURS)
    if first in (OURS, STATICFILES) or _is_above(STATICFILES, names) or _extends_ours(first):
        return []
    return [
        CheckWarning(
            f"`runserver` is that of {first!r}, which is listed above '{OURS}' in INSTALLED_APPS "
            "and does not extend its command.",
            hint=f"List '{OURS}' first, or subclass `Command` of "
            f"{OURS}.management.commands.runserver there.",
            id="greenroom.W003",
        )
    ]


def check_asgi_application(**_: Any) -> list[CheckMessage]:
    """Say so if `ASGI_APPLICATION`, which `runserver` serves, is missing or can't be right."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    if path is None:
        return [
            CheckWarning(
                "ASGI_APPLICATION is not set, so `runserver` can't serve this project.",
                hint="Set it to the dotted path of the project's ASGI application, such as "
                "'project.asgi.application'. Where another command serves it, remove "
                f"'{OURS}' from INSTALLED_APPS, or add 'greenroom.W001' to SILENCED_SYSTEM_CHECKS.",
                id="greenroom.W001",
            )
        ]
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        return [_malformed(path)]
    module, _dot, attribute = path.rpartition(".")
    if not module:
        return [_malformed(path)]
    try:
        return _check_parts(module, attribute)
    except Exception:  # noqa: BLE001 -- finders and loaders may be anybody's
        return []


ALL: Final[tuple[tuple[Callable[..., list[CheckMessage]], tuple[str, ...]], ...]] = (
    (check_order_of_applications, (Tags.staticfiles,)),
    (check_other_servers, ()),
    (check_asgi_application, ()),
)


def _is_above(name: str, names: list[str]) -> bool:
    return name in names and OURS in names and names.index(name) < names.index(OURS)


def _has_runserver(name: str) -> bool:
    return any(
        "runserver" in find_commands(str(Path(config.path) / "management"))
        for config in apps.get_app_configs()
        if config.name == name
    )


def _extends_ours(name: str) -> bool:
    from .management.commands.runserver import Command

    try:
        return isinstance(load_command_class(name, "runserver"), Command)
    except Exception:  # noqa: BLE001 -- it is somebody else's, and says so itself when it is run
        return True


def _malformed(path: object) -> CheckMessage:
    hint = "It is the dotted path of a module and a name in it: 'project.asgi.application'."
    if isinstance(path, str) and ":" in path:
        hint += " Other servers separate the two by a colon; here it is a dot."
    return Error(
        f"ASGI_APPLICATION is {path!r}, which is no path to an application.",
        hint=hint,
        id="greenroom.E002",
    )


def _check_parts(module: str, attribute: str) -> list[CheckMessage]:
    spec = _find(module)
    if spec is None and module not in sys.modules:
        return [
            Error(
                f"ASGI_APPLICATION is '{module}.{attribute}', and there is no module {module!r}.",
                hint="Correct the path, or write that module; `django-admin startproject` makes "
                "one, asgi.py beside settings.py.",
                id="greenroom.E003",
            )
        ]
    if _has_name(module, attribute, spec):
        return []
    return [
        Error(
            f"ASGI_APPLICATION is '{module}.{attribute}', and {module!r} has no {attribute!r}.",
            hint=f"Correct the name, or assign the application to it there: "
            f"{attribute} = get_asgi_application()",
            id="greenroom.E004",
        )
    ]


def _find(module: str) -> ModuleSpec | None:
    """Find a module without importing it or any package that it is in."""
    spec: ModuleSpec | None = None
    places: Any = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        loaded = sys.modules.get(name)
        if loaded is not None:
            spec = loaded.__spec__
            places = getattr(loaded, "__path__", None)
        else:
            found = (finder.find_spec(name, places) for finder in sys.meta_path)
            spec = next((each for each in found if each is not None), None)
            if spec is None:
                return None
            places = spec.submodule_search_locations
        if places is None and count < len(parts):
            return None
    return spec


def _has_name(module: str, name: str, spec: ModuleSpec | None) -> bool:
    """Tell whether a module has a name; where that can't be seen, say that it has."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        return hasattr(loaded, name)
    loader: Any = spec and spec.loader
    source = loader.get_source(module)
    if source is None or any(word in source for word in OPAQUE) or _find(f"{module}.{name}"):
        return True
    try:
        symbol = symtable.symtable(source, module, "exec").lookup(name)
    except KeyError:
        return False
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
