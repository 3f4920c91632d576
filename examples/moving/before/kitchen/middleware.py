"""Which table a WebSocket is for."""

from typing import Any
from urllib.parse import parse_qs

from channels.middleware import BaseMiddleware


class TableMiddleware(BaseMiddleware):
    """Puts the number of the query string into the scope: `?table=4`."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        query = parse_qs(scope["query_string"].decode())
        scope = dict(scope, table=int(query.get("table", ["0"])[0]))
        return await super().__call__(scope, receive, send)
