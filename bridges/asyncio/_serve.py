"""The server for applications of every flavour."""

from typing import Any

from ...runtime import App
from ...runtime import serve as serve_in_trio
from ._app import hosted
from ._loop import open_hosted_loop


async def serve(app: App, **options: Any) -> None:
    """Serve `app`, whatever it speaks, as `greenroom.runtime.serve` with the same options."""
    async with open_hosted_loop():
        await serve_in_trio(hosted(app), **options)
