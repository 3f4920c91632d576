"""What goes wrong between a sender and a channel."""


class ChannelFull(Exception):
    """Raised by `send` when as many messages as its capacity wait on a channel unread.

    The receiver is slower than its senders: send less, or raise the layer's `capacity`.
    The channel's name is the only argument.
    """


class InvalidChannelLayerError(ValueError):
    """Raised when a channel layer is configured wrongly, or has no groups where one needs them."""
