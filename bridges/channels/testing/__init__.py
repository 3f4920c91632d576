"""Testing consumers and other ASGI applications, with Channels' tools under Channels' names.

`ApplicationCommunicator`, `HttpCommunicator` and `WebsocketCommunicator` talk to an application
without a server: in an asyncio test (pytest-asyncio, Django's async `TestCase`, `asyncio.run`)
as in a trio test (pytest-trio). What the test has written in its transaction, the handlers
see. `ChannelsLiveServerTestCase` runs the project's server for a browser. `virtual_time` makes
waiting take no time. Fixtures for pytest are in `greenroom.bridges.channels.testing.fixtures`.

>>> async def echo(scope, receive, send):
...     while (message := await receive())["type"] != "websocket.disconnect":
...         if message["type"] == "websocket.connect":
...             await send({"type": "websocket.accept"})
...         else:
...             await send({"type": "websocket.send", "text": message["text"]})
>>> async def main():
...     async with WebsocketCommunicator(echo, "/") as communicator:
...         assert await communicator.connect() == (True, None)
...         await communicator.send_to(text_data="hello")
...         return await communicator.receive_from()
>>> import asyncio, trio
>>> asyncio.run(main()), trio.run(main)
('hello', 'hello')
"""

from ._clock import virtual_time as virtual_time
from .application import ApplicationCommunicator as ApplicationCommunicator
from .application import ApplicationStopped as ApplicationStopped
from .http import HttpCommunicator as HttpCommunicator
from .live import ChannelsLiveServerTestCase as ChannelsLiveServerTestCase
from .websocket import WebsocketCommunicator as WebsocketCommunicator

__all__ = [
    "ApplicationCommunicator",
    "ApplicationStopped",
    "ChannelsLiveServerTestCase",
    "HttpCommunicator",
    "WebsocketCommunicator",
    "virtual_time",
]
