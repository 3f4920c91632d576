"""I31 to I33: what applications and clients are told, whatever either side does."""

import re

import h11
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.sessions import CALM, Act, Failure, Session, Told, play, sessions

from greenroom.actors.testing import schedules
from greenroom.runtime import App, Receive, Scope, Send, restarts_in_place
from greenroom.runtime.restarting import EXTENSION

# I31

# What may follow what an application has sent; what else it sends is refused.
STEPS: dict[str, dict[tuple[str, Act], str]] = {
    "http": {
        ("waiting", "start"): "answering",
        ("answering", "part"): "answering",
        ("answering", "last"): "over",
    },
    "websocket": {
        ("waiting", "accept"): "open",
        ("open", "send"): "open",
        ("open", "close"): "over",
        ("waiting", "close"): "over",
        ("waiting", "start"): "answering",
        ("answering", "part"): "answering",
        ("answering", "last"): "over",
    },
}
EVENTS = {
    "http": re.compile(r"(http.request\+ )*(http.request )?(http.disconnect )?"),
    "websocket": re.compile(r"(websocket.connect (websocket.receive )*(websocket.disconnect )?)?"),
}


@given(sessions(), schedules(decisions=100))
@settings(deadline=None)
def test_i31_events_come_in_a_legal_order_with_one_disconnect_and_nothing_follows_the_end(
    session: Session, choices: list[int]
) -> None:
    [told] = play([session], choices)
    assert EVENTS[session.kind].fullmatch("".join(f"{event} " for event in told.events))
    if session.drains and "fail" not in session.acts and told.calls:
        assert told.events[-1].endswith(".disconnect")
    state = "waiting"
    for act, outcome in told.outcomes:
        following = STEPS[session.kind].get((state, act))
        assert (outcome == "sent") <= (following is not None)
        state = following or state
    check_wire(session, told)


def check_wire(session: Session, told: Told) -> None:
    """See that the client read at most one answer, or one WebSocket's frames, and no more."""
    head, _, frames = told.wire.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101 "):
        opcodes = opcodes_of(frames)
        assert opcodes.count(CLOSE) <= 1
        assert CLOSE not in opcodes[:-1]
        return
    if not told.wire:
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(told.wire)
    while type(event := client.next_event()) in (h11.InformationalResponse, h11.Response, h11.Data):
        pass
    if event is h11.NEED_DATA:  # it was cut off
        assert not told.wire or ("last", "sent") not in told.outcomes or session.leaves
    else:
        assert isinstance(event, h11.EndOfMessage)
        assert client.trailing_data[0] == b""


CLOSE = 8


def opcodes_of(frames: bytes) -> list[int]:
    """Read a server's frames, which are short and in one piece here."""
    opcodes = []
    while frames:
        opcodes.append(frames[0] & 15)
        assert frames[1] < 126
        frames = frames[2 + frames[1] :]
    return opcodes


# I33


@given(
    st.lists(sessions(), min_size=1, max_size=2),
    sessions(),
    st.integers(0, 2),
    schedules(decisions=100),
)
@settings(deadline=None, max_examples=50)
def test_i33_whatever_becomes_of_one_scope_changes_nothing_on_any_other_connection(
    others: list[Session], neighbour: Session, at: int, choices: list[int]
) -> None:
    at %= len(others) + 1
    wild = play([*others[:at], neighbour, *others[at:]], choices, gap=0.3)
    calm = play([*others[:at], CALM, *others[at:]], gap=0.3)
    del wild[at], calm[at]
    assert wild == calm


# I32

WORDS = ["say", "fail", "say and fail", "wait and fail", "ping", "pause"]


@given(st.lists(st.sampled_from(WORDS), max_size=6), schedules(decisions=100))
@settings(deadline=None, max_examples=50)
def test_i32_a_restart_emits_no_bytes_and_loses_and_repeats_no_message(
    words: list[str], choices: list[int]
) -> None:
    session = Session("websocket", deeds=tuple(words))
    [told] = play([session], choices, gap=0.3, application=talker(fails=True))
    [calm] = play([session], gap=0.3, application=talker(fails=False))
    assert told.wire == calm.wire


def talker(*, fails: bool) -> App:
    """Make an application that numbers what it hears, and goes on after it has failed."""

    @restarts_in_place(intensity=100)
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if EXTENSION not in scope["extensions"]:
            await receive()
            await send({"type": "websocket.accept"})
            scope["heard"] = 0
        while (event := await receive())["type"] == "websocket.receive":
            text = event["text"]
            scope["heard"] += 1
            if "wait" in text:
                await trio.sleep(1)
            if "say" in text:
                await send({"type": "websocket.send", "text": f"{scope['heard']}: {text}"})
            if "fail" in text and fails:
                raise Failure

    return app
