"""ASGI's own shapes, named once.

Source: the ASGI specification 3.0, "Applications".
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[object]]
# Host and port of a scope's client or server; a Unix socket has a path and no port.
Address: TypeAlias = tuple[str, int | None] | None
