"""What can go wrong between a client, the server and an application, by whose fault it is.

The words are those of sans-IO libraries: local is our side, which for a server means
the application, and remote is the client.
"""

from collections.abc import Sequence


class LocalProtocolError(Exception):
    """Raised by `send` when the application breaks a rule of ASGI or of the protocol below it.

    The text names the rule. Nothing was written and no state has changed: the message
    counts as never sent, and the application may go on with a correct one.
    """


class UnexpectedMessage(LocalProtocolError):
    """Raised by `send` when the application sends a message that its scope has no room for now.

    Args:
        state: what the scope is doing, in words: "waiting for http.response.start".
        message_type: the `type` of the refused message.
    """

    def __init__(self, state: str, message_type: str) -> None:
        super().__init__(state, message_type)
        self.state = state
        self.message_type = message_type

    def __str__(self) -> str:
        return f"ASGI allows no message {self.message_type!r} while the scope is {self.state}"


class RemoteProtocolError(Exception):
    """Raised by a parser when the client breaks the protocol; the connection must end.

    Args:
        status: the HTTP status to answer with, where an answer is still possible.
        reason: one line for the client and the log. It never repeats the client's bytes.
        events: what was parsed before the fault, for the caller to deliver first.
    """

    def __init__(self, status: int, reason: str, events: Sequence[object] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.events = events

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class ClientDisconnected(OSError):
    """Raised by `send` when the client has gone, as ASGI 2.4 asks of a server."""

    def __str__(self) -> str:
        return "the client has disconnected"


class CannotRestart(Exception):
    """Raised by an application that was started again in place, and can't go on from there.

    The scope then ends as after any other crash; see `restarts_in_place`.
    """


class ApplicationExited(Exception):
    """Raised in place of a `SystemExit` of an application, which ends one scope, not the server.

    `sys.exit()` in a request is hardly ever meant for everybody else's: argument parsers
    call it for a bad argument. `__cause__` is the exception itself.
    """

    def __init__(self, code: object) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the application called sys.exit({self.code!r})"


def instead_of_exit(error: BaseException) -> Exception | None:
    """Make the exception that ends one scope in place of `error`, which would end the program.

    That is a `SystemExit`, and a `GeneratorExit` that code raised by itself, as a misused
    generator does. It is for the caller to know that nobody closes its coroutine. In a
    group, they count for all of it, unless there is something else in it that has to pass.

    >>> instead_of_exit(GeneratorExit())
    RuntimeError('the application raised GeneratorExit')
    >>> instead_of_exit(KeyboardInterrupt())

    Returns:
        The exception, with `error` as its cause; None if `error` is another one.
    """
    exits: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        exits, others = error.split((SystemExit, GeneratorExit))
        if others is not None and not isinstance(others, Exception):
            return None
        while isinstance(exits, BaseExceptionGroup):
            exits = exits.exceptions[0]
    made: Exception
    if isinstance(exits, SystemExit):
        made = ApplicationExited(exits.code)
    elif isinstance(exits, GeneratorExit):
        made = RuntimeError("the application raised GeneratorExit")
    else:
        return None
    made.__cause__ = error
    return made


def sole(error: Exception) -> Exception:
    """Take the one exception out of the groups that nurseries put around it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
