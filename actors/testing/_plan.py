"""All that decides about one run, as data."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TypeVar, final

T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """All that decides about one run; its `repr` can be pasted into a test.

    Args:
        choices: decisions at which the first task is sent behind all others; see `simulate`.
        crashes: crash points that crash, by number or by name; see `crash_point`.
        cancel_at: the step before which the target is cancelled, from 0; `None` for never.
        target: what is cancelled, as named to `aim`; `None` for the scenario itself.

    Raises:
        TypeError: one of these is of another type; a text is no list of crash points.
        ValueError: a number is negative, or `target` is given without `cancel_at`.

    >>> Plan(choices=(3,), cancel_at=14)
    Plan(choices=(3,), cancel_at=14)
    """

    choices: tuple[int, ...] = ()
    crashes: tuple[int | str, ...] = ()
    cancel_at: int | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        # A list is as good, but could not be part of something frozen.
        object.__setattr__(self, "choices", as_choices(self.choices))
        object.__setattr__(self, "crashes", as_crashes(self.crashes))
        for name, values in (("choices", self.choices), ("crashes", self.crashes)):
            for value in values:
                if not isinstance(value, str) and value < 0:
                    raise ValueError(f"{name} are counted from 0; there is {value}")
        if not isinstance(self.cancel_at, int | None):
            raise TypeError(f"cancel_at must be a number of a step; it is {self.cancel_at!r}")
        if not isinstance(self.target, str | None):
            raise TypeError(f"target must be a name given to aim(); it is {self.target!r}")
        if self.cancel_at is None:
            if self.target is not None:
                raise ValueError(f"target {self.target!r} needs cancel_at to say when")
        elif self.cancel_at < 0:
            raise ValueError(f"cancel_at is counted from 0; it is {self.cancel_at}")

    def __repr__(self) -> str:
        given = [
            f"{field.name}={value!r}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"Plan({', '.join(given)})"


def as_choices(choices: Iterable[int]) -> tuple[int, ...]:
    """Give choices as a plan holds them; raise `TypeError` if they are none."""
    return _checked(choices, int, "choices must be a list of numbers, such as [3, 14]")


def as_crashes(crashes: Iterable[int | str]) -> tuple[int | str, ...]:
    """Give crash points as a plan holds them; raise `TypeError` if they are none."""
    what = (
        'crashes must be a list of numbers and names of crash points, such as [7, "half written"]'
    )
    return _checked(crashes, int | str, what)


def _checked(values: Iterable[T], kind: object, what: str) -> tuple[T, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{what}; it is {values!r}")
    items = tuple(values)
    for item in items:
        if not isinstance(item, kind):  # type: ignore[arg-type]
            raise TypeError(f"{what}; there is {item!r}")
    return items
