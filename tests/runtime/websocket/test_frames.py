"""A client's bytes become the same events however they are cut; broken ones, one fault.

The cases follow the families of the Autobahn test suite: 1 framing, 2 pings, 3 reserved
bits, 4 opcodes, 5 fragmentation, 6 UTF-8, 7 close handling, 9 limits.
"""

import random
import struct
from collections.abc import Generator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from greenroom.runtime.websocket import encode_text
from greenroom.runtime.websocket._deflate import Deflate
from greenroom.runtime.websocket._events import Close, Event, Fault, Ping, Pong
from greenroom.runtime.websocket._frames import BINARY, TEXT, FrameDecoder, encode_message
from greenroom.runtime.websocket._masking import apply_mask, mask_in_python

LIMIT = 1 << 20


def frame(first: int, payload: bytes = b"", mask: bytes = b"\x12\x34\x56\x78") -> bytes:
    """Make a client's frame with any first byte, legal or not."""
    size = len(payload)
    if size < 126:
        header = bytes((first, 0x80 | size))
    elif size < 65536:
        header = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, size)
    return header + mask + mask_in_python(payload, mask)


def decode(
    *pieces: bytes, limit: int = LIMIT, deflate: bool = False, frame_limit: int | None = None
) -> list[Event]:
    """Feed pieces as a session does: nothing after a fault."""
    decoder = FrameDecoder(limit, deflate=deflate, max_frame_size=frame_limit)
    events: list[Event] = []
    for piece in pieces:
        events += decoder.receive_data(piece)
        if events and isinstance(events[-1], Fault):
            break
    return events


def octets(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def codes(events: list[Event]) -> list[int]:
    return [event.code for event in events if isinstance(event, Fault)]


# However the bytes are cut.

payloads = st.binary(max_size=140) | st.sampled_from(
    [b"", b"\xc3", b"\xa9", b"\xf4\x90", b"h\xc3\xa9"]
)
# All first bytes, with the legal ones more often; small limits, so that sizes meet them.
first_bytes = st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A]) | st.integers(
    0, 255
)
streams = st.lists(
    st.builds(frame, first_bytes, payloads, st.binary(min_size=4, max_size=4))
    | st.binary(max_size=12)
    | st.just(frame(0x88, b"\x03\xe8bye")),
    max_size=6,
).map(b"".join)


@settings(deadline=None)
@given(streams, st.data(), st.sampled_from([1, 5, 130, LIMIT]), st.booleans())
def test_events_are_the_same_however_the_bytes_are_cut(
    stream: bytes, data: st.DataObject, limit: int, deflate: bool
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    whole = decode(stream, limit=limit, deflate=deflate)
    assert decode(*pieces, limit=limit, deflate=deflate) == whole
    assert decode(*octets(stream), limit=limit, deflate=deflate) == whole


texts = st.text(max_size=200)
messages = st.lists(texts | st.binary(max_size=300), max_size=5)


@settings(deadline=None)
@given(messages, st.data())
def test_messages_in_any_fragments_with_pings_between_arrive_whole_and_in_order(
    wanted: list[str | bytes], data: st.DataObject
) -> None:
    stream = b""
    pings = 0
    for message in wanted:
        payload = message.encode() if isinstance(message, str) else message
        opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
        cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        edges = [0, *cuts, len(payload)]
        for number, (start, stop) in enumerate(pairwise(edges)):
            part = Frame(
                opcode if number == 0 else Opcode.CONT, payload[start:stop], stop == len(payload)
            )
            if number < len(cuts) and stop == len(payload):
                part.fin = False
            stream += part.serialize(mask=True)
            if data.draw(st.booleans()):
                stream += Frame(Opcode.PING, b"%d" % pings).serialize(mask=True)
                pings += 1
    events = decode(*octets(stream))
    assert [event for event in events if not isinstance(event, Ping)] == wanted
    assert [event for event in events if isinstance(event, Ping)] == [
        Ping(b"%d" % number) for number in range(pings)
    ]


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masking_in_c_and_in_python_is_the_same_and_undoes_itself(data: bytes, mask: bytes) -> None:
    assert apply_mask(data, mask) == mask_in_python(data, mask)
    assert mask_in_python(mask_in_python(data, mask), mask) == data


# 1: framing.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 65537])
@pytest.mark.parametrize("chop", [1 << 20, 997, 1])
def test_messages_of_every_way_to_encode_their_length_arrive(size: int, chop: int) -> None:
    data = frame(0x81, b"*" * size) + frame(0x82, b"\xfe" * size)
    pieces = [data[at : at + chop] for at in range(0, len(data), chop)]
    assert decode(*pieces) == ["*" * size, b"\xfe" * size]


@settings(deadline=None)
@given(st.text(max_size=70000) | st.integers(120, 130).map("x".__mul__))
def test_text_is_encoded_as_an_unmasked_frame_that_the_standard_reader_reads(text: str) -> None:
    data = memoryview(encode_text(text))
    position = 0

    def read_exact(size: int) -> Generator[None, None, bytes]:
        nonlocal position
        position += size
        return bytes(data[position - size : position])
        yield

    reader = Frame.parse(read_exact, mask=False)
    with pytest.raises(StopIteration) as stop:
        next(reader)
    assert stop.value.value == Frame(Opcode.TEXT, text.encode())
    assert position == len(data)


@pytest.mark.parametrize(
    "header",
    [
        b"\x82\xfe\x00\x7d",  # 125 in two bytes
        b"\x82\xfe\x00\x00",
        b"\x82\xff" + (65535).to_bytes(8, "big"),  # 65535 in eight
        b"\x82\xff" + (1 << 63).to_bytes(8, "big"),  # the top bit
    ],
)
def test_length_that_is_not_encoded_in_the_fewest_bytes_is_a_fault(header: bytes) -> None:
    assert codes(decode(header)) == [1002]
    assert codes(decode(header + bytes(200))) == [1002]


@pytest.mark.parametrize("first", [0x81, 0x82, 0x00, 0x88, 0x89, 0x8A])
def test_unmasked_frame_is_a_fault_at_its_second_byte(first: int) -> None:
    assert codes(decode(bytes((first, 0)))) == [1002]
    assert codes(decode(bytes((first, 5)) + b"Hello")) == [1002]


# 2: pings and pongs.


@pytest.mark.parametrize("payload", [b"", b"Hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125])
def test_ping_and_pong_give_their_payload_also_octet_by_octet(payload: bytes) -> None:
    data = frame(0x89, payload) + frame(0x8A, payload)
    assert decode(data) == decode(*octets(data)) == [Ping(payload), Pong(payload)]


@pytest.mark.parametrize("first", [0x88, 0x89, 0x8A])
def test_control_frame_longer_than_125_bytes_is_a_fault_before_its_length_is_read(
    first: int,
) -> None:
    assert codes(decode(frame(first, b"\xfe" * 126))) == [1002]
    assert codes(decode(bytes((first, 0x80 | 126)))) == [1002]


def test_ten_pings_in_one_piece_are_ten_events() -> None:
    assert decode(b"".join(frame(0x89, b"%d" % n) for n in range(10))) == [
        Ping(b"%d" % n) for n in range(10)
    ]


# 3 and 4: reserved bits, reserved opcodes.


@pytest.mark.parametrize("opcode", [0x1, 0x2, 0x8, 0x9, 0xA])
@pytest.mark.parametrize("bits", range(0x10, 0x80, 0x10))
def test_reserved_bit_is_a_fault_that_keeps_the_messages_before_it(opcode: int, bits: int) -> None:
    data = frame(0x81, b"before") + frame(0x80 | bits | opcode, b"") + frame(0x81, b"after")
    assert decode(data) == ["before", Fault(1002, "reserved bit is set")]


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"reserved"])
def test_reserved_opcode_is_a_fault(opcode: int, payload: bytes) -> None:
    data = frame(0x81, b"before") + frame(0x80 | opcode, payload)
    assert decode(data) == ["before", Fault(1002, "opcode is reserved")]


@pytest.mark.parametrize("first", [0xC0, 0xC8, 0xC9, 0xCA, 0x40])
def test_only_the_first_frame_of_a_message_may_say_that_it_is_compressed(first: int) -> None:
    assert codes(decode(frame(0x01, b"a") + frame(first, b""), deflate=True)) == [1002]


# 5: fragmentation.


@pytest.mark.parametrize("first", [0x08, 0x09, 0x0A])
def test_fragmented_control_frame_is_a_fault(first: int) -> None:
    assert codes(decode(frame(first, b""))) == [1002]


@pytest.mark.parametrize("first", [0x80, 0x00])
def test_continuation_without_a_message_is_a_fault(first: int) -> None:
    assert codes(decode(frame(first, b"x"))) == [1002]
    after_one = frame(0x01, b"a") + frame(0x80, b"b") + frame(first, b"x")
    assert decode(after_one) == ["ab", Fault(1002, "continuation without a message")]


@pytest.mark.parametrize("first", [0x81, 0x82, 0x01, 0x02])
@pytest.mark.parametrize("begun", [0x01, 0x02])
def test_message_that_begins_within_another_is_a_fault(begun: int, first: int) -> None:
    assert codes(decode(frame(begun, b"x") + frame(first, b"y"))) == [1002]
    assert codes(decode(frame(begun, b"") + frame(first, b""))) == [1002]


def test_empty_fragments_are_fragments() -> None:
    assert decode(frame(0x01) + frame(0x00) + frame(0x80)) == [""]
    assert decode(frame(0x02) + frame(0x00, b"mid") + frame(0x80)) == [b"mid"]


def test_message_of_very_many_fragments_arrives_and_costs_its_size() -> None:
    decoder = FrameDecoder(LIMIT, deflate=False)
    assert decoder.receive_data(frame(0x01)) == []
    assert decoder.receive_data(frame(0x00, b"x") * 50_000) == []
    assert decoder.receive_data(frame(0x80, b"y")) == ["x" * 50_000 + "y"]


# 6: UTF-8.

VALID = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\x00\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff",
    "\ud7ff\ue000\ufffd\ufffe\uffff\U0001fffe",
]
INVALID = [
    b"\x80",
    b"\xbf",
    b"\xc0\xaf",  # overlong
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xed\xa0\x80",  # surrogates
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xc3",  # ends too early
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xce\xba\xe1",
]


@pytest.mark.parametrize("text", VALID)
def test_text_is_valid_wherever_frames_cut_its_characters(text: str) -> None:
    payload = text.encode()
    assert decode(frame(0x81, payload)) == [text]
    fragments = b"".join(
        frame(0x01 if at == 0 else 0, payload[at : at + 1]) for at in range(len(payload))
    )
    assert decode(fragments + frame(0x80)) == [text]


@pytest.mark.parametrize("payload", INVALID)
def test_text_that_is_not_utf8_is_a_fault_in_one_frame_in_fragments_and_in_pieces(
    payload: bytes,
) -> None:
    wanted: list[Event] = [Fault(1007, "text is not UTF-8")]
    whole = frame(0x81, payload)
    assert decode(whole) == decode(*octets(whole)) == wanted
    assert decode(frame(0x81, b"x" * 200 + payload)) == wanted
    assert decode(frame(0x01, payload) + frame(0x80)) == wanted
    assert decode(frame(0x01) + frame(0x80, payload)) == wanted
    assert decode(frame(0x82, payload)) == [payload]


def test_wrong_text_is_a_fault_at_its_first_wrong_byte_not_at_the_end_of_the_message() -> None:
    good = "κόσμε".encode()
    assert codes(decode(frame(0x01, good + b"\xf4\x90"))) == [1007]
    started = frame(0x81, good + b"\xf4\x90\x80\x80edited")
    assert decode(started[: 6 + len(good) + 1]) == []
    assert codes(decode(started[: 6 + len(good) + 2])) == [1007]


# 7: close.


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_with_a_code_that_may_travel_is_an_event(code: int) -> None:
    payload = code.to_bytes(2, "big") + b"bye"
    assert decode(frame(0x88, payload)) == [Close(code, "bye", payload)]


@pytest.mark.parametrize(
    "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_close_with_a_code_that_may_not_travel_is_a_fault(code: int) -> None:
    assert codes(decode(frame(0x88, code.to_bytes(2, "big")))) == [1002]
    assert codes(decode(frame(0x88, code.to_bytes(2, "big") + b"reason"))) == [1002]


def test_close_frame_may_be_empty_but_not_one_byte_and_its_reason_is_utf8() -> None:
    assert decode(frame(0x88)) == [Close(1005, "", b"")]
    assert codes(decode(frame(0x88, b"\x03"))) == [1002]
    assert codes(decode(frame(0x88, b"\x03\xe8\xce\xba\xe1"))) == [1007]
    longest = b"\x03\xe8" + "é".encode() * 61
    assert decode(frame(0x88, longest)) == [Close(1000, "é" * 61, longest)]


# 9: limits.


def test_message_of_exactly_the_limit_arrives_and_one_byte_more_is_1009() -> None:
    for limit in (1, 10, 125, 126, 200, 65535, 65536, 70000):
        assert decode(frame(0x82, b"x" * limit), limit=limit) == [b"x" * limit]
        assert codes(decode(frame(0x82, b"x" * (limit + 1)), limit=limit)) == [1009]


def test_fragments_count_together_against_the_limit() -> None:
    assert decode(frame(0x02, b"12") + frame(0x80, b"345"), limit=5) == [b"12345"]
    assert codes(decode(frame(0x02, b"12") + frame(0x80, b"3456"), limit=5)) == [1009]


def test_too_big_a_message_is_refused_from_its_header_before_its_payload() -> None:
    assert codes(decode(b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big"))) == [1009]
    assert codes(decode(b"\x82\xfe\x00\xc9", limit=200)) == [1009]
    assert codes(decode(b"\x82\x85", limit=4)) == [1009]


@pytest.mark.parametrize("frame_limit", [1, 125, 126, 200, 65535, 65536, 70000])
def test_a_frame_of_exactly_its_limit_arrives_and_one_byte_more_is_1009(frame_limit: int) -> None:
    most = frame(0x02, b"x" * frame_limit) + frame(0x80, b"x" * frame_limit)
    assert decode(most, frame_limit=frame_limit) == [b"x" * (2 * frame_limit)]
    for more in (
        frame(0x82, b"x" * (frame_limit + 1)),
        frame(0x02, b"x") + frame(0x80, b"x" * (frame_limit + 1)),
    ):
        assert codes(decode(more, frame_limit=frame_limit)) == [1009]


def test_the_limit_of_a_frame_is_that_of_what_travels_and_not_that_of_control_frames() -> None:
    deflated = encode_message(BINARY, bytes(10_000), Deflate(15, ""))
    [size] = struct.unpack("!B", deflated[1:2])
    assert size < 100
    masked = frame(deflated[0], deflated[2:])
    assert decode(masked, deflate=True, frame_limit=size) == [bytes(10_000)]
    assert codes(decode(masked, deflate=True, frame_limit=size - 1)) == [1009]
    assert decode(frame(0x89, b"ping"), frame_limit=1) == [Ping(b"ping")]


def test_decoder_holds_no_more_than_what_arrived_of_a_long_message() -> None:
    decoder = FrameDecoder(LIMIT, deflate=False)
    data = frame(0x82, bytes(LIMIT))
    assert decoder.receive_data(data[:100]) == []
    assert decoder.kept == 0
    assert decoder.receive_data(data[100:]) == [bytes(LIMIT)]


# What random clients send.


@given(st.binary(max_size=400), st.integers(1, 200), st.booleans())
def test_random_bytes_give_events_and_at_most_one_fault_which_is_the_last(
    data: bytes, limit: int, deflate: bool
) -> None:
    events = FrameDecoder(limit, deflate=deflate).receive_data(data)
    assert set(codes(events)) <= {1002, 1007, 1009}
    assert not any(isinstance(event, Fault) for event in events[:-1])
    for event in events:
        if isinstance(event, str):
            assert len(event.encode()) <= limit
        elif isinstance(event, bytes):
            assert len(event) <= limit


@settings(deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_damaged_conversations_never_raise(seed: int, deflate: bool) -> None:
    chance = random.Random(seed)
    agreed = Deflate(15, "")
    stream = bytearray()
    for _ in range(chance.randrange(1, 6)):
        text = "héllo wörld " * chance.randrange(200)
        if deflate and chance.random() < 0.5:
            stream += frame(0xC1, agreed.deflate(text.encode()))
        else:
            stream += frame(0x81, text.encode())
    for _ in range(chance.randrange(4)):
        stream[chance.randrange(len(stream))] = chance.randrange(256)
    whole = decode(bytes(stream), deflate=deflate)
    size = chance.randrange(1, 300)
    pieces = [bytes(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert decode(*pieces, deflate=deflate) == whole
    assert set(codes(whole)) <= {1002, 1007, 1009}


def test_messages_are_compressed_only_where_it_pays() -> None:
    agreed = Deflate(15, "")
    assert encode_message(TEXT, b"short", agreed) == encode_text("short")
    noise = random.Random(1).randbytes(5000)
    assert encode_message(BINARY, noise, agreed) == encode_message(BINARY, noise, None)
    assert len(encode_message(TEXT, b"long " * 1000, agreed)) < 100
