"""Sessions that end while sockets are open: who wants to know, here and in other processes.

A logout is told by Django's signal, before it has emptied the session, and by `logout` of
this bridge. Other processes learn of it by a group of the channel layer, one for each session.
"""

import logging
from collections.abc import Callable
from hashlib import sha256
from threading import Lock
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.contrib.auth import user_logged_out

from .layers import get_channel_layer

logger = logging.getLogger("greenroom.channels")

MESSAGE: Final = {"type": "session.ended"}

Listener = Callable[[object], object]

_listeners: Final[dict[str, set[Listener]]] = {}
_aliases: Final[set[str]] = set()  # layers by which other processes listen
_lock: Final = Lock()


def group_of(key: str) -> str:
    """Name the group of those that want to know of the end of a session; it tells no key.

    >>> group_of("a-session-key")
    'greenroom.session.049874913f0fec2a17ed3b1045e78517'
    """
    return f"greenroom.session.{sha256(key.encode()).hexdigest()[:32]}"


def listen_for_logouts(alias: str | None) -> None:
    """Hear of Django's logouts in this process, and tell other processes by a layer if given."""
    if alias is not None:
        _aliases.add(alias)
    user_logged_out.connect(_hear, dispatch_uid="greenroom.ended_sessions")


def add_listener(key: str, listener: Listener) -> None:
    """Have `listener(by)` called, in whatever thread, when the session of `key` has ended."""
    with _lock:
        _listeners.setdefault(key, set()).add(listener)


def remove_listener(key: str, listener: Listener) -> None:
    """Forget a listener."""
    with _lock:
        listeners = _listeners.get(key, set())
        listeners.discard(listener)
        if not listeners:
            _listeners.pop(key, None)


def tell_ended(key: str | None, by: object = None) -> None:
    """Tell that a session has ended; from a thread that may wait.

    Args:
        key: of the session, if it had one.
        by: the very session object in which it was ended.
    """
    if key is None:
        return
    with _lock:
        listeners = tuple(_listeners.get(key, ()))
    for listener in listeners:
        listener(by)
    for alias in tuple(_aliases):
        layer = get_channel_layer(alias)
        if hasattr(layer, "group_send"):
            try:
                async_to_sync(layer.group_send)(group_of(key), MESSAGE)
            except Exception:
                logger.exception("other processes could not be told of the end of a session")


def _hear(request: Any = None, **_: object) -> None:
    tell_ended(getattr(getattr(request, "session", None), "session_key", None))
