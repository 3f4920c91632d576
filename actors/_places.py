"""Which of many calls, one inside the other, says most about where something happened.

The innermost is mostly a library's, and the same for everybody; what tells something is the
innermost of the user's own.
"""

import os
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import CodeType
from typing import Final, TypeAlias

import outcome
import trio

Call: TypeAlias = tuple[CodeType, int]
"""The code that runs in a frame, and the line."""


def _folders(*places: str | Path) -> tuple[str, ...]:
    return tuple(f"{place}{os.sep}" for place in dict.fromkeys(places))


_PLUMBING: Final = _folders(Path(trio.__file__).parent, Path(outcome.__file__).parent)
_OURS: Final = _PLUMBING + _folders(Path(__file__).parent)
_LIBRARIES: Final = _OURS + _folders(
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
)


def is_users(code: CodeType) -> bool:
    """Tell whether some code is neither installed nor a part of Python or the actors."""
    return not code.co_filename.startswith(_LIBRARIES)


def telling(calls: Iterable[Call]) -> Call | None:
    """Give the call that says most, of calls of which the innermost comes last.

    If none is the user's own, then an installed library's; if there is none, the actors'.
    """
    inwards = [*calls]
    for libraries in (_LIBRARIES, _OURS, _PLUMBING):
        for code, line in reversed(inwards):
            if not code.co_filename.startswith(libraries):
                return code, line
    return None


def in_words(call: Call) -> str:
    """Say where a call is: the last two parts of its file's name, line and function.

    >>> in_words((in_words.__code__, 5))
    'actors/_places.py:5 in in_words'
    """
    code, line = call
    file = "/".join(Path(code.co_filename).parts[-2:])
    return f"{file}:{line} in {code.co_qualname}"
