"""How a consumer comes to its end, and what it is told then.

| what ends it                   | what it is told                     | what follows             |
| ------------------------------ | ----------------------------------- | ------------------------ |
| its client's last message      | that                                | nothing                  |
| `StopConsumer`                 | nothing more                        | nothing                  |
| `ClientDisconnected` of `send` | what its client sent before it left | nothing                  |
| a failure, and it may restart  | nothing                             | another instance goes on |
| any other failure              | a disconnect (1011)                 | the failure is raised    |
| its server cancels it          | a disconnect (1012), in a hurry     | the cancellation goes on |

Such a disconnect is the client's own, where that waits to be read. There is none after a
failure in `websocket.connect`, with which nothing has begun: then only the groups are left;
and none in a scope that is neither HTTP nor a WebSocket. Tasks of `start_soon` end last.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import trio

from ...actors import Mailbox
from ...runtime import ClientDisconnected, Message
from ...runtime.scopes import EVENTS
from ..asyncio._tasks import scope_is_cancelled
from ._children import on_hosted_loop
from ._intake import LAST, Intake, read
from ._threads import HandlerThreads
from ._words import handling, note, whereabouts
from .exceptions import StopConsumer

if TYPE_CHECKING:
    from ._incarnations import Incarnations
    from .consumer import AsyncConsumer

# What a consumer is told after one of its handlers has failed: the connection will be closed.
# These are the scopes of ASGI's own, whose clients come and leave.
GOODBYES: Final[dict[str, Message]] = {
    "http": {"type": "http.disconnect"},
    "websocket": {"type": "websocket.disconnect", "code": 1011, "reason": ""},
}
CANCELLED: Final[dict[str, Message]] = {"websocket": {"code": 1012}}  # the server is stopping
CLEANUP: Final = 2.0  # seconds for `disconnect` of a consumer that is cancelled

logger = logging.getLogger("greenroom.channels")


async def handle_all(
    consumer: "AsyncConsumer", intake: Intake, incarnations: "Incarnations | None" = None
) -> None:
    """Handle messages to the end, or until another instance shall take this one's place."""
    consumer._intake = intake
    threads: HandlerThreads | None = None
    if not consumer._sync and not trio.lowlevel.in_trio_task():
        threads = HandlerThreads(consumer)
        await threads.open()
    error: BaseException | None = None
    message: Message | None = None
    try:
        while True:
            error, message = await read(intake, consumer, threads)
            if (
                not isinstance(error, ClientDisconnected)
                or message is None
                or consumer.scope.get("type") not in GOODBYES
            ):
                break
            # The client has left, which is no failure: what it sent before is still
            # handled, and at last its disconnect.
            if message["type"] in LAST:
                return
            consumer._unheard.begin_anew()
            if threads is not None and threads.lease.used:
                await threads.renew(message)
        if isinstance(error, StopConsumer):
            return
        if not isinstance(error, Exception):
            await disconnect_at_once(consumer, error, message, intake.mailbox)
            raise error
        doing = intake.waits_for if message is None else handling(message)
        note(error, consumer, doing)
        if incarnations is not None and message is not None and incarnations.go_on(error):
            return
        await disconnect(consumer, message, intake.mailbox)
        raise error
    finally:
        del error  # its traceback holds this frame: no reference cycle
        try:
            await end_children(consumer)
        finally:
            consumer._intake = None
            if threads is not None:
                await threads.aclose(message)


async def disconnect(
    consumer: "AsyncConsumer",
    message: Message | None,
    mailbox: Mailbox,
    goodbye: Message | None = None,
) -> None:
    """Let a consumer clean up after its handler of `message` has failed, as if its client had left.

    If it has, then it is told with the client's own code. A connection that failed
    to begin has no end: then only the groups are left.
    """
    goodbye = goodbye or GOODBYES.get(consumer.scope.get("type", ""))
    of_client = consumer._handler_names is not consumer._layer_handlers
    kind = message.get("type") if message is not None and of_client else None
    if goodbye is None or kind == goodbye["type"]:
        return
    while mailbox.depth(EVENTS):
        unread = mailbox.get_nowait_from(EVENTS)
        if unread.get("type") == goodbye["type"]:
            goodbye = unread
    try:
        if kind == "websocket.connect":
            await consumer._leave_groups()
        else:
            consumer._handler_names = consumer._client_handlers
            await consumer.dispatch(dict(goodbye))
    except (StopConsumer, ClientDisconnected):
        return
    except Exception as error:
        # The first failure is the one that the server shall learn of.
        note(error, consumer, handling(goodbye))
        logger.exception("%s failed again while it was disconnected", type(consumer).__name__)


async def disconnect_at_once(
    consumer: "AsyncConsumer", error: BaseException, message: Message | None, mailbox: Mailbox
) -> None:
    """Let a consumer that is cancelled clean up, in a limited time; not for other `error`s."""
    if isinstance(error, GeneratorExit | KeyboardInterrupt):
        return
    if message is not None:
        logger.warning("cancelled %s", whereabouts(consumer, handling(message)))
    # On a loop of ours its own code may have done it, which is a failure as any other.
    own = not trio.lowlevel.in_trio_task() and on_hosted_loop() and not scope_is_cancelled()
    if own and message is not None:
        note(error, consumer, handling(message))
    kind = consumer.scope.get("type", "")
    if kind not in GOODBYES:
        return
    goodbye = GOODBYES[kind] | ({} if own else CANCELLED.get(kind, {}))
    handled = message
    if message is not None and message.get("type") == goodbye["type"] and not consumer._told:
        handled, goodbye = None, message  # it was cancelled before its handler began
    if trio.lowlevel.in_trio_task():
        with trio.move_on_after(CLEANUP, shield=True) as scope:
            await disconnect(consumer, handled, mailbox, goodbye)
        late = scope.cancelled_caught
    else:
        try:
            async with asyncio.timeout(CLEANUP):
                await disconnect(consumer, handled, mailbox, goodbye)
            late = False
        except TimeoutError:
            late = True
    if late:
        words = whereabouts(consumer, handling(goodbye))
        logger.error("cancelled again after %s seconds %s", CLEANUP, words)


async def end_children(consumer: "AsyncConsumer") -> None:
    """End the tasks that a consumer has started, and tell of one that fails meanwhile."""
    if consumer._children is None:
        return
    await consumer._children.aclose()
    consumer._children = None
    intake = consumer._intake
    if intake is not None and intake.crash is not None:
        (error, name), intake.crash = intake.crash, None
        note(error, consumer, f"in its task {name}")
        logger.error("a task failed while its consumer was ending", exc_info=error)
