"""Arguments that are of the wrong kind, refused where they enter and not where they hurt."""

from enum import Enum
from typing import Any


def expect_member(name: str, value: object, kind: type[Enum]) -> None:
    """See that an argument is a member of an enum.

    Raises:
        TypeError: it is something else, such as the member's name.
    """
    if not isinstance(value, kind):
        members = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise TypeError(f"{name} must be one of {members}; it is {value!r}")


def expect_callable(name: str, value: object) -> None:
    """See that an argument can be called, if it is given.

    Raises:
        TypeError: it can't.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, or None; it is {value!r}")


def expect_number(name: str, value: Any) -> None:
    """See that an argument is a number.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number; it is {value!r}")
