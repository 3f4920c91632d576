"""The site as Greenroom serves it."""

from greenroom.bridges.django.asgi import get_asgi_application

django_application = get_asgi_application()

from consumers import AsyncEcho, SyncEcho  # noqa: E402 - Django must be set up first
from django.urls import path  # noqa: E402

from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter(
            [path("async/", AsyncEcho.as_asgi()), path("sync/", SyncEcho.as_asgi())]
        ),
    }
)
