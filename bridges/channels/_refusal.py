"""What routers answer by themselves: connections that have no application, and the lifespan.

A path that nobody serves is no fault of the project: anybody may ask for it, and many
scanners do. So it is one line in the log, and no traceback.

Source: the ASGI specification, "Websocket Denial Response" and "Lifespan Protocol".
"""

import logging
from typing import Final

from ...runtime import Message, Receive, Scope, Send, describe
from ._intake import let_others_run

BODY: Final = b"Not Found"
DENIAL: Final = "websocket.http.response"

# uvicorn takes an application that has denied a WebSocket, and returns, for one that has
# forgotten to answer, until it has noticed that the connection is closed, some turns of its
# loop later: for every stray client it would log an error.
TURNS: Final = 5

logger = logging.getLogger("greenroom.channels.routing")


def is_refusable(scope: Scope) -> bool:
    """Tell whether there is a client to be refused: a server stands behind the scope.

    Channels' communicators leave `asgi` out, and tests expect an exception.
    """
    if scope.get("type") not in ("http", "websocket"):
        return False
    return "asgi" in scope or DENIAL in (scope.get("extensions") or {})


async def refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that there is nothing here: with 404, or with what the server can do."""
    logger.warning("%s (%s)", reason, describe(scope))
    kind = scope["type"]
    if kind == "websocket":
        if (await receive())["type"] != "websocket.connect":
            return  # it has left
        if DENIAL not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close"})  # the client sees HTTP 403
            return
        kind = "websocket.http"
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(BODY)).encode()),
    ]
    start: Message = {"type": f"{kind}.response.start", "status": 404, "headers": headers}
    await send(start)
    # The answer to HEAD says how long the body of GET would be.
    body = b"" if scope.get("method") == "HEAD" else BODY
    await send({"type": f"{kind}.response.body", "body": body})
    if kind == "websocket.http":
        for _ in range(TURNS):
            await let_others_run()


async def answer_lifespan(receive: Receive, send: Send) -> None:
    """Tell a server that there is nothing to start, and nothing to shut down."""
    while True:
        message = await receive()
        phase = message["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
