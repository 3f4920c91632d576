"""Channel layers: messages between scopes by channel name, and to many at once by group.

A layer may be called from trio, from asyncio, and through `async_to_sync` from threads.

>>> import trio
>>> async def main():
...     layer = InMemoryChannelLayer()
...     name = await layer.new_channel()
...     await layer.group_add("chat", name)
...     await layer.group_send("chat", {"type": "chat.message", "text": "hello"})
...     return await layer.receive(name)
>>> trio.run(main)
{'type': 'chat.message', 'text': 'hello'}
"""

from ._base import BaseChannelLayer as BaseChannelLayer
from ._channel import Subscription as Subscription
from ._done import DONE as DONE
from ._errors import ChannelFull as ChannelFull
from ._errors import InvalidChannelLayerError as InvalidChannelLayerError
from ._home import Waiter as Waiter
from ._memory import InMemoryChannelLayer as InMemoryChannelLayer
from ._memory import copy_message as copy_message
from ._sync import SyncLayer as SyncLayer

__all__ = [
    "DONE",
    "BaseChannelLayer",
    "ChannelFull",
    "InMemoryChannelLayer",
    "InvalidChannelLayerError",
    "Subscription",
    "SyncLayer",
    "Waiter",
    "copy_message",
]
