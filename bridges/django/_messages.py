"""Between ASGI's messages and what Django makes of them: a request's body, a response's head.

Source: the ASGI specification, "HTTP & WebSocket" 2.5; `django.core.handlers.asgi`.
"""

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from io import BytesIO
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.http import HttpResponseBase

from ...runtime import Message, Receive


async def read_body(receive: Receive) -> IO[bytes]:
    """Read a request's whole body; one of many parts goes to a temporary file once it is large.

    Large is more than `FILE_UPLOAD_MAX_MEMORY_SIZE` bytes, as in Django.

    Raises:
        RequestAborted: the client left before its body was there.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return BytesIO(message.get("body", b""))
    with ExitStack() as on_failure:
        spool = on_failure.enter_context(
            tempfile.SpooledTemporaryFile(max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE)
        )
        while message["type"] == "http.request":
            spool.write(message.get("body", b""))
            if not message.get("more_body", False):
                spool.seek(0)
                on_failure.pop_all()
                return spool
            message = await receive()
    raise RequestAborted


class ClientLeft(Exception):
    """Raised where a server raised an `OSError`: the content may raise such errors as well."""


def telling(send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Make of a server's `send`, which may raise any `OSError`, one that raises `ClientLeft`."""

    async def send_or_tell(message: Any) -> None:
        try:
            await send(message)
        except OSError as error:
            raise ClientLeft from error

    return send_or_tell


def response_start(response: HttpResponseBase) -> Message:
    """Make the message that begins a response: its status, headers and cookies."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    headers += [
        (b"Set-Cookie", cookie.output(header="").encode("ascii").strip())
        for cookie in response.cookies.values()
    ]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
