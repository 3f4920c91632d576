"""One WebSocket from the upgrade request to its last byte, as ASGI sees it.

Sans-IO: the server hands in what the client sent and what the application sends, writes
what comes back, and asks `should_close`. Which step may follow which is the table in
`_states.py`; the bytes are made and read in `_handshake.py` and `_frames.py`.

Source: the ASGI specification 2.5, "WebSocket", and "WebSocket Denial Response".
"""

from collections.abc import Callable, Sequence
from typing import Final, final

from .._errors import ClientDisconnected, LocalProtocolError, UnexpectedMessage
from .._types import Message
from ..http import RequestHead, ResponseWriter, error_response
from ._closing import ABNORMAL, INTERNAL_ERROR, NORMAL, refusal_status
from ._events import Close, Event, Fault, Ping, Pong
from ._frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameDecoder,
    encode_close,
    encode_control,
    encode_message,
    encode_text,
)
from ._handshake import Handshake, check_accept_headers
from ._limits import WebSocketLimits
from ._states import MESSAGE_TYPES, State, Step, advance

# A client may not send before it was accepted. What it sends all the same is kept up to
# this many bytes, which is more than any honest mistake.
MAX_EARLY: Final = 16 * 1024

_DEFAULT_LIMITS: Final = WebSocketLimits()


@final
class WebSocketSession:
    """The server's half of one WebSocket.

    The application's messages go through `send`, the client's bytes through
    `receive_data`. Whatever happens, the messages that these and `receive_eof` and `fail`
    give hold exactly one websocket.disconnect, and it is the last; for that the server
    calls `receive_eof` whenever the connection has ended, also when it ended it itself.

    Its code is the one in the client's close frame, which usually repeats ours if the
    application closed first; 1005 if that frame had none; 1006 if none came; and after a
    fault of the client the code that it was closed with.

    Args:
        head: the request; its `is_websocket` is true.
        limits: sizes and compression.
        default_headers: what every response of this server carries, such as `date`;
            names in lower case.

    Raises:
        RemoteProtocolError: the handshake is wrong. The server answers with its status.
    """

    __slots__ = (
        "_decoder",
        "_default_headers",
        "_deflate",
        "_disconnected",
        "_finished",
        "_handshake",
        "_ping",
        "_pings",
        "_response",
        "outgoing",
        "state",
        "subprotocols",
    )

    def __init__(
        self,
        head: RequestHead,
        limits: WebSocketLimits = _DEFAULT_LIMITS,
        default_headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        handshake = Handshake(head, per_message_deflate=limits.per_message_deflate)
        self.state = State.CONNECTING
        self.subprotocols = handshake.subprotocols
        self.outgoing = bytearray()

        # While it connects or is denied.
        self._handshake: Handshake | None = handshake
        self._default_headers = default_headers
        self._response: ResponseWriter | None = None

        # While it is open.
        self._deflate = handshake.deflate
        self._decoder = FrameDecoder(
            limits.max_message_size,
            deflate=self._deflate is not None,
            max_frame_size=limits.max_frame_size,
        )
        self._pings = 0
        self._ping: bytes | None = None

        self._finished = False  # the application ended it itself
        self._disconnected = False  # it was told so

    @property
    def should_close(self) -> bool:
        """Whether nothing more will be written or read: flush, then close the socket."""
        return self.state is State.CLOSED

    @property
    def awaiting_pong(self) -> bool:
        """Whether the last `ping` was not answered yet."""
        return self._ping is not None

    # What the client does.

    def receive_data(self, data: bytes) -> list[Message]:
        """Give the messages for the application that `data` completes, in order.

        Look at `outgoing` afterwards: a ping or a close was answered there. Bytes that
        came before the handshake was answered are kept, and give their messages with the
        next call after websocket.accept; `data` may be empty for that.
        """
        if self.state is not State.OPEN:
            return self._receive_when_not_open(data)
        messages: list[Message] = []
        for event in self._decoder.receive_data(data):
            if type(event) is str:
                messages.append({"type": "websocket.receive", "text": event})
            elif type(event) is bytes:
                messages.append({"type": "websocket.receive", "bytes": event})
            else:
                self._control(event, messages)
                if self.state is not State.OPEN:
                    break
        return messages

    def receive_eof(self) -> list[Message]:
        """Note that the connection is gone; give the disconnect if it is still owed."""
        self.state = advance(self.state, Step.LOST)
        return self._disconnect(ABNORMAL)

    def data_to_send(self) -> bytes:
        """Give what must be written in answer to the client, once.

        `outgoing` is the same without taking it, to ask cheaply whether there is anything.
        """
        data = bytes(self.outgoing)
        self.outgoing.clear()
        return data

    # What the application does.

    def send(self, message: Message) -> bytes:
        """Give the bytes that a message of the application becomes; maybe none.

        Raises:
            UnexpectedMessage: the state has no room for it.
            LocalProtocolError: there is something wrong in it. In both cases nothing has
                changed.
            ClientDisconnected: the WebSocket has ended, and not by the application.
        """
        kind = message.get("type")
        if kind == "websocket.send" and self.state is State.OPEN:
            return self._encode(message)
        if not isinstance(kind, str):
            raise LocalProtocolError(f"the 'type' of an ASGI message is a str, not {kind!r}")
        try:
            following = advance(self.state, kind)
        except UnexpectedMessage:
            ended = self.state is State.CLOSING or self.state is State.CLOSED
            if ended and not self._finished and kind in MESSAGE_TYPES:
                raise ClientDisconnected from None
            raise
        data = _SENDERS[kind](self, message)
        self.state = following
        if self._response is not None and self._response.complete:
            self.state = advance(self.state, Step.DENIED)
            self._response = None
        # An application that ends it knows, and must not go on.
        self._finished = self.state is State.CLOSING or self.state is State.CLOSED
        return data

    # What the server does.

    def ping(self) -> bytes:
        """Give a ping, and expect its pong; none if the WebSocket is not open."""
        if self.state is not State.OPEN:
            return b""
        # RFC 6455 section 5.5.3: a pong repeats its ping, so each of ours is different.
        self._pings += 1
        self._ping = self._pings.to_bytes(4, "big")
        return encode_control(PING, self._ping)

    def fail(self, code: int, reason: str = "") -> tuple[bytes, list[Message]]:
        """End it from the server's side: give bytes to write, and what to tell the application.

        An open WebSocket is closed with `code`, such as 1012 for a restart; while the
        handshake waits, the client sees HTTP 503 for 1012 and 1013 and 500 for others.

        Raises:
            ValueError: `code` may not be sent, or `reason` is longer than 123 bytes.
        """
        data = b""
        if self.state is State.CONNECTING:
            data = error_response(refusal_status(code), headers=self._default_headers)
        elif self.state is State.DENYING and self._response is not None:
            data = self._response.fail()  # a 500 if nothing of the denial has left yet
        elif self.state is State.OPEN:
            data = self.data_to_send() + encode_close(code, reason)
        self.state = advance(self.state, Step.FAILED)
        return data, self._disconnect(code, reason)

    def crash(self) -> bytes:
        """End it because the application crashed, or returned without having ended it.

        The client sees HTTP 500 if the handshake was not answered, and close code 1011 if
        it was. Nobody is left to be told of a disconnect.
        """
        data, _ = self.fail(INTERNAL_ERROR)
        return data

    # What each of them leads to.

    def _control(self, event: Event, messages: list[Message]) -> None:
        """React to what is not a message, while open."""
        match event:
            case Ping(payload):
                self.outgoing += encode_control(PONG, payload)
            case Pong(payload):
                if payload == self._ping:
                    self._ping = None
            case Close(code, reason, payload):
                # RFC 6455 section 5.5.1: the answer repeats what came.
                self.outgoing += encode_control(CLOSE, payload)
                self.state = advance(self.state, Step.PEER_CLOSED)
                messages += self._disconnect(code, reason)
            case Fault(code, reason):
                self.outgoing += encode_close(code, reason)
                self.state = advance(self.state, Step.FAULT)
                messages += self._disconnect(code, reason)

    def _receive_when_not_open(self, data: bytes) -> list[Message]:
        if self.state is State.CLOSING:
            return self._await_close(data)
        if self.state is State.CONNECTING:
            self._decoder.keep(data)
            if self._decoder.kept > MAX_EARLY:
                self.outgoing += error_response(
                    400, "data before the handshake was answered", self._default_headers
                )
                self.state = advance(self.state, Step.FAULT)
                return self._disconnect(ABNORMAL)
        return []

    def _await_close(self, data: bytes) -> list[Message]:
        """Skip what the client sent before it read our close frame, up to its own."""
        for event in self._decoder.receive_data(data):
            if isinstance(event, Close):
                self.state = advance(self.state, Step.PEER_CLOSED)
                return self._disconnect(event.code, event.reason)
            if isinstance(event, Fault):
                self.state = advance(self.state, Step.FAULT)
                return self._disconnect(ABNORMAL)
        return []

    def _disconnect(self, code: int, reason: str = "") -> list[Message]:
        """Give the one disconnect, or nothing if it was given already."""
        if self._disconnected:
            return []
        self._disconnected = True
        return [{"type": "websocket.disconnect", "code": code, "reason": reason}]

    def _encode(self, message: Message) -> bytes:
        """websocket.send."""
        text = message.get("text")
        payload = message.get("bytes")
        if isinstance(text, str) and payload is None:
            try:
                if self._deflate is None:
                    return encode_text(text)
                return encode_message(TEXT, text.encode(), self._deflate)
            except UnicodeEncodeError:
                raise LocalProtocolError(
                    "'text' of websocket.send holds half of a surrogate pair, which is not text "
                    "(RFC 6455 section 5.6)"
                ) from None
        if isinstance(payload, (bytes, bytearray, memoryview)) and text is None:
            return encode_message(BINARY, bytes(payload), self._deflate)
        raise LocalProtocolError(
            "websocket.send carries either a str as 'text' or bytes as 'bytes' (ASGI, WebSocket, "
            f"Send), not {type(text).__name__} and {type(payload).__name__}"
        )

    def _accept(self, message: Message) -> bytes:
        """websocket.accept."""
        assert self._handshake is not None
        subprotocol = message.get("subprotocol")
        headers = check_accept_headers(message.get("headers") or ())
        named = {name for name, _ in headers}
        defaults = [pair for pair in self._default_headers if pair[0] not in named]
        data = self._handshake.accept(subprotocol, defaults + headers)
        self._forget_handshake()
        return data

    def _close(self, message: Message) -> bytes:
        """websocket.close, before and after websocket.accept."""
        if self.state is State.CONNECTING:
            data = error_response(403, headers=self._default_headers)
            self._forget_handshake()
            return data
        code = message.get("code")
        if code is None:
            code = NORMAL
        reason = message.get("reason") or ""
        if not isinstance(code, int) or not isinstance(reason, str):
            raise LocalProtocolError(
                "'code' of websocket.close must be an int and 'reason' a str (ASGI, WebSocket, "
                f"Close); they are {code!r} and {reason!r}"
            )
        try:
            frame = encode_close(code, reason)
        except ValueError as error:
            raise LocalProtocolError(f"websocket.close: {error}") from None
        return self.data_to_send() + frame

    def _start_response(self, message: Message) -> bytes:
        """websocket.http.response.start."""
        assert self._handshake is not None
        response = ResponseWriter(self._handshake.head, self._default_headers)
        response.keep_alive = False
        data = response.send({**message, "type": "http.response.start"})
        self._response = response
        self._forget_handshake()
        return data

    def _continue_response(self, message: Message) -> bytes:
        """websocket.http.response.body."""
        assert self._response is not None
        return self._response.send({**message, "type": "http.response.body"})

    def _forget_handshake(self) -> None:
        """An idle WebSocket should hold nothing of its request."""
        self._handshake = None
        self._default_headers = ()


_SENDERS: Final[dict[str, Callable[[WebSocketSession, Message], bytes]]] = {
    "websocket.accept": WebSocketSession._accept,
    "websocket.send": WebSocketSession._encode,
    "websocket.close": WebSocketSession._close,
    "websocket.http.response.start": WebSocketSession._start_response,
    "websocket.http.response.body": WebSocketSession._continue_response,
}
