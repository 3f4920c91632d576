"""Which async library an ASGI application must be awaited under.

The runtime awaits every application in a trio task. One written for asyncio, as nearly
all are, is wrapped by a bridge first; one that says here that it speaks trio is not.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from ._types import App

Flavour: TypeAlias = Literal["trio", "asyncio", "both"]
AnyApp = TypeVar("AnyApp", bound=Callable[..., object])


def flavour_of(app: App) -> Flavour:
    """Tell what `app` may be awaited under: its attribute `greenroom_flavour`, else "asyncio".

    "both" is for applications that only pass a scope on, such as routers, or that
    look which library runs.

    >>> async def plain(scope, receive, send): ...
    >>> flavour_of(plain)
    'asyncio'
    >>> flavour_of(speaks("trio")(plain))
    'trio'

    Raises:
        ValueError: the attribute is none of "trio", "asyncio", "both".
    """
    flavour: Flavour = getattr(app, "greenroom_flavour", "asyncio")
    if flavour not in ("trio", "asyncio", "both"):
        raise ValueError(
            f"greenroom_flavour of {app!r} is {flavour!r}; it must be 'trio', 'asyncio' or 'both'"
        )
    return flavour


def speaks(flavour: Flavour) -> Callable[[AnyApp], AnyApp]:
    """Mark an application (a function, or a class of callables) with what it speaks."""

    def mark(app: AnyApp) -> AnyApp:
        app.greenroom_flavour = flavour  # type: ignore[attr-defined]
        return app

    return mark
