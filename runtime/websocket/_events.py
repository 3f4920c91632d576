"""What a client's frames mean: whole messages, the three control frames, a fault.

A text message is a `str` and a binary one is `bytes`: no wrapper, since there are many.
"""

from dataclasses import dataclass
from typing import TypeAlias, final


@final
@dataclass(frozen=True, slots=True)
class Ping:
    """The client asks for a pong with the same payload."""

    payload: bytes


@final
@dataclass(frozen=True, slots=True)
class Pong:
    """The client answers a ping, or says unasked that it is there."""

    payload: bytes


@final
@dataclass(frozen=True, slots=True)
class Close:
    """The client begins to close, or answers our close.

    `code` is 1005 if the frame carried none.
    """

    code: int
    reason: str
    payload: bytes


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """The client broke the protocol. Always the last event: nothing after it has a meaning.

    `code` is what to close with: 1002, 1007 or 1009.
    """

    code: int
    reason: str


Event: TypeAlias = str | bytes | Ping | Pong | Close | Fault


class BrokenProtocol(Exception):
    """Raised inside the decoder at the first byte that breaks a rule; becomes a `Fault`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
