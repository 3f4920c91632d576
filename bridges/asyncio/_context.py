"""Context variables that crossed over, brought back."""

import contextvars
from typing import Final

_UNSET: Final = object()


def adopt_context(context: contextvars.Context) -> None:
    """Set in the current context what `context`, a finished copy of it, has set since.

    >>> colour = contextvars.ContextVar("colour", default="blue")
    >>> copy = contextvars.copy_context()
    >>> _ = copy.run(colour.set, "red")
    >>> adopt_context(copy)
    >>> colour.get()
    'red'
    """
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)
