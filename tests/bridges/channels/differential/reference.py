"""Real Channels with the differences that Greenroom has on purpose: each named, each on its own.

A comparison that forgives would forgive too much. So Channels itself is given each
difference, by code around it, and then both sides must do exactly the same. A difference
can be left out, and a test sees that an example then fails: none stays here unused.
"""

from typing import Any, Final

from .driving import CHANNELS, Result, Run, World, play
from .programs import LAST, THEIRS, Message, Program, module

DIFFERENCES: Final = {
    "a crash is followed by disconnect": (
        "Channels forgets a consumer whose handler failed: disconnect() never runs, and its "
        "groups go on sending to nobody"
    ),
    "a cancelled consumer disconnects": (
        "a server that stops cancels its consumers; those of Channels get no disconnect()"
    ),
    "a crash in connect leaves the groups": (
        "Channels leaves a connection that never began in the groups of its class"
    ),
    "the end leaves all groups": (
        "a channel that nobody reads any more stays in the groups of Channels' layer, and "
        "their messages wait for it, until they expire"
    ),
    "a message calls handlers only": (
        "a layer message of type close, send or connect would call that method in Channels"
    ),
    "a goodbye needs no handler": (
        "a plain consumer without a handler for the disconnect ends by a ValueError in Channels"
    ),
    "nothing follows a goodbye": (
        "a plain consumer whose handler for the disconnect returns waits forever in Channels"
    ),
    "what follows a close is ignored": (
        "a message to a closed connection is an error in most servers; daphne ignores it"
    ),
    "a client that has left is no error": (
        "a handler can't know that its client has just left; the OSError of ASGI 2.4, and "
        "what uvicorn raises after the disconnect was received, end a consumer in Channels"
    ),
    "a request ends with its response": (
        "the long-polling of Channels' own documentation can't work there: the consumer "
        "ends with handle()"
    ),
    "the first error counts": (
        "where disconnect() fails after handle() has failed, Channels tells of the second only"
    ),
    "assertions name the value": "Channels' text doesn't tell what was no dict",
}

GOODBYES: Final[dict[str, Message]] = {
    "http": {"type": "http.disconnect"},
    "websocket": {"type": "websocket.disconnect", "code": 1011, "reason": ""},
}
CANCELLED: Final[dict[str, Message]] = {"websocket": {"code": 1012}}
TURNING: Final = {"websocket.accept", "websocket.close", "websocket.http.response.body"}
PROTOCOL_HANDLERS: Final = {
    "websocket_connect",
    "websocket_receive",
    "websocket_disconnect",
    "http_request",
    "http_disconnect",
}
OF_INSTANCES: Final = {
    "scope",
    "channel_layer",
    "channel_name",
    "channel_receive",
    "base_send",
    "body",
}
ASSERTIONS: Final = {
    "message is not a dict": "message is not a dict: 'no dict'",
    "": "'__asgi_channel__' is a reserved key, a message must not have it",
}


class Reference(Run):
    """One scope of a program, run by Channels with some of the `DIFFERENCES`."""

    def __init__(self, program: Program, layer: Any, differences: frozenset[str]) -> None:
        super().__init__(program, THEIRS, layer)
        self._differences = differences
        self._stop = module(THEIRS, "exceptions").StopConsumer
        self._closed = False
        self._saying_goodbye = False
        # Of an HTTP consumer:
        self._left = False  # disconnect() was called
        self._response = "awaited"
        self._handled = False
        self._handle_failed = False

    def _differs(self, name: str) -> bool:
        assert name in DIFFERENCES
        return name in self._differences

    def tell(self, error: BaseException) -> tuple[str, str]:
        name, text = super().tell(error)
        if name == "AssertionError" and self._differs("assertions name the value"):
            text = ASSERTIONS.get(text, text)
        return name, text

    # ---- which handlers there are

    async def dispatch(self, consumer: Any, inner: Any, message: Message) -> None:
        of_client = self._saying_goodbye or self.is_clients(message)
        # What a worker hands to a consumer came from a layer, too.
        self._refuse(consumer, message, of_client and self.program.scope_type != "channel")
        if self.program.kind == "http":
            await self._dispatch_to_http(consumer, inner, message)
        else:
            await inner(message)
        if of_client and message["type"] in LAST and self._differs("nothing follows a goodbye"):
            raise self._stop

    def _refuse(self, consumer: Any, message: Message, of_client: bool) -> None:
        """Raise what Greenroom raises for a message that leads to no handler of the class."""
        try:
            name = module(THEIRS, "consumer").get_handler_name(message)
        except Exception:  # noqa: BLE001 -- Channels raises it by itself
            return
        framework = [cls for cls in type(consumer).__mro__ if _is_theirs(cls)]
        reserved = OF_INSTANCES.union(*(cls.__dict__ for cls in framework))
        owner = next((cls for cls in type(consumer).__mro__ if name in cls.__dict__), None)
        if owner is None:
            allowed = name not in reserved
        elif _is_theirs(owner):
            allowed = of_client and name in PROTOCOL_HANDLERS
        else:
            allowed = of_client or name in PROTOCOL_HANDLERS or name not in reserved
        handler = getattr(consumer, name, None)
        if allowed and callable(handler):
            return
        kind = message["type"]
        if of_client and kind in LAST and self._differs("a goodbye needs no handler"):
            raise self._stop
        if handler and self._differs("a message calls handlers only"):
            raise ValueError(f"No handler for message type {kind}")

    # ---- what is sent

    def send_raw(self, consumer: Any, message: Message) -> Any:
        if self.program.sync:
            return consumer.base_send(message)  # Greenroom's own, which takes care as `send` does
        return self._send_as_it_is(message)

    async def _send_as_it_is(self, message: Message) -> None:
        await super().send(message)
        if message.get("type") == "http.response.start":
            self._response = "begun"
        elif message.get("type") == "http.response.body" and not message.get("more_body"):
            self._response = "ended"

    async def send(self, message: Message) -> None:
        kind = message.get("type")
        if (
            self._closed
            and kind in ("websocket.send", "websocket.close")
            and self._differs("what follows a close is ignored")
        ):
            return
        try:
            await self._send_as_it_is(message)
        except Exception as error:
            left = isinstance(error, OSError) or self.client_left
            if (
                left
                and self.program.scope_type in GOODBYES
                and self._differs("a client that has left is no error")
            ):
                return
            raise
        if kind in TURNING and kind != "websocket.accept" and not message.get("more_body"):
            self._closed = True

    # ---- how it ends

    async def serve(self, app: Any) -> None:
        try:
            await super().serve(app)
        except Exception:
            if self._differs("a crash is followed by disconnect"):
                await self._say_goodbye(GOODBYES.get(self.program.scope_type))
            raise
        except BaseException:  # cancelled
            kind = self.program.scope_type
            if kind in GOODBYES and self._differs("a cancelled consumer disconnects"):
                await self._say_goodbye(GOODBYES[kind] | CANCELLED.get(kind, {}))
            raise
        finally:
            if self._differs("the end leaves all groups") and hasattr(self.layer, "groups"):
                name = getattr(self._consumer, "channel_name", None)
                for group, channels in list(self.layer.groups.items()):
                    channels.pop(name, None)
                    if not channels:
                        del self.layer.groups[group]

    async def _say_goodbye(self, goodbye: Message | None) -> None:
        crashed_in = self.crashed_in
        of_client = crashed_in is not None and self.is_clients(crashed_in)
        kind = crashed_in.get("type") if crashed_in is not None and of_client else None
        if goodbye is None or kind == goodbye["type"]:
            return
        consumer = self._consumer
        if self.program.layer == "closed":
            return  # it has not begun
        self._saying_goodbye = True
        try:
            if kind != "websocket.connect":
                await consumer.dispatch(dict(goodbye))
            elif self._differs("a crash in connect leaves the groups"):
                for group in getattr(consumer, "groups", ()):
                    await consumer.channel_layer.group_discard(group, consumer.channel_name)
        except Exception:  # noqa: BLE001 -- Greenroom logs it
            return

    # ---- HTTP

    def adopt(self, consumer: Any) -> None:
        for name in ("handle", "disconnect"):
            vars(consumer).pop(name, None)  # of the scope before
        super().adopt(consumer)
        if self.program.kind != "http":
            return
        handle, disconnect = consumer.handle, consumer.disconnect

        async def note_handle(body: bytes) -> None:
            try:
                await handle(body)
            except self._stop:
                raise
            except Exception:
                self._handle_failed = True
                raise
            self._handled = True

        async def disconnect_in_time() -> None:
            if self._handle_failed and not self._saying_goodbye:
                if self._differs("the first error counts"):
                    return
            elif self._handled and not self._saying_goodbye and self._goes_on():
                return
            if not self._left:
                self._left = True
                await disconnect()

        consumer.handle, consumer.disconnect = note_handle, disconnect_in_time

    def _goes_on(self) -> bool:
        """Tell whether the request goes on after handle(), for its response is to come."""
        if self.client_left or not self._differs("a request ends with its response"):
            return False
        somebody = self.program.layer != "none" and "chat_message" in dict(self.program.handlers)
        return self._response != "ended" and somebody

    async def _dispatch_to_http(self, consumer: Any, inner: Any, message: Message) -> None:
        handled_before = self._handled
        if not (handled_before and message.get("type") == "http.request"):  # it has one body
            try:
                await inner(message)
            except self._stop:
                ended_by_handle = self._handled and not handled_before
                if not (ended_by_handle and self._goes_on()):
                    raise
        if self._handled and not self._goes_on():
            await consumer.disconnect()
            raise self._stop


def _is_theirs(cls: type) -> bool:
    return cls.__module__.startswith(f"{THEIRS}.")


def play_reference(
    program: Program,
    world: World = CHANNELS,
    differences: frozenset[str] = frozenset(DIFFERENCES),
    runs_in: World = CHANNELS,
) -> list[Result]:
    """Run a program by Channels, and tell what Greenroom has to do in `world`."""
    if world.side == world.layers_of or world == CHANNELS:
        kept = differences
    else:  # a layer of Channels knows of no readers that end
        kept = differences - {"the end leaves all groups", "assertions name the value"}

    def make_run(program: Program, side: str, layer: Any) -> Run:
        return Reference(program, layer, kept)

    return play(program, runs_in, make_run)
