"""The real command in a process of its own: its output, line by line, and a client."""

import re
import signal
from collections.abc import Awaitable, Callable

import trio

# A trio application, which answers with the version that stands in its source.
APPLICATION = """
from greenroom.runtime import speaks

@speaks("trio")
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(f"no application for {scope['type']}")
    body = b"version 1 " + scope["root_path"].encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
"""

# Seconds without a word, after which a command counts as stuck.
PATIENCE = 30


class Command:
    """A running command and what it has written to standard error so far."""

    def __init__(self, process: trio.Process, stderr: trio.abc.ReceiveStream) -> None:
        self.process = process
        self.output = ""
        self._stderr = stderr
        self._seen = 0  # characters of the output that `line` has gone past

    async def line(self, pattern: str) -> re.Match[str]:
        """Wait for the next line that `pattern` is found in."""
        while True:
            for line in self.output[self._seen :].splitlines(keepends=True):
                if not line.endswith("\n"):
                    break
                self._seen += len(line)
                if found := re.search(pattern, line):
                    return found
            if not await self._read():
                raise AssertionError(f"no line with {pattern!r} in:\n{self.output}")

    async def end(self) -> int:
        """Wait until every process that writes to this output has ended; give the status."""
        while await self._read():
            pass
        return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return await self.end()

    async def port(self) -> int:
        """Wait for the line that tells the address."""
        return int((await self.line(r" on https?://127\.0\.0\.1:(\d+)"))[1])

    async def _read(self) -> bool:
        with trio.fail_after(PATIENCE):
            part = await self._stderr.receive_some()
        self.output += bytes(part).decode()
        return bool(part)


Start = Callable[..., Awaitable[Command]]


async def get(stream: trio.abc.Stream, path: str = "/") -> tuple[str, str]:
    """Request `path`, and give the head and the body of the answer."""
    async with stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join([bytes(part) async for part in stream])
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head, body


async def get_tcp(port: int, path: str = "/") -> tuple[str, str]:
    """Request `path` of a server on this machine."""
    return await get(await trio.open_tcp_stream("127.0.0.1", port), path)
