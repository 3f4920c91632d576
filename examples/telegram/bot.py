"""One application for two protocols: a chatbot over a protocol of its own, and WebSockets.

    python examples/telegram/bot.py [WEBSOCKET_PORT TELEGRAM_PORT]

Then, with `nc localhost 8001`, say who you are, and after that talk in as many chats as you
like, one line a message:

    ada
    kitchen: hello
    kitchen: You said: hello

A WebSocket at ws://localhost:8000/chat/ is answered by the same process.
"""

import sys
from functools import partial
from typing import Any

import trio
from django.conf import settings

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["localhost", "127.0.0.1"])

from django.urls import path

from greenroom.bridges.asyncio import hosted, open_hosted_loop
from greenroom.bridges.channels.consumer import SyncConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter
from greenroom.runtime import open_scopes, serve
from greenroom.runtime.listeners import open_tcp
from greenroom.runtime.scopes import Conversation, Scopes

LONGEST_LINE = 4096  # bytes; a client that sends longer ones is cut off
IDLE_SECONDS = 600.0  # a chat in which nothing was said for so long is over


class ChattyBotConsumer(SyncConsumer):
    def telegram_message(self, message: dict[str, Any]) -> None:
        """Simple echo handler for telegram messages in any chat."""
        self.send(
            {
                "type": "telegram.message",
                "text": "You said: %s" % message["text"],  # noqa: UP031 -- as in the introduction
            }
        )


class PublicChatConsumer(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=f"You said: {text_data}")


application = ProtocolTypeRouter(
    {
        "websocket": URLRouter([path("chat/", PublicChatConsumer.as_asgi())]),
        "telegram": ChattyBotConsumer.as_asgi(),
    }
)


class Phone:
    """One connection: lines to and from its user, and a scope for each of its chats."""

    def __init__(self, scopes: Scopes, stream: trio.SocketStream, idle_seconds: float) -> None:
        self._scopes = scopes
        self._stream = stream
        self._idle_seconds = idle_seconds
        self._chats: dict[str, tuple[Conversation, trio.CancelScope]] = {}
        self._writing = trio.Lock()  # chats answer at the same time, and lines stay whole

    async def serve(self) -> None:
        """Serve the connection to its end; its chats end with it."""
        lines = self._read_lines()
        async with trio.open_nursery() as nursery:
            username = await anext(lines, "")
            async for line in lines:
                chat, colon, text = line.partition(":")
                if not colon:
                    await self._write("! say it as 'chat: text'")
                    continue
                await self._hear(nursery, username, chat.strip(), text.strip())
            nursery.cancel_scope.cancel()

    async def _hear(self, nursery: trio.Nursery, username: str, chat: str, text: str) -> None:
        if chat not in self._chats:
            scope = {"type": "telegram", "username": username, "chat": chat}
            conversation = self._scopes.open(scope, partial(self._answer, chat))
            patience = trio.CancelScope()
            self._chats[chat] = conversation, patience
            nursery.start_soon(self._keep, chat, conversation, patience)
        conversation, patience = self._chats[chat]
        patience.deadline = trio.current_time() + self._idle_seconds
        # Waits while the bot has much to do: the next line stays with its sender.
        await conversation.feed({"type": "telegram.message", "text": text})

    async def _keep(
        self, chat: str, conversation: Conversation, patience: trio.CancelScope
    ) -> None:
        try:
            with patience:
                await conversation.join()
        finally:
            conversation.stop()
            del self._chats[chat]

    async def _answer(self, chat: str, message: dict[str, Any]) -> None:
        await self._write(f"{chat}: {message['text']}")

    async def _write(self, line: str) -> None:
        async with self._writing:
            try:
                await self._stream.send_all(f"{line}\n".encode())
            except trio.BrokenResourceError:
                return  # its user has hung up; `serve` learns of that by itself

    async def _read_lines(self) -> Any:
        buffer = b""
        try:
            async for data in self._stream:
                *whole, buffer = (buffer + data).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace").strip()
                if len(buffer) > LONGEST_LINE:
                    return
        except trio.BrokenResourceError:
            return


async def serve_telegram(
    listeners: list[trio.SocketListener], *, idle_seconds: float = IDLE_SECONDS
) -> None:
    """Serve the telegram protocol, in which each chat of each connection is a scope."""
    async with open_scopes(hosted(application)) as scopes:

        async def serve_phone(stream: trio.SocketStream) -> None:
            await Phone(scopes, stream, idle_seconds).serve()

        await trio.serve_listeners(serve_phone, listeners)


async def main(*ports: int) -> None:
    websocket_port, telegram_port = ports or (8000, 8001)
    websockets = open_tcp("127.0.0.1", websocket_port)
    telegrams = await trio.open_tcp_listeners(telegram_port, host="127.0.0.1")
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, hosted(application), listeners=websockets))
        nursery.start_soon(serve_telegram, telegrams)
        print(
            f"WebSockets at ws://localhost:{websockets[0].getsockname()[1]}/chat/, "
            f"telegram at localhost:{telegrams[0].socket.getsockname()[1]}",
            flush=True,
        )


if __name__ == "__main__":
    trio.run(main, *map(int, sys.argv[1:]))
