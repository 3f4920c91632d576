"""The project's application, in the order that Channels' documentation gives it."""

import os

from greenroom.bridges.django.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.bridges.channels.worlds.settings")
pages = get_asgi_application()

from django.urls import path, re_path  # noqa: E402
from tests.bridges.channels.worlds import consumers  # noqa: E402

from greenroom.bridges.channels.auth import AuthMiddlewareStack  # noqa: E402
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("answer/", consumers.Answer.as_asgi()),
                path("trio-answer/", consumers.TrioAnswer.as_asgi()),
                path("events/", consumers.Events.as_asgi()),
                path("poll/", consumers.LongPoll.as_asgi()),
                re_path(r"", pages),
            ]
        ),
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("async/", consumers.AsyncEcho.as_asgi()),
                    path("sync/", consumers.SyncEcho.as_asgi()),
                    path("trio/", consumers.TrioEcho.as_asgi()),
                    path("async-json/", consumers.AsyncJson.as_asgi()),
                    path("sync-json/", consumers.SyncJson.as_asgi()),
                    path("trio-json/", consumers.TrioJson.as_asgi()),
                    path("refused/", consumers.Refusing.as_asgi()),
                    path("room/<room>/", consumers.Room.as_asgi()),
                    path("sync-room/<room>/", consumers.SyncRoom.as_asgi()),
                    path("trio-room/<room>/", consumers.TrioRoom.as_asgi()),
                    path("async-crashing/", consumers.AsyncCrashing.as_asgi()),
                    path("sync-crashing/", consumers.SyncCrashing.as_asgi()),
                    path("trio-crashing/", consumers.TrioCrashing.as_asgi()),
                    path("crashing-at-once/", consumers.CrashingAtOnce.as_asgi()),
                    path("busy/", consumers.Busy.as_asgi()),
                    path("async-user/", consumers.AsyncUser.as_asgi()),
                    path("sync-user/", consumers.SyncUser.as_asgi()),
                    path("trio-user/", consumers.TrioUser.as_asgi()),
                ]
            )
        ),
    }
)
