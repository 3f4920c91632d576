"""Turns of threads on one database connection, which Django means for one thread alone.

Not only for each statement: a savepoint that one thread has begun ends all that others have
begun since. So a thread's turn lasts from the beginning of its outermost `atomic` to the
end. Rows are fetched in a turn, too: Python's sqlite3 gives cursors with the same SQL one
statement, and whoever fetches the last row resets it, be it another one's by then. What
Django keeps of a connection's savepoints is kept here for each thread.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, SupportsIndex, final

from django.db.backends.base.base import BaseDatabaseWrapper

# Real seconds. Who has waited for so long is what the other one waits for, most likely.
PATIENCE: Final = 2.0

logger = logging.getLogger("greenroom.django")


def turns_of(connection: Any) -> "Turns":
    """Have everybody who uses `connection` from now on take turns, in whatever thread."""
    savepoints = connection.savepoint_ids
    if isinstance(savepoints, _Savepoints):  # since a test before, and the connection is the same
        return savepoints.turns
    turns = Turns(connection.alias, connection._thread_ident)
    connection.savepoint_ids = _Savepoints(savepoints, connection._thread_ident, turns)
    connection.execute_wrappers[:] = [
        turns.execute,
        *(
            each
            for each in connection.execute_wrappers
            if not isinstance(getattr(each, "__self__", None), Turns)
        ),
    ]
    set_autocommit = type(connection).set_autocommit

    def take_turns(autocommit: bool, *args: Any, **kwargs: Any) -> None:
        # Django's way to begin an outermost transaction, and to end it.
        turns.take()
        try:
            set_autocommit(connection, autocommit, *args, **kwargs)
            if not autocommit:
                turns.hold(_TRANSACTION)
        finally:
            if autocommit:
                turns.let_go(_TRANSACTION)
            turns.give()

    connection.set_autocommit = take_turns
    create_cursor = type(connection).create_cursor
    connection.create_cursor = lambda name=None: _Cursor(create_cursor(connection, name), turns)
    _protect(connection, turns)
    return turns


def _protect(connection: Any, turns: "Turns") -> None:
    """Let nobody who borrows `connection` close it, as Django does after each request."""
    kind = type(connection)

    def close() -> None:
        if not (turns.lent and threading.get_ident() != connection._thread_ident):
            kind.close(connection)

    def close_if_unusable_or_obsolete() -> None:
        # In a transaction Django takes it for one that somebody has left unusable.
        if not turns.lent:
            kind.close_if_unusable_or_obsolete(connection)

    connection.close = close
    connection.close_if_unusable_or_obsolete = close_if_unusable_or_obsolete


def end_turn(connection: BaseDatabaseWrapper) -> None:
    """At the end of a handler: roll back the transaction that it has left open, if any."""
    savepoints = connection.savepoint_ids
    if not isinstance(savepoints, _Savepoints):
        return
    mine = savepoints.mine()
    if mine:
        logger.error(
            "A transaction on database %r was left open by the handler that just ended: "
            "what it wrote is rolled back.",
            connection.alias,
        )
        first = mine[0]
        mine.clear()
        if first is not None:
            connection.savepoint_rollback(first)
            connection.savepoint_commit(first)
    savepoints.turns.forget(threading.get_ident())


_TRANSACTION: Final = ""  # held like a savepoint, which always has a name


@final
class Turns:
    """Whose turn it is to use one connection. A thread may take its turn again and again."""

    def __init__(self, alias: str, lender: int) -> None:
        self._alias = alias
        self._lender = lender  # the thread whose connection it is
        self._loans = 0
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._depth = 0
        self._held: dict[int, set[str]] = {}  # by thread, the savepoints it has begun
        self._ousted: list[list[int]] = []  # [thread, depth], see `PATIENCE`

    @property
    def lent(self) -> bool:
        """Whether the connection is lent now."""
        return self._loans > 0

    def begin(self) -> None:
        """Take turns from now on. Who lends in a transaction waits for those who borrow."""
        with self._changed:
            self._loans += 1
        self.forget(self._lender)

    def end(self) -> None:
        """Undo `begin`."""
        with self._changed:
            self._loans -= 1
            if self._loans == 0:
                self._held.clear()
                self._ousted.clear()
                self._owner, self._depth = None, 0
                self._changed.notify_all()

    def execute(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        """Execute one statement, as one of Django's `execute_wrappers`."""
        words = sql.split(None, 3) if isinstance(sql, str) else [""]
        self.take()
        try:
            result = execute(sql, params, many, context)
            if words[0] == "SAVEPOINT":
                self.hold(words[-1])
        finally:
            if words[0] == "RELEASE":
                self.let_go(words[-1])
            self.give()
        return result

    def take(self) -> None:
        """Wait for this thread's turn."""
        me = threading.get_ident()
        with self._changed:
            if self._loans == 0:
                return
            in_time = self._changed.wait_for(lambda: self._owner in (None, me), PATIENCE)
            if self._owner == me:
                self._depth += 1
                return
            if not in_time and self._owner is not None:
                logger.warning(
                    "A thread uses the test's connection to %r out of turn: the transaction of "
                    "another one has not ended within %g seconds, as if it waited for this one.",
                    self._alias,
                    PATIENCE,
                )
                self._ousted.append([self._owner, self._depth])
            self._owner, self._depth = me, 1

    def give(self) -> None:
        """Let others have their turn, if this thread has given as often as it has taken."""
        me = threading.get_ident()
        with self._changed:
            if self._owner == me:
                self._depth -= 1
                if self._depth == 0:
                    self._pass_on()
                return
            for ousted in reversed(self._ousted):
                if ousted[0] == me:
                    ousted[1] -= 1
                    if ousted[1] == 0:
                        self._ousted.remove(ousted)
                    return

    def hold(self, name: str) -> None:
        """Keep the turn until `let_go(name)`."""
        held = self._held.setdefault(threading.get_ident(), set())
        if self._loans and name not in held:
            held.add(name)
            self.take()

    def let_go(self, name: str) -> None:
        """Undo `hold(name)`, if there was one."""
        held = self._held.get(threading.get_ident(), set())
        if name in held:
            held.discard(name)
            self.give()

    def forget(self, thread: int) -> None:
        """End the turn of `thread`, whatever it has begun."""
        with self._changed:
            self._held.pop(thread, None)
            self._ousted = [each for each in self._ousted if each[0] != thread]
            if self._owner == thread:
                self._pass_on()

    def _pass_on(self) -> None:
        self._owner, self._depth = self._ousted.pop() if self._ousted else (None, 0)
        self._changed.notify_all()


@final
class _Cursor:
    """A cursor of the connection, with a turn for each time that rows are fetched."""

    def __init__(self, cursor: Any, turns: Turns) -> None:
        self._cursor = cursor
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def _in_turn(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._turns.take()
        try:
            return fn(*args, **kwargs)
        finally:
            self._turns.give()

    def fetchone(self) -> Any:
        return self._in_turn(self._cursor.fetchone)

    def fetchmany(self, *args: int, **kwargs: int) -> Any:
        return self._in_turn(self._cursor.fetchmany, *args, **kwargs)

    def fetchall(self) -> Any:
        return self._in_turn(self._cursor.fetchall)

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self._cursor)
        while (row := self._in_turn(next, rows, None)) is not None:
            yield row

    def close(self) -> None:
        self._in_turn(self._cursor.close)


@final
class _Savepoints(list[str | None]):
    """Django's list of the savepoints of a connection: for each thread its own.

    The list itself is that of the thread whose connection it is. A None stands for an
    `atomic` block that has no savepoint.
    """

    def __init__(self, known: list[str | None], thread: int, turns: Turns) -> None:
        super().__init__(known)
        self.turns = turns
        self._thread = thread
        self._others: dict[int, list[str | None]] = {}

    def mine(self) -> list[str | None]:
        """Give those of this thread, if it is another one's than the connection."""
        return self._others.get(threading.get_ident(), [])

    def append(self, item: str | None) -> None:
        if item is None:
            self.turns.take()
        me = threading.get_ident()
        if me == self._thread:
            super().append(item)
        else:
            self._others.setdefault(me, []).append(item)

    def pop(self, index: SupportsIndex = -1) -> str | None:
        me = threading.get_ident()
        item = super().pop(index) if me == self._thread else self._others[me].pop(index)
        if item is None:
            self.turns.give()
        return item

    def __len__(self) -> int:
        return super().__len__() if threading.get_ident() == self._thread else len(self.mine())

    def __iter__(self) -> Iterator[str | None]:
        return super().__iter__() if threading.get_ident() == self._thread else iter(self.mine())
