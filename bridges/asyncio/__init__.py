"""Code written for asyncio, hosted in a trio program; and trio's, as a guest of an asyncio loop.

A task belongs to the scope (the request, the WebSocket) in whose code it was created: when the
scope ends, it is cancelled, and a warning names it. What an installed library creates for
itself is the library's. What shall live longer is started in the
application's lifespan, or with a context of its own:
`asyncio.create_task(poll(), context=contextvars.Context())`.

>>> async def main():
...     async with open_hosted_loop() as loop:
...         return await loop.run_asyncio(asyncio.sleep, 0, "slept")
>>> import asyncio, trio
>>> trio.run(main)
'slept'
"""

from ._app import anywhere as anywhere
from ._app import call_app as call_app
from ._app import hosted as hosted
from ._errors import NoHostedLoop as NoHostedLoop
from ._errors import TaskCancelled as TaskCancelled
from ._loop import HostedLoop as HostedLoop
from ._loop import current_hosted_loop as current_hosted_loop
from ._loop import open_hosted_loop as open_hosted_loop
from ._outer import OuterLoop as OuterLoop
from ._scope import HostedScope as HostedScope
from ._serve import serve as serve
from ._waiting import MailboxWaiter as MailboxWaiter
from ._waiting import wait_mailbox as wait_mailbox

__all__ = [
    "HostedLoop",
    "HostedScope",
    "MailboxWaiter",
    "NoHostedLoop",
    "OuterLoop",
    "TaskCancelled",
    "anywhere",
    "call_app",
    "current_hosted_loop",
    "hosted",
    "open_hosted_loop",
    "serve",
    "wait_mailbox",
]
