"""What may happen when in the life of one WebSocket, as a table.

    CONNECTING --accept--> OPEN --close--> CLOSING --peer's close--> CLOSED
        |                    |
        |                    +--- the client closes, leaves or breaks a rule ---> CLOSED
        +--close, 403--> CLOSED
        +--response.start--> DENYING --last response.body--> CLOSED

Source: the ASGI specification 2.5, "WebSocket", and its extension "WebSocket Denial
Response"; RFC 6455 section 7.
"""

from enum import Enum
from typing import Final

from .._errors import UnexpectedMessage


class State(Enum):
    """Where one WebSocket is between the upgrade request and its last byte."""

    CONNECTING = "connecting"  # the handshake waits for the application's answer
    DENYING = "denying"  # the application answers it with an HTTP response of its own
    OPEN = "open"
    CLOSING = "closing"  # our close frame is sent, the client's is awaited
    CLOSED = "closed"  # nothing will be read or written any more


class Step(Enum):
    """What happens to a WebSocket other than by a message of its application."""

    DENIED = "denied"  # the last piece of the denial response
    PEER_CLOSED = "peer closed"  # a close frame came
    FAULT = "fault"  # the client broke the protocol
    LOST = "lost"  # the connection is gone
    FAILED = "failed"  # the server ends it


NEXT: Final[dict[tuple[State, str | Step], State]] = {
    (State.CONNECTING, "websocket.accept"): State.OPEN,
    (State.CONNECTING, "websocket.close"): State.CLOSED,  # the client sees HTTP 403
    (State.CONNECTING, "websocket.http.response.start"): State.DENYING,
    (State.CONNECTING, Step.FAULT): State.CLOSED,
    (State.CONNECTING, Step.LOST): State.CLOSED,
    (State.CONNECTING, Step.FAILED): State.CLOSED,  # the client sees HTTP 500 or 503
    (State.DENYING, "websocket.http.response.body"): State.DENYING,
    (State.DENYING, Step.DENIED): State.CLOSED,
    (State.DENYING, Step.LOST): State.CLOSED,
    (State.DENYING, Step.FAILED): State.CLOSED,
    (State.OPEN, "websocket.send"): State.OPEN,
    (State.OPEN, "websocket.close"): State.CLOSING,
    (State.OPEN, Step.PEER_CLOSED): State.CLOSED,  # our answer is the last frame
    # RFC 6455 section 7.1.7: after a fault no answer is awaited.
    (State.OPEN, Step.FAULT): State.CLOSED,
    (State.OPEN, Step.LOST): State.CLOSED,
    (State.OPEN, Step.FAILED): State.CLOSING,
    (State.CLOSING, Step.PEER_CLOSED): State.CLOSED,
    (State.CLOSING, Step.FAULT): State.CLOSED,
    (State.CLOSING, Step.LOST): State.CLOSED,
    (State.CLOSING, Step.FAILED): State.CLOSING,
    (State.CLOSED, Step.LOST): State.CLOSED,
    (State.CLOSED, Step.FAILED): State.CLOSED,
}

MESSAGE_TYPES: Final = frozenset(step for _, step in NEXT if isinstance(step, str))

_RULES: Final = {
    State.CONNECTING: (
        "connecting (answer the handshake first: websocket.accept, websocket.close "
        "or websocket.http.response.start)"
    ),
    State.DENYING: "denying (only websocket.http.response.body may follow the response's start)",
    State.OPEN: "open (only websocket.send and websocket.close may follow websocket.accept)",
    State.CLOSING: "closing (nothing may follow websocket.close)",
    State.CLOSED: "closed (nothing may follow its end)",
}


def advance(state: State, step: str | Step) -> State:
    """Give the state that follows.

    Raises:
        UnexpectedMessage: the table has no such step; a message of the application's.
    """
    try:
        return NEXT[state, step]
    except KeyError:
        raise UnexpectedMessage(_RULES[state], str(step)) from None
