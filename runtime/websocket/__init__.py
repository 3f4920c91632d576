"""WebSocket as bytes on one side and ASGI `websocket` messages on the other. Never waits.

A server writes what `send` and `data_to_send` give, and puts what `receive_data`,
`receive_eof` and `fail` give into the mailbox of the scope. One frame for many
connections is made by `encode_text`.
"""

from ._frames import encode_text as encode_text
from ._handshake import refuse_handshake as refuse_handshake
from ._limits import WebSocketLimits as WebSocketLimits
from ._session import WebSocketSession as WebSocketSession
from ._states import State as State

__all__ = ["State", "WebSocketLimits", "WebSocketSession", "encode_text", "refuse_handshake"]
