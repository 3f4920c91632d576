"""A page, and a WebSocket that counts down: plain ASGI, awaited under trio."""

import trio

from greenroom.runtime import Receive, Scope, Send, speaks


@speaks("trio")
async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"Open a WebSocket to /3\n"})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        for left in range(int(scope["path"].strip("/")), 0, -1):
            await send({"type": "websocket.send", "text": f"{left}..."})
            await trio.sleep(0.1)
        await send({"type": "websocket.close", "reason": "lift-off"})
