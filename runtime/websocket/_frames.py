"""Frames of RFC 6455: a client's bytes become messages, our messages become bytes.

Sans-IO, and the events are the same however the network cut the bytes. A small message
that arrived whole takes a short way through `receive_data`; everything else (fragments,
pieces, compression, control frames) the long one below it. Both give the same events.
"""

import codecs
from struct import Struct
from typing import Final, final

from ._closing import INVALID_DATA, PROTOCOL_ERROR, TOO_BIG, pack_close, unpack_close
from ._deflate import WORTH_DEFLATING, Deflate, inflate, longest_deflated
from ._events import BrokenProtocol, Event, Fault, Ping, Pong
from ._masking import apply_mask

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FINAL: Final = 0x80  # FIN: the last frame of its message
_DEFLATED: Final = 0x40  # RSV1: the message is compressed (RFC 7692 section 6)
_RESERVED: Final = 0x30
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80

_FINAL_TEXT: Final = _FINAL | TEXT
_FINAL_BINARY: Final = _FINAL | BINARY

# The second byte of a header holds a length up to 125; these say that it follows.
_LENGTH_IN_2_BYTES: Final = 126
_LENGTH_IN_8_BYTES: Final = 127
_MAX_SHORT: Final = 125

_pack_medium: Final = Struct("!BBH").pack
_pack_long: Final = Struct("!BBQ").pack
_SHORT_HEADERS: Final = {
    first: [bytes((first, length)) for length in range(_MAX_SHORT + 1)]
    for first in (_FINAL_TEXT, _FINAL_BINARY, _FINAL | CLOSE, _FINAL | PING, _FINAL | PONG)
}
_SHORT_TEXT: Final = _SHORT_HEADERS[_FINAL_TEXT]

_utf8_decoder: Final = codecs.getincrementaldecoder("utf-8")


def encode_text(text: str) -> bytes:
    r"""Make the frame of a text message, uncompressed, as every client understands it.

    One frame may be written to any number of connections.

    >>> encode_text("Hello")
    b'\x81\x05Hello'

    Raises:
        UnicodeEncodeError: `text` holds half of a surrogate pair.
    """
    payload = text.encode()
    if len(payload) <= _MAX_SHORT:
        return _SHORT_TEXT[len(payload)] + payload
    return _frame(_FINAL_TEXT, payload)


def encode_message(opcode: int, payload: bytes, deflate: Deflate | None) -> bytes:
    """Make the frame of a message for one client, compressed if that was agreed on and pays.

    Short messages, and those that do not get shorter, travel as they are: RFC 7692
    section 6 leaves that to the sender, message by message.
    """
    if deflate is not None and len(payload) >= WORTH_DEFLATING:
        deflated = deflate.deflate(payload)
        if len(deflated) < len(payload):
            return _frame(_FINAL | _DEFLATED | opcode, deflated)
    return _frame(_FINAL | opcode, payload)


def encode_close(code: int, reason: str = "") -> bytes:
    """Make a close frame.

    Raises:
        ValueError: what `pack_close` raises.
    """
    return _frame(_FINAL | CLOSE, pack_close(code, reason))


def encode_control(opcode: int, payload: bytes) -> bytes:
    """Make a ping, pong or close frame with a payload of at most 125 bytes."""
    return _frame(_FINAL | opcode, payload)


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length <= _MAX_SHORT:
        short = _SHORT_HEADERS.get(first)
        return (short[length] if short else bytes((first, length))) + payload
    if length < 1 << 16:
        return _pack_medium(first, _LENGTH_IN_2_BYTES, length) + payload
    return _pack_long(first, _LENGTH_IN_8_BYTES, length) + payload


@final
class FrameDecoder:
    """A client's bytes in, its messages out.

    A frame's payload is taken in as it arrives, so a long message costs its own size and
    no more, in however many fragments and pieces it comes. Sizes are checked when the
    header is there, before the payload is.

    Args:
        max_message_size: bytes of one message; more is a fault 1009.
        deflate: whether compression was agreed on; without it RSV1 is a fault.
        max_frame_size: bytes of one data frame, as it travels; more is a fault 1009, too.
    """

    __slots__ = (
        "_buffer",
        "_content",
        "_deflate",
        "_deflated",
        "_final",
        "_mask",
        "_max_frame_size",
        "_max_size",
        "_max_whole",
        "_missing",
        "_opcode",
        "_text",
    )

    def __init__(
        self, max_message_size: int, *, deflate: bool, max_frame_size: int | None = None
    ) -> None:
        self._max_size = max_message_size
        self._max_frame_size = max_frame_size
        # Of a message in one frame, not compressed.
        self._max_whole = min(max_message_size, max_frame_size or max_message_size)
        self._deflate = deflate
        self._buffer = b""  # the beginning of a header or of a control frame

        # Of the message under way; its opcode is 0 between messages.
        self._opcode = 0
        self._deflated = False
        self._content: bytearray | None = None
        self._text: codecs.IncrementalDecoder | None = None

        # Of the data frame under way.
        self._final = False
        self._missing = 0  # bytes of its payload still to come
        self._mask = b""  # turned so that it fits the next byte to come

    @property
    def kept(self) -> int:
        """How many bytes wait to be decoded with the next ones."""
        return len(self._buffer)

    def keep(self, data: bytes) -> None:
        """Take bytes that came too early to be decoded; they are, with the next ones."""
        self._buffer += data

    def receive_data(self, data: bytes) -> list[Event]:
        """Give the events that `data` completes, in order.

        After a `Fault`, which is always the last event, feed nothing more.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        events: list[Event] = []
        position = 0
        size = len(data)
        try:
            while position < size:
                if self._missing:
                    position = self._receive_payload(data, position, events)
                    continue
                if size - position < 2:
                    break
                first = data[position]
                length = data[position + 1] - _MASKED
                start = position + 6
                if length == _LENGTH_IN_2_BYTES and size - position >= 8:
                    length = data[position + 2] << 8 | data[position + 3]
                    start = position + 8
                end = start + length
                # The short way: one whole message in one frame, its length well encoded.
                if (
                    _FINAL_TEXT <= first <= _FINAL_BINARY
                    and (0 <= length <= _MAX_SHORT) == (start - position == 6)
                    and end <= size
                    and not self._opcode
                    and length <= self._max_whole
                ):
                    payload = apply_mask(data[start:end], data[start - 4 : start])
                    events.append(payload.decode() if first == _FINAL_TEXT else payload)
                    position = end
                    continue
                after = self._receive_frame(data, position, events)
                if after == position:
                    break
                position = after
        except BrokenProtocol as broken:
            events.append(Fault(broken.code, broken.reason))
            return events
        except UnicodeDecodeError:
            events.append(Fault(INVALID_DATA, "text is not UTF-8"))
            return events
        if position < size:
            self._buffer = data[position:]
        return events

    def _receive_frame(self, data: bytes, position: int, events: list[Event]) -> int:
        """Begin the frame at `position`, of which at least two bytes are there.

        Gives the position after what was taken: `position` itself if more bytes must
        come first. What can be judged is judged at once, so a client that sends two wrong
        bytes and waits is told.
        """
        first = data[position]
        length = data[position + 1]
        opcode = first & _OPCODE
        self._check_first_byte(first, opcode)
        # RFC 6455 section 5.1: a server must not accept an unmasked frame.
        if not length & _MASKED:
            raise BrokenProtocol(PROTOCOL_ERROR, "frame is not masked")
        length &= ~_MASKED

        mask_at = position + 2
        if length > _MAX_SHORT:
            # RFC 6455 section 5.5: control frames are short.
            if opcode >= CLOSE:
                raise BrokenProtocol(PROTOCOL_ERROR, "control frame is longer than 125 bytes")
            mask_at += 2 if length == _LENGTH_IN_2_BYTES else 8
            if len(data) < mask_at:
                return position
            shortest = _MAX_SHORT + 1 if length == _LENGTH_IN_2_BYTES else 1 << 16
            length = int.from_bytes(data[position + 2 : mask_at], "big")
            # RFC 6455 section 5.2: the fewest bytes that hold the length, top bit zero.
            if not shortest <= length < 1 << 63:
                raise BrokenProtocol(PROTOCOL_ERROR, "frame length is encoded wrongly")
        if opcode < CLOSE:
            self._check_size(length, deflated=self._deflated if self._opcode else first & _DEFLATED)

        start = mask_at + 4
        if len(data) < start:
            return position
        mask = data[mask_at:start]
        if opcode >= CLOSE:
            end = start + length
            if len(data) < end:
                return position
            events.append(_read_control(opcode, apply_mask(data[start:end], mask)))
            return end

        self._final = bool(first & _FINAL)
        self._missing = length
        self._mask = mask
        if opcode:
            self._opcode = opcode
            self._deflated = bool(first & _DEFLATED)
        return self._receive_payload(data, start, events)

    def _check_first_byte(self, first: int, opcode: int) -> None:
        """Raise if a frame may not begin like this now."""
        # RFC 6455 section 5.2: reserved bits are zero unless an extension uses them.
        # RFC 7692 section 6: RSV1 belongs to the first frame of a message.
        if first & _RESERVED or (
            first & _DEFLATED and not (self._deflate and opcode in (TEXT, BINARY))
        ):
            raise BrokenProtocol(PROTOCOL_ERROR, "reserved bit is set")
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise BrokenProtocol(PROTOCOL_ERROR, "opcode is reserved")
        # RFC 6455 section 5.4.
        if opcode >= CLOSE:
            if not first & _FINAL:
                raise BrokenProtocol(PROTOCOL_ERROR, "control frame is fragmented")
        elif opcode == CONTINUATION and not self._opcode:
            raise BrokenProtocol(PROTOCOL_ERROR, "continuation without a message")
        elif opcode != CONTINUATION and self._opcode:
            raise BrokenProtocol(PROTOCOL_ERROR, "message begins within another")

    def _check_size(self, length: int, *, deflated: int) -> None:
        """Raise if a frame of `length` bytes is too big, or makes its message too big."""
        if self._max_frame_size is not None and length > self._max_frame_size:
            raise BrokenProtocol(TOO_BIG, "frame is too big")
        limit = longest_deflated(self._max_size) if deflated else self._max_size
        if length + len(self._content or b"") > limit:
            raise BrokenProtocol(TOO_BIG, "message is too big")

    def _receive_payload(self, data: bytes, position: int, events: list[Event]) -> int:
        """Take what is there of the current data frame; give the position after it."""
        piece = data[position : position + self._missing]
        taken = len(piece)
        self._missing -= taken
        complete = self._final and not self._missing
        piece = apply_mask(piece, self._mask)
        if self._missing and taken % 4:
            self._mask = self._mask[taken % 4 :] + self._mask[: taken % 4]

        if self._content is None and complete:
            events.append(self._finish(piece))  # one frame, arrived whole
            return position + taken
        if self._content is None:
            self._content = bytearray()
            # Compressed text is checked once it is inflated, all of it.
            if self._opcode == TEXT and not self._deflated:
                self._text = _utf8_decoder()
        self._content += piece
        if self._text is not None:
            # Only to fail at the first wrong byte. What it decodes is not kept: a list of
            # tiny strings would let a client that fragments take much more than it sends.
            self._text.decode(piece, complete)
        if complete:
            content = bytes(self._content)
            self._content = self._text = None
            events.append(self._finish(content))
        return position + taken

    def _finish(self, content: bytes) -> str | bytes:
        """Turn the payload of a whole message into the message."""
        if self._deflated:
            content = inflate(content, self._max_size)
        is_text = self._opcode == TEXT
        self._opcode = 0
        return content.decode() if is_text else content


def _read_control(opcode: int, payload: bytes) -> Event:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong(payload)
    return unpack_close(payload)
