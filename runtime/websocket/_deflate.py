"""permessage-deflate: what is agreed in the handshake, and each message by itself.

Neither side takes its window over from one message to the next. That costs some of the
compression of small messages, and for it an idle connection holds no zlib state at all
(a window in each direction is 40 to 300 KiB) and a secret in one message is never
compressed together with an attacker's guess in another.

Source: RFC 7692 section 7.
"""

import zlib
from typing import Final

from ._closing import PROTOCOL_ERROR, TOO_BIG
from ._events import BrokenProtocol
from ._extensions import ExtensionOffer

NAME: Final = "permessage-deflate"

# Below this many bytes, deflate without context saves next to nothing for its 25 us.
WORTH_DEFLATING: Final = 1024

# Creating a compressor with zlib's own window of 15 bits clears 256 KiB, each message anew:
# 80 us against 2, while a chat-sized message comes out just as small.
_OUR_WINDOW_BITS: Final = 12
_OUR_MEMORY_LEVEL: Final = 5
_WIDEST_WINDOW_BITS: Final = 15
# RFC 7692 lets a client ask for 8 bits; zlib cannot compress raw data with less than 9.
_NARROWEST_WINDOW_BITS: Final = 9

# Section 7.2.1: a sender cuts these four bytes off the end, a receiver puts them back.
_EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"
# A final empty block of our own: with it, zlib reports the end of its input exactly if the
# message ended where a block ends.
_FINAL_BLOCK: Final = b"\x03\x00"
# Section 7.2.3.4 lets a sender end blocks with BFINAL. Each one costs a decompressor, so an
# honest message has one or two of them and an attack has millions.
_MAX_FINAL_BLOCKS: Final = 16


class Deflate:
    """The terms of compression that one connection agreed on.

    Args:
        window_bits: the client's decompressor keeps a window of so many bits, 9 to 15.
        answer: value of the response's `sec-websocket-extensions`.
    """

    __slots__ = ("_window_bits", "answer")

    def __init__(self, window_bits: int, answer: str) -> None:
        self._window_bits = min(window_bits, _OUR_WINDOW_BITS)
        self.answer = answer

    def deflate(self, payload: bytes) -> bytes:
        """Compress one message."""
        compressor = zlib.compressobj(
            zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._window_bits, _OUR_MEMORY_LEVEL
        )
        deflated = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return deflated.removesuffix(_EMPTY_BLOCK)


def negotiate(offers: list[ExtensionOffer]) -> Deflate | None:
    """Take the first offer of permessage-deflate that we can keep, in the client's order.

    Section 7.1: an offer with a parameter that is unknown, twice there, or has a value
    that it may not have, is declined; the next may be better.
    """
    for name, parameters in offers:
        if name == NAME:
            terms = _terms(parameters)
            if terms is not None:
                return terms
    return None


def _terms(parameters: list[tuple[str, str | None]]) -> Deflate | None:
    """Give what we answer to one offer; None declines it."""
    asked = dict(parameters)
    if len(asked) != len(parameters):
        return None
    window_bits = _WIDEST_WINDOW_BITS
    # Sections 7.1.1.1 and 7.1.1.2: a server may ask for both unasked.
    answer = [NAME, "server_no_context_takeover", "client_no_context_takeover"]
    for name, value in parameters:
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover":
                if value is not None:
                    return None
            case "client_max_window_bits":
                # Section 7.1.2.2: a hint. Our decompressor takes any window, so no answer.
                if value is not None and _read_window_bits(value) is None:
                    return None
            case "server_max_window_bits":
                bits = _read_window_bits(value)
                if bits is None or bits < _NARROWEST_WINDOW_BITS:
                    return None
                window_bits = bits
                answer.append(f"server_max_window_bits={bits}")
            case _:
                return None
    return Deflate(window_bits, "; ".join(answer))


def _read_window_bits(value: str | None) -> int | None:
    """Read 8 to 15 in decimal without leading zeros; None for anything else."""
    return int(value) if value in ("8", "9", "10", "11", "12", "13", "14", "15") else None


def longest_deflated(limit: int) -> int:
    """Bound the wire size of an honest message whose content is at most `limit` bytes.

    What cannot be compressed grows a little, and so do many small flushes.
    """
    return limit + limit // 8 + 64


def inflate(data: bytes, limit: int) -> bytes:
    """Decompress one message, and stop as soon as it is more than `limit` bytes.

    Raises:
        BrokenProtocol: 1009 if there is more than `limit`, 1002 if `data` is not what a
            compressor gives.
    """
    inflated = b""
    rest = data + _EMPTY_BLOCK + _FINAL_BLOCK
    for _ in range(_MAX_FINAL_BLOCKS + 1):
        # A block after a final one may still refer to what came before it.
        window = inflated[-(1 << _WIDEST_WINDOW_BITS) :]
        decompressor = zlib.decompressobj(-_WIDEST_WINDOW_BITS, zdict=window)
        try:
            inflated += decompressor.decompress(rest, limit - len(inflated) + 1)
        except zlib.error:
            raise BrokenProtocol(PROTOCOL_ERROR, "message is not deflated data") from None
        if len(inflated) > limit:
            raise BrokenProtocol(TOO_BIG, "message is too big")
        if not decompressor.eof:
            raise BrokenProtocol(PROTOCOL_ERROR, "deflated message ends within a block")
        rest = decompressor.unused_data
        if not rest:
            return inflated
    raise BrokenProtocol(PROTOCOL_ERROR, "deflated message has too many final blocks")
