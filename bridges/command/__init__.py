"""The command line: `greenroom run project.asgi:application`.

It puts the floors together: `runtime` loads, listens and serves, and `bridges.asyncio`
hosts applications written for asyncio, which is why this bridge imports that one.
"""

from ._main import main as main

__all__ = ["main"]
