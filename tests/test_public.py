"""What the packages promise: every public name exists once and says what it is."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import greenroom


def packages() -> list[ModuleType]:
    """Import every package and every public module of Greenroom."""
    found: list[ModuleType] = []
    for module in pkgutil.walk_packages(greenroom.__path__, "greenroom."):
        parts = module.name.split(".")
        # `__main__` runs; Django imports migrations and management commands by itself.
        if not any(part.startswith("_") for part in parts) and "management" not in parts:
            found.append(importlib.import_module(module.name))
    return found


PACKAGES = packages()
PROMISES = [(package, name) for package in PACKAGES for name in getattr(package, "__all__", [])]


def test_there_are_promises_to_look_at() -> None:
    assert {"greenroom.actors", "greenroom.runtime"} <= {
        package.__name__ for package, _ in PROMISES
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_package_says_what_it_is_for(package: ModuleType) -> None:
    assert inspect.getdoc(package)


@pytest.mark.parametrize(
    "package",
    [package for package in PACKAGES if hasattr(package, "__path__")],
    ids=lambda package: package.__name__,
)
def test_a_package_hands_on_what_it_imports_and_nothing_else(package: ModuleType) -> None:
    # Whatever was defined in one of our modules and stands here without an underscore.
    handed_on = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "").startswith("greenroom.")
    }
    assert handed_on <= set(getattr(package, "__all__", []))


@pytest.mark.parametrize(
    ("package", "name"), PROMISES, ids=[f"{package.__name__}.{name}" for package, name in PROMISES]
)
def test_a_public_name_has_a_docstring(package: ModuleType, name: str) -> None:
    value = getattr(package, name)
    documented = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    if not documented.__module__.startswith("greenroom."):
        return  # a constant, a type alias, or a name of Django's: documented where it is from
    # A class's own: one that it inherits tells of something else.
    assert inspect.cleandoc(documented.__doc__ or ""), f"{name} has no docstring"


@pytest.mark.parametrize(
    ("package", "name"), PROMISES, ids=[f"{package.__name__}.{name}" for package, name in PROMISES]
)
def test_the_public_methods_of_a_public_class_have_docstrings(
    package: ModuleType, name: str
) -> None:
    value = getattr(package, name)
    if inspect.isclass(value):
        bare = [
            method
            for method, function in vars(value).items()
            if not method.startswith("_")
            and inspect.isfunction(function)
            and not inspect.getdoc(getattr(value, method))
        ]
        assert bare == []
