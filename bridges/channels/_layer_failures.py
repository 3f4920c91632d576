"""What it means that a layer of somebody else has failed, and how soon it is asked again."""

from enum import Enum
from typing import Final

from ...actors import Backoff

# Between two tries. The jitter is as long as the pause, since thousands may have failed in the
# same moment. Whose connection had lasted for `reset_after` waits no longer than at first.
PAUSES: Final = Backoff(first=0.1, longest=2.5, jitter=1.0, reset_after=1.0)
RATE: Final = 300  # tries in a second, by all who fail together: each costs a millisecond or more
SOON: Final = 1.0  # seconds; a receive that gives up sooner has not waited for a message

MISTAKES: Final = (
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    RuntimeError,  # two loops receive at once; with NotImplementedError, NoHostedLoop
    TypeError,
)


class Failure(Enum):
    """What it means that a method of a layer has raised."""

    IDLE = "nobody has sent anything for a while"
    LOSS = "one message can't be read"
    MISTAKE = "the code is wrong"
    OUTAGE = "the layer can't be reached"


def judge(error: Exception, lasted: float) -> Failure:
    """Tell what it means that `receive` has raised `error` after so many seconds.

    redis-py gives up waiting after five seconds since its version 8, which is as long as
    channels_redis asks the server to wait.
    """
    name = type(error).__name__  # clients have classes of their own, with these names
    if lasted >= SOON and (isinstance(error, TimeoutError) or name == "TimeoutError"):
        return Failure.IDLE
    # A certificate that is refused is a ValueError, too.
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return Failure.LOSS
    if isinstance(error, RecursionError) or name == "InvalidToken":
        return Failure.LOSS  # nested too deep; encrypted with a key that we don't have
    return Failure.MISTAKE if isinstance(error, MISTAKES) else Failure.OUTAGE


def is_mistake(error: BaseException) -> bool:
    """Tell whether a call that waits for no message was wrong, and has not reached the server."""
    kinds = (Failure.LOSS, Failure.MISTAKE)
    return isinstance(error, Exception) and judge(error, 0.0) in kinds
