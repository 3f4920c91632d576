# fmt: off
# ruff: noqa
# mypy: ignore-errors
"""The programs of the Channels introduction, as written there apart from the imports.

Source: Channels' documentation, "Introduction". The imports and consumers that it leaves
open are filled in around each program.
"""

import asyncio

from django.urls import path

from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.generic.websocket import (
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.routing import (
    ChannelNameRouter,
    ProtocolTypeRouter,
    URLRouter,
)
from tests.django_project.models import Log

# -- 1: "A basic consumer looks like this"


class ChatConsumer(WebsocketConsumer):

    def connect(self):
        self.username = "Anonymous"
        self.accept()
        self.send(text_data="[Welcome %s!]" % self.username)

    def receive(self, *, text_data):
        if text_data.startswith("/name"):
            self.username = text_data[5:].strip()
            self.send(text_data="[set your username to %s]" % self.username)
        else:
            self.send(text_data=self.username + ": " + text_data)

    def disconnect(self, message):
        pass


# -- 2: "This means you can safely do blocking operations, like calling the Django ORM"


class LogConsumer(WebsocketConsumer):

    def connect(self, message):
        Log.objects.create(
            type="connected",
            client=self.scope["client"],
        )


# -- 3: "you can write fully asynchronous consumers"


class PingConsumer(AsyncConsumer):
    async def websocket_connect(self, message):
        await self.send({
            "type": "websocket.accept",
        })

    async def websocket_receive(self, message):
        await asyncio.sleep(1)
        await self.send({
            "type": "websocket.send",
            "text": "pong",
        })


# -- 4: "You can combine multiple consumers [...] into one bigger app"


class AdminChatConsumer(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        await self.send("admin: " + text_data)


class PublicChatConsumer(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        await self.send("public: " + text_data)


application = URLRouter([
    path("chat/admin/", AdminChatConsumer.as_asgi()),
    path("chat/", PublicChatConsumer.as_asgi()),
])

url_router = application

# -- 5: "you can build a chatbot in a similar style"; examples/telegram is its server


class ChattyBotConsumer(SyncConsumer):

    def telegram_message(self, message):
        """
        Simple echo handler for telegram messages in any chat.
        """
        self.send({
            "type": "telegram.message",
            "text": "You said: %s" % message["text"],
        })


application = ProtocolTypeRouter({

    "websocket": URLRouter([
        path("chat/admin/", AdminChatConsumer.as_asgi()),
        path("chat/", PublicChatConsumer.as_asgi()),
    ]),

    "telegram": ChattyBotConsumer.as_asgi(),
})

two_protocols = application

# -- 6: "Cross-Process Communication"; the introduction calls `send` without `await`


class EventSender(WebsocketConsumer):
    def receive(self, text_data):
        channel, text = self.channel_name, text_data
        # In a consumer
        self.channel_layer.send(
            'event', 
            {
                'type': 'message',
                'channel': channel,
                'text': text,
            }
        )

    def echo(self, event):
        self.send(event["text"])


class EventConsumer(SyncConsumer):
    def message(self, message):
        self.channel_layer.send(
            message["channel"], {"type": "echo", "text": "event: " + message["text"]}
        )


class ThumbnailSender(AsyncWebsocketConsumer):
    groups = ["thumbnails"]

    async def receive(self, text_data):
        # In a consumer
        self.channel_layer.send(
            "myproject.thumbnail_notifications",
            {
                "type": "thumbnail.generate",
                "id": 90902949,
            },
        )

    async def thumbnail_ready(self, event):
        await self.send("ready: %d" % event["id"])


class ThumbnailConsumer(AsyncConsumer):
    async def thumbnail_generate(self, message):
        await self.channel_layer.group_send(
            "thumbnails", {"type": "thumbnail.ready", "id": message["id"]}
        )


across = ProtocolTypeRouter({
    "websocket": URLRouter([
        path("event/", EventSender.as_asgi()),
        path("thumbnails/", ThumbnailSender.as_asgi()),
    ]),
    "channel": ChannelNameRouter({
        "event": EventConsumer.as_asgi(),
        "myproject.thumbnail_notifications": ThumbnailConsumer.as_asgi(),
    }),
})

# -- 7: "Django Integration"


class consumers:
    class AsyncChatConsumer(AsyncWebsocketConsumer):
        async def receive(self, text_data):
            name = self.scope["user"].get_username() or "stranger"
            await self.send(f"{name} at {self.scope['url_route']['args'][0]}: {text_data}")


from django.core.asgi import get_asgi_application
from django.urls import re_path

# Initialize Django ASGI application early to ensure the AppRegistry
# is populated before importing code that may import ORM models.
django_asgi_app = get_asgi_application()

from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter
from greenroom.bridges.channels.auth import AuthMiddlewareStack
from greenroom.bridges.channels.security.websocket import AllowedHostsOriginValidator

application = ProtocolTypeRouter({
    "http": django_asgi_app,
    "websocket": AllowedHostsOriginValidator(
        AuthMiddlewareStack(
            URLRouter([
                re_path(r"^front(end)/$", consumers.AsyncChatConsumer.as_asgi()),
            ])
        )
    ),
})
