"""What a server serves: Django's pages, and the chat's WebSockets beside them.

`greenroom run config.asgi:application`, or `python manage.py runserver`.
"""

import os

from greenroom.bridges.django.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# First, since it sets Django up: the imports below need its models.
django_asgi_app = get_asgi_application()

from chat.routing import websocket_urlpatterns  # noqa: E402

from greenroom.bridges.channels.auth import AuthMiddlewareStack  # noqa: E402
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from greenroom.bridges.channels.security.websocket import (  # noqa: E402
    AllowedHostsOriginValidator,
)

application = ProtocolTypeRouter(
    {
        "http": django_asgi_app,
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
        ),
    }
)
