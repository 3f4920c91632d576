"""Close codes and close frames: what may be said in them, and how it is read.

Source: RFC 6455 sections 5.5.1 and 7.4, and the IANA registry of close codes.
"""

from typing import Final

from ._events import BrokenProtocol, Close

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005  # only ever reported: the close frame carried no code
ABNORMAL: Final = 1006  # only ever reported: there was no close frame
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013

MAX_REASON: Final = 123  # bytes: a control frame holds 125, the code takes two

# 1004 is reserved; 1005, 1006 and 1015 are for reports and never travel.
_REGISTERED: Final = frozenset({*range(1000, 1004), *range(1007, 1015)})


def may_travel(code: int) -> bool:
    """Tell whether `code` may stand in a close frame.

    >>> [code for code in (999, 1000, 1005, 1012, 1015, 2000, 4321, 5000) if may_travel(code)]
    [1000, 1012, 4321]
    """
    return code in _REGISTERED or 3000 <= code <= 4999


def refusal_status(code: int) -> int:
    """Give the HTTP status for a client that waits for its handshake, in place of `code`.

    >>> refusal_status(RESTART), refusal_status(INTERNAL_ERROR)
    (503, 500)
    """
    return 503 if code in (RESTART, TRY_AGAIN_LATER) else 500


def pack_close(code: int, reason: str = "") -> bytes:
    """Make the payload of a close frame.

    Raises:
        ValueError: `code` may not travel, or `reason` has more than 123 bytes or is not
            encodable as UTF-8.
    """
    if not may_travel(code):
        raise ValueError(
            f"close code {code} may not be sent: 1000-1003, 1007-1014 and 3000-4999 may "
            "(RFC 6455 section 7.4)"
        )
    encoded = reason.encode()
    if len(encoded) > MAX_REASON:
        raise ValueError(
            f"the close reason has {len(encoded)} bytes in UTF-8, more than {MAX_REASON} "
            "(RFC 6455 section 5.5)"
        )
    return code.to_bytes(2, "big") + encoded


def unpack_close(payload: bytes) -> Close:
    """Read the payload of a close frame.

    Raises:
        BrokenProtocol: the payload is one byte, the code may not travel, or the reason is
            not UTF-8.
    """
    if not payload:
        return Close(NO_CODE, "", payload)
    if len(payload) == 1:
        raise BrokenProtocol(PROTOCOL_ERROR, "close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not may_travel(code):
        raise BrokenProtocol(PROTOCOL_ERROR, "close code that may not be sent")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        raise BrokenProtocol(INVALID_DATA, "close reason is not UTF-8") from None
    return Close(code, reason, payload)
