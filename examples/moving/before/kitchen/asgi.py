"""What a server serves."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kitchen.settings")

django_asgi_app = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import (
    ChannelNameRouter,
    ProtocolTypeRouter,
    URLRouter,
)
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path, re_path

from .consumers import PRINTER, KitchenConsumer, PrinterConsumer, TableEvents, WaiterConsumer
from .middleware import TableMiddleware

websockets = [
    path("kitchen/", KitchenConsumer.as_asgi()),
    path("waiter/", TableMiddleware(WaiterConsumer.as_asgi())),
]
pages = [
    path("table/<int:table>/events/", TableEvents.as_asgi()),
    re_path("", django_asgi_app),
]
application = ProtocolTypeRouter(
    {
        "http": URLRouter(pages),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websockets))),
        "channel": ChannelNameRouter({PRINTER: PrinterConsumer.as_asgi()}),
    }
)
