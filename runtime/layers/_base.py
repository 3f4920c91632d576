"""What every channel layer has: names, capacities, and the methods that a backend fills in.

Source: the Channels specification of channel layers, and `channels.layers` 4.3, whose
helpers layers of others call. Its patterns end in `$`, which lets a name with a trailing
newline through; ours match the whole name.
"""

import re
import warnings
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from fnmatch import translate
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

from .._types import Message
from ._sync import SyncLayer

# Three, as the type of a mapping's keys is invariant.
Capacities: TypeAlias = (
    Mapping[str, int] | Mapping[re.Pattern[str], int] | Mapping[str | re.Pattern[str], int]
)
Patterns: TypeAlias = Sequence[tuple[re.Pattern[str], int]]
# What the methods of a layer return. A backend may write them as `async def`.
Sent: TypeAlias = Coroutine[Any, Any, None]


class BaseChannelLayer:
    """The base of channel layers; a backend overrides `send`, `receive`, `new_channel`.

    Args:
        expiry: seconds after which a message that nobody has taken is dropped.
        capacity: messages that wait on one channel at most; one more is `ChannelFull`.
        channel_capacity: other capacities by channel name: a glob such as `"http.*"`, or
            a compiled regular expression, to a number. The first that matches counts.
    """

    MAX_NAME_LENGTH = 100

    extensions: ClassVar[list[str]] = []
    group_expiry: int

    # Anchored for layers of others, which may call `match` themselves.
    channel_name_regex = re.compile(r"^[a-zA-Z\d\-_.]+(![\d\w\-_.]*)?\Z")
    group_name_regex = re.compile(r"^[a-zA-Z\d\-_.]+\Z")
    invalid_name_error = (
        "{} name must be a valid unicode string with length < 100 containing only ASCII "
        "alphanumerics, hyphens, underscores, or periods."
    )

    def __init__(
        self,
        expiry: int = 60,
        capacity: int = 100,
        channel_capacity: Capacities | None = None,
    ) -> None:
        self.expiry = expiry
        self.capacity = capacity
        self.channel_capacity: Capacities | Patterns = channel_capacity or {}

    @cached_property
    def sync(self) -> SyncLayer:
        """`send` and the groups as plain calls, for threads that run no event loop."""
        return SyncLayer(self)

    def compile_capacities(self, channel_capacity: Capacities) -> Patterns:
        """Make a list of (pattern, capacity) of what settings say, in their order.

        >>> BaseChannelLayer().compile_capacities({"http.*": 200})[0][0].match("http.request!x")
        <re.Match object; span=(0, 14), match='http.request!x'>
        """
        return [
            (re.compile(translate(name)) if isinstance(name, str) else name, capacity)
            for name, capacity in channel_capacity.items()
        ]

    def get_capacity(self, channel: str) -> int:
        """Tell how many messages may wait on `channel`."""
        patterns = self.channel_capacity
        if not patterns:
            return self.capacity
        if isinstance(patterns, Mapping):
            patterns = self.compile_capacities(patterns)
        for pattern, capacity in patterns:
            if pattern.match(channel):
                return capacity
        return self.capacity

    def match_type_and_length(self, name: object) -> bool:
        """Tell whether `name` is a str of fewer than 100 characters."""
        return isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH

    def require_valid_channel_name(self, name: str, receive: bool = False) -> bool:
        """Return True for a name that a channel may have.

        With `receive`, the name may be used for receiving from all channels of a
        process, so it must not go on after the `!`.

        Raises:
            TypeError: it is no such name.
        """
        if not self.match_type_and_length(name) or not self.channel_name_regex.fullmatch(name):
            raise TypeError(self.invalid_name_error.format("Channel"))
        if receive and "!" in name and not name.endswith("!"):
            raise TypeError("Specific channel names in receive() must end at the !")
        return True

    def require_valid_group_name(self, name: str) -> bool:
        """Return True for a name that a group may have.

        Raises:
            TypeError: it is no such name.
        """
        if not self.match_type_and_length(name) or not self.group_name_regex.fullmatch(name):
            raise TypeError(self.invalid_name_error.format("Group"))
        return True

    def valid_channel_names(self, names: Iterable[str], receive: bool = False) -> bool:
        """Return True for a list of names that channels may have.

        Raises:
            AssertionError: the list is empty, or there is none.
            TypeError: one of them is no such name.
        """
        # Each letter of a str would be a name.
        names = [] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
        if not names:
            raise AssertionError("names must be a non-empty list")
        return all(self.require_valid_channel_name(name, receive=receive) for name in names)

    def valid_channel_name(
        self,
        channel_name: str,
        receive: bool = False,  # noqa: ARG002 -- without effect, as in Channels
    ) -> bool:
        """Return what `require_valid_channel_name` returns; its older name in Channels."""
        warnings.warn(
            "valid_channel_name is deprecated, use require_valid_channel_name instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.require_valid_channel_name(channel_name)

    def valid_group_name(self, group_name: str) -> bool:
        """Return what `require_valid_group_name` returns; its older name in Channels."""
        warnings.warn(
            "valid_group_name is deprecated, use require_valid_group_name instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.require_valid_group_name(group_name)

    def require_valid_message(self, message: Message) -> None:
        """Check that `message` is a dict without the key that layers address with.

        Raises:
            AssertionError: it is not. Channels raises this, so that code can rely on it.
        """
        if not isinstance(message, dict):
            raise AssertionError(f"message is not a dict: {message!r}")  # noqa: TRY004 -- as told above
        if "__asgi_channel__" in message:
            raise AssertionError("'__asgi_channel__' is a reserved key, a message must not have it")

    def non_local_name(self, name: str) -> str:
        """Give the part of a channel's name that processes share.

        >>> BaseChannelLayer().non_local_name("specific.a1!b2")
        'specific.a1!'
        """
        return name[: name.index("!") + 1] if "!" in name else name

    def send(self, channel: str, message: Message) -> Sent:
        """Send `message` to the one receiver of `channel`."""
        raise NotImplementedError("send() should be implemented in a channel layer")

    def receive(self, channel: str) -> Coroutine[Any, Any, Message]:
        """Wait for the next message on `channel`."""
        raise NotImplementedError("receive() should be implemented in a channel layer")

    def new_channel(self, prefix: str = "specific.") -> Awaitable[str]:
        """Make up the name of a channel that only this process receives on."""
        raise NotImplementedError("new_channel() should be implemented in a channel layer")

    def flush(self) -> Sent:
        """Forget all messages and all groups."""
        raise NotImplementedError("flush() not implemented (flush extension)")

    def group_add(self, group: str, channel: str) -> Sent:
        """Let `channel` have what is sent to `group`."""
        raise NotImplementedError("group_add() not implemented (groups extension)")

    def group_discard(self, group: str, channel: str) -> Sent:
        """Undo `group_add`; nothing happens if there was none."""
        raise NotImplementedError("group_discard() not implemented (groups extension)")

    def group_send(self, group: str, message: Message) -> Sent:
        """Send `message` to every channel in `group`; full ones miss it."""
        raise NotImplementedError("group_send() not implemented (groups extension)")
