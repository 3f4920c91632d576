"""How much one WebSocket may ask of the server."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """What a client may send, and what it may agree on.

    Args:
        max_message_size: bytes of one message, after decompression and over all its
            fragments; a longer one ends in close code 1009. The default is daphne's, 1 MiB:
            with compression on, 1 KiB on the wire can become that much.
        max_frame_size: bytes of one frame as it travels; a longer one ends in 1009, too. None,
            the default, lets a message come in one frame, however long it may be.
        per_message_deflate: whether compression is agreed on when the client offers it.

    Raises:
        ValueError: a size is less than 1.
    """

    max_message_size: int = 1024 * 1024
    max_frame_size: int | None = None
    per_message_deflate: bool = True

    def __post_init__(self) -> None:
        if self.max_message_size < 1:
            raise ValueError(f"max_message_size is {self.max_message_size!r}; it must be 1 or more")
        if self.max_frame_size is not None and self.max_frame_size < 1:
            raise ValueError(
                f"max_frame_size is {self.max_frame_size!r}; it must be 1 or more, or None"
            )
