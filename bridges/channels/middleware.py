"""The base of middleware around consumers and routers."""

from typing import Any, ClassVar

from ...runtime import App, Receive, Scope, Send
from ...runtime.flavours import Flavour
from ..asyncio import call_app

__all__ = ["BaseMiddleware"]


class BaseMiddleware:
    """An ASGI application that passes a copy of the scope on to another.

    What a subclass adds is awaited under asyncio, unless the subclass itself says
    `greenroom_flavour = "trio"` or `"both"`; its base's word does not count for it.
    Around a `URLRouter` it stays transparent for the outer router's paths.
    """

    greenroom_flavour: ClassVar[Flavour] = "both"

    def __init__(self, inner: App) -> None:
        self.inner = inner

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "greenroom_flavour" not in cls.__dict__:
            cls.greenroom_flavour = "asyncio"

    @property
    def _path_routing(self) -> bool:
        return getattr(self.inner, "_path_routing", False) is True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass a copy of the scope on to the inner application."""
        return await call_app(self.inner, dict(scope), receive, send)
