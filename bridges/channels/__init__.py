"""Channels' consumer API over Greenroom, below the module names that Channels has.

A project written for Channels changes `channels.` to `greenroom.bridges.channels.` in its
imports. This bridge stands on three others, because a consumer's handlers are code of
their worlds: `asyncio` runs async handlers, `threads` sync ones, and `django.database`
guards the connections that they use.

Source: Channels 4.3.2, by its documentation and by observing it; its code is not used.
"""

DEFAULT_CHANNEL_LAYER = "default"

__all__ = ["DEFAULT_CHANNEL_LAYER"]
