"""Channels' consumer API over Greenroom, below the module names that Channels has.

A project written for Channels changes `channels.` to `greenroom.bridges.channels.` in its
imports, or calls `install_as_channels()` and changes none. `"greenroom.bridges.channels"` in
`INSTALLED_APPS` brings `manage.py runworker` and checks of `CHANNEL_LAYERS`.

This bridge stands on three others, because a consumer's handlers are code of their worlds:
`asyncio` runs async handlers, `threads` sync ones, and `django.database` guards the
connections that they use.

Source: Channels 4.3.2, by its documentation and by observing it; its code is not used.
"""

from ._install import ChannelsImportedFirst as ChannelsImportedFirst
from ._install import install_as_channels as install_as_channels

__version__ = "4.3.2"  # of Channels, whose contract this is; `greenroom` has a version of its own

DEFAULT_CHANNEL_LAYER = "default"

__all__ = ["DEFAULT_CHANNEL_LAYER", "ChannelsImportedFirst", "install_as_channels"]
