"""What serves scopes: listeners, HTTP, WebSocket, lifespan, one actor per ASGI scope.

It knows bytes, ASGI and channel layers, and awaits every application in a trio task; what
was written for asyncio is wrapped by `greenroom.bridges.asyncio`.
"""

from ._errors import ApplicationExited as ApplicationExited
from ._errors import CannotRestart as CannotRestart
from ._errors import ClientDisconnected as ClientDisconnected
from ._errors import LocalProtocolError as LocalProtocolError
from ._errors import RemoteProtocolError as RemoteProtocolError
from ._errors import UnexpectedMessage as UnexpectedMessage
from ._site import Access as Access
from ._site import ServerConfig as ServerConfig
from ._types import App as App
from ._types import Message as Message
from ._types import Receive as Receive
from ._types import Scope as Scope
from ._types import Send as Send
from .flavours import flavour_of as flavour_of
from .flavours import speaks as speaks
from .http import RequestLimits as RequestLimits
from .lifespan import LifespanFailed as LifespanFailed
from .lifespan import open_lifespan as open_lifespan
from .listeners import CannotListen as CannotListen
from .listeners import open_inherited as open_inherited
from .listeners import open_tcp as open_tcp
from .listeners import open_unix as open_unix
from .loading import ApplicationNotLoaded as ApplicationNotLoaded
from .loading import load_application as load_application
from .restarting import RestartedInPlace as RestartedInPlace
from .restarting import restarts_in_place as restarts_in_place
from .scopes import Conversation as Conversation
from .scopes import ScopeActor as ScopeActor
from .scopes import Scopes as Scopes
from .scopes import describe as describe
from .scopes import open_scopes as open_scopes
from .server import Server as Server
from .server import StoppedAtStart as StoppedAtStart
from .server import serve as serve
from .websocket import WebSocketLimits as WebSocketLimits

__all__ = [
    "Access",
    "App",
    "ApplicationExited",
    "ApplicationNotLoaded",
    "CannotListen",
    "CannotRestart",
    "ClientDisconnected",
    "Conversation",
    "LifespanFailed",
    "LocalProtocolError",
    "Message",
    "Receive",
    "RemoteProtocolError",
    "RequestLimits",
    "RestartedInPlace",
    "Scope",
    "ScopeActor",
    "Scopes",
    "Send",
    "Server",
    "ServerConfig",
    "StoppedAtStart",
    "UnexpectedMessage",
    "WebSocketLimits",
    "describe",
    "flavour_of",
    "load_application",
    "open_inherited",
    "open_lifespan",
    "open_scopes",
    "open_tcp",
    "open_unix",
    "restarts_in_place",
    "serve",
    "speaks",
]
