"""All that decides about one run, as data."""

from dataclasses import dataclass, fields
from typing import final


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
        object.__setattr__(self, "choices", tuple(self.choices))
        object.__setattr__(self, "crashes", tuple(self.crashes))
        for name, values in (("choices", self.choices), ("crashes", self.crashes)):
            for value in values:
                if not isinstance(value, str) and value < 0:
                    raise ValueError(f"{name} are counted from 0; there is {value}")
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
