"""permessage-deflate: what is agreed on, and that inflating is bounded and exact."""

import random
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.runtime.websocket._deflate import Deflate, inflate, longest_deflated, negotiate
from greenroom.runtime.websocket._events import BrokenProtocol
from greenroom.runtime.websocket._extensions import ExtensionOffer, parse_extensions

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def answer(offered: str) -> str | None:
    agreed = negotiate(parse_extensions(offered))
    return None if agreed is None else agreed.answer


def deflated(data: bytes, bits: int = 15, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    compressor = zlib.compressobj(level, wbits=-bits)
    return (compressor.compress(data) + compressor.flush(flush)).removesuffix(b"\x00\x00\xff\xff")


# RFC 7692 section 7.1: the handshake.


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        ("permessage-deflate", BOTH),
        ("permessage-deflate; client_max_window_bits", BOTH),
        ("permessage-deflate; client_max_window_bits=8", BOTH),
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", BOTH),
        ("permessage-deflate; server_max_window_bits=15", BOTH + "; server_max_window_bits=15"),
        ('permessage-deflate; server_max_window_bits="9"', BOTH + "; server_max_window_bits=9"),
        ("x-webkit-deflate-frame, permessage-deflate", BOTH),
        ("", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-bzip2", None),
        # 8 bits: zlib cannot, so the client's second choice it is.
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", BOTH),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=7", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; client_max_window_bits=16", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover=true", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
    ],
)
def test_the_first_offer_that_can_be_kept_is_accepted(offered: str, wanted: str | None) -> None:
    assert answer(offered) == wanted


@pytest.mark.parametrize(
    "value",
    [";", "a b", "a;", "a; =1", "a; b=", 'a; b="', 'a; b=""', 'a; b="x y"', "a=1", "a; b c", "é"],
)
def test_malformed_extensions_are_an_error(value: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_extensions(value)


names = st.text("ab-_.!~0", min_size=1, max_size=4)
offers_ = st.lists(
    st.tuples(names, st.lists(st.tuples(names, st.none() | names), max_size=3)), max_size=3
)


@given(offers_, st.sampled_from(["", " ", "\t "]), st.booleans())
def test_extensions_written_in_any_style_are_read_as_meant(
    wanted: list[ExtensionOffer], space: str, quote: bool
) -> None:
    def pair(key: str, value: str | None) -> str:
        if value is None:
            return key
        return f'{key}{space}={space}"{value}"' if quote else f"{key}{space}={space}{value}"

    elements = [
        f"{space};{space}".join([name, *(pair(*item) for item in items)]) for name, items in wanted
    ]
    assert parse_extensions(f"{space},{space}".join(elements)) == wanted
    assert parse_extensions(f",{space}," + f"{space},,".join(elements) + ",") == wanted


@given(st.text(max_size=40))
def test_any_value_is_read_or_refused(value: str) -> None:
    try:
        offers = parse_extensions(value)
    except ValueError:
        return
    assert all(name for name, _ in offers)


# RFC 7692 section 7.2: messages.


@settings(deadline=None)
@given(
    st.binary(max_size=2000) | st.integers(0, 3000).map(bytes),
    st.integers(9, 15),
    st.integers(0, 9),
)
def test_what_any_compressor_gives_is_inflated(data: bytes, bits: int, level: int) -> None:
    assert inflate(deflated(data, bits, level), len(data)) == data


@settings(deadline=None)
@given(st.binary(max_size=2000) | st.integers(0, 200_000).map(bytes), st.integers(9, 15))
def test_what_is_deflated_fits_the_window_that_the_client_asked_for(data: bytes, bits: int) -> None:
    compressed = Deflate(bits, "").deflate(data)
    decompressor = zlib.decompressobj(-bits)
    assert decompressor.decompress(compressed + b"\x00\x00\xff\xff") == data


@pytest.mark.parametrize("bits", range(9, 16))
def test_what_is_deflated_never_refers_further_back_than_the_window(bits: int) -> None:
    # Noise that comes again after 600 bytes and after 3000: too far for some windows.
    noise = random.Random(bits).randbytes(3000)
    data = noise[:600] * 2 + noise * 2
    decompressor = zlib.decompressobj(-bits)
    rest = Deflate(bits, "").deflate(data) + b"\x00\x00\xff\xff"
    # In small pieces: zlib looks back beyond its window as long as its output is still there.
    inflated = b""
    while piece := decompressor.decompress(rest, 100):
        inflated += piece
        rest = decompressor.unconsumed_tail
    assert inflated == data


# The examples of section 7.2.3: Hello, once more in two blocks, stored, with BFINAL; empty.
@pytest.mark.parametrize(
    ("compressed", "content"),
    [
        ("f248cdc9c90700", b"Hello"),
        ("f24805000000ffffcac9c90700", b"Hello"),
        ("000500faff48656c6c6f00", b"Hello"),
        ("f348cdc9c9070000", b"Hello"),
        ("00", b""),
    ],
)
def test_the_examples_of_the_rfc_are_inflated(compressed: str, content: bytes) -> None:
    assert inflate(bytes.fromhex(compressed), 100) == content


def test_blocks_after_a_final_one_may_refer_to_what_came_before_it() -> None:
    first, second = b"greenroom " * 30, b"greenroom " * 20
    again = zlib.compressobj(9, wbits=-15, zdict=first)
    data = deflated(first, flush=zlib.Z_FINISH) + again.compress(second)
    data += again.flush(zlib.Z_SYNC_FLUSH).removesuffix(b"\x00\x00\xff\xff")
    assert inflate(data, 1000) == first + second


def fault(data: bytes, limit: int = 1000) -> int:
    with pytest.raises(BrokenProtocol) as failure:
        inflate(data, limit)
    return failure.value.code


@pytest.mark.parametrize("size", [0, 1, 100, 16384, 16385, 100_000])
def test_a_message_of_exactly_the_limit_is_inflated_and_one_byte_more_is_1009(size: int) -> None:
    assert inflate(deflated(bytes(size)), size) == bytes(size)
    assert fault(deflated(bytes(size + 1)), size) == 1009


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = deflated(bytes(50_000_000), level=9)
    assert len(bomb) < 50_000
    before = time.process_time()
    assert fault(bomb, 1000) == 1009
    assert time.process_time() - before < 0.01


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"Hello, plain text", b"\x07", b"\x00\x05\x00\x00\x00"]
)
def test_what_is_not_deflated_data_is_1002(data: bytes) -> None:
    assert fault(data) == 1002


def test_a_message_cut_within_a_block_is_1002_not_a_shorter_message() -> None:
    data = deflated(b"What the actor said, the actor meant to say. " * 5)
    for size in range(1, len(data)):
        assert fault(data[:size]) == 1002
    # A stored block of 100 bytes, of which one came: all that is put behind it fits in.
    assert fault(b"\x00\x64\x00\x9b\xffx") == 1002


def test_very_many_final_blocks_are_refused_quickly() -> None:
    before = time.process_time()
    assert fault(b"\x03\x00" * 500_000) == 1002
    assert time.process_time() - before < 0.1


@given(st.binary(max_size=200))
def test_random_bytes_are_inflated_or_refused(data: bytes) -> None:
    try:
        inflated = inflate(data, 100)
    except BrokenProtocol as broken:
        code: int | None = broken.code
    else:
        code = None
        assert len(inflated) <= 100
    assert code in (None, 1002, 1009)


def test_noise_of_the_limits_size_may_still_travel_compressed() -> None:
    for limit in (1, 100, 70_000, 1 << 20):
        noise = random.Random(limit).randbytes(limit)
        for level in (0, 1, 6, 9):
            assert len(deflated(noise, level=level)) <= longest_deflated(limit)
