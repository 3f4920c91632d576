"""The project's application."""

from django.core.handlers.asgi import ASGIHandler
from django.urls import path

from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter
from greenroom.bridges.channels.security.websocket import AllowedHostsOriginValidator
from greenroom.bridges.django.asgi import get_asgi_application

pages = get_asgi_application()

from .notes import consumers  # noqa: E402 -- models come after Django's setup

stock_pages = ASGIHandler()  # what Django's own `get_asgi_application` gives

application = ProtocolTypeRouter(
    {
        "http": pages,
        "websocket": AllowedHostsOriginValidator(
            URLRouter(
                [
                    path("sync/", consumers.SyncNotes.as_asgi()),
                    path("async/", consumers.AsyncNotes.as_asgi()),
                    path("any/", consumers.AnyThreadNotes.as_asgi()),
                    path("trio/", consumers.ThreadNotes.as_asgi()),
                    path("group/", consumers.GroupNotes.as_asgi()),
                ]
            )
        ),
    }
)
