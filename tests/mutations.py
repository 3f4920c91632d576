"""The faults that `mutants.py` plants, each as one exact replacement in one file."""

from dataclasses import dataclass
from typing import Final

PROOF: Final = "tests/actors/proof"
MESSAGES: Final = f"{PROOF}/test_messages.py"
ASKS: Final = f"{PROOF}/test_asks.py"
TIMERS: Final = f"{PROOF}/test_timers.py"
EXITS: Final = f"{PROOF}/test_exits.py"
CANCELLATION: Final = f"{PROOF}/test_cancellation.py"
RESTARTING: Final = f"{PROOF}/test_restarting.py"
ORDER: Final = f"{PROOF}/test_order.py"
TIES: Final = f"{PROOF}/test_ties.py"
LIFE: Final = f"{PROOF}/test_life.py"
STOPPING: Final = f"{PROOF}/test_stopping.py"


@dataclass(frozen=True)
class Mutant:
    """One fault, and where it is to be noticed.

    Args:
        name: what is wrong.
        file: where.
        old: the text that is replaced; it stands there exactly once.
        new: the text that takes its place.
        tests: what is run, in this order.
        survives: why no test can notice it, for a fault that changes nothing that counts.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""

    def mutate(self, text: str) -> str:
        """Put the fault into the text of the file.

        Raises:
            ValueError: the text to be replaced does not stand there exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"the mutant {self.name!r} does not fit {self.file} any more: "
                f"the text that it replaces stands there {count} times"
            )
        return text.replace(self.old, self.new)


def _mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, f"actors/{file}", old, new, tests)


MUTANTS: Final = (
    # Messages.
    _mutant(
        "a message in flight is forgotten when its handler crashes",
        "_inbox.py",
        "self.lose(message, Loss.CRASHED if crashed else Loss.CANCELLED)",
        "pass",
        MESSAGES,
    ),
    _mutant(
        "a redelivered message comes after those that were unstashed",
        "_inbox.py",
        "deque([again, *(self._front or ())])",
        "deque([*(self._front or ()), again])",
        MESSAGES,
    ),
    _mutant(
        "a redelivered message goes to the tail of the mailbox",
        "_inbox.py",
        "self._front = deque([again, *(self._front or ())])",
        "self.mailbox.put_soon(again, MESSAGES)",
        MESSAGES,
    ),
    _mutant(
        "a message is redelivered again and again",
        "_inbox.py",
        "again.redelivered = True",
        "again.redelivered = False",
        MESSAGES,
    ),
    _mutant(
        "a mailbox holds one message more than its capacity",
        "_mailbox.py",
        "elif len(items) >= queue.limit:",
        "elif len(items) > queue.limit:",
        MESSAGES,
    ),
    _mutant(
        "a refused message becomes two dead letters",
        "_mailbox.py",
        "        self._lose(item, queue, loss)\n        return delivery\n\n    def _lose",
        "        self._lose(item, queue, loss)\n        self._lose(item, queue, loss)\n"
        "        return delivery\n\n    def _lose",
        MESSAGES,
    ),
    _mutant(
        "a refused message becomes no dead letter",
        "_mailbox.py",
        "        self._lose(item, queue, loss)\n        return delivery\n\n    def _lose",
        "        return delivery\n\n    def _lose",
        MESSAGES,
    ),
    _mutant(
        "a message is handled in the moment of its deadline",
        "_inbox.py",
        "deadline != inf and deadline <= trio.current_time()",
        "deadline != inf and deadline < trio.current_time()",
        MESSAGES,
    ),
    _mutant(
        "messages come before signals where some are handled again",
        "_inbox.py",
        "        if self.mailbox.depth(CONTROL):\n",
        "        if self.mailbox.depth(CONTROL) and not self._front:\n",
        MESSAGES,
    ),
    _mutant(
        "messages come before signals",
        "_mailbox.py",
        "        while True:\n            for queue in self._queues:\n",
        "        while True:\n            for queue in reversed(self._queues):\n",
        MESSAGES,
    ),
    _mutant(
        "signals wait among the messages, where a full lane drops them",
        "_inbox.py",
        "self.mailbox.put(notice, CONTROL)",
        "self.mailbox.put(notice, MESSAGES)",
        MESSAGES,
        TIES,
    ),
    _mutant(
        "a restart forgets the signals that wait",
        "_inbox.py",
        "                self.mailbox.put(item, CONTROL)\n",
        "                pass\n",
        MESSAGES,
        "tests/actors/test_bonds.py",
    ),
    _mutant(
        "an actor that is asked to stop handles what waits",
        "_inbox.py",
        "self.mailbox.put(START_TO_DRAIN if drain else STOP, CONTROL)",
        "self.mailbox.put(START_TO_DRAIN if drain else STOP, CONTROL if drain else MESSAGES)",
        MESSAGES,
    ),
    _mutant(
        "the newest message is dropped for the oldest",
        "_mailbox.py",
        "self._replace(queue, items, 0, item, Delivery.DROPPED_OLDEST)",
        "self._replace(queue, items, -1, item, Delivery.DROPPED_OLDEST)",
        MESSAGES,
    ),
    _mutant(
        "a coalesced message takes the place of the older one in the queue",
        "_mailbox.py",
        "        del items[at]\n        items.append(item)\n",
        "        items[at] = item\n",
        MESSAGES,
    ),
    _mutant(
        "what waits at the end is no dead letter",
        "_mailbox.py",
        "                self._lose(item, queue, Loss.LEFT_OVER)",
        "                pass",
        MESSAGES,
    ),
    _mutant(
        "who waits for room is let go without a dead letter",
        "_mailbox.py",
        "            self._refuse(queue, item, loss, delivery)\n\n    def _take",
        "\n    def _take",
        MESSAGES,
    ),
    _mutant(
        "a failing key of a lane raises into the sender",
        "_lanes.py",
        "        except Exception:\n",
        "        except OSError:\n",
        MESSAGES,
    ),
    _mutant(
        "a failing subscriber to dead letters raises into the sender",
        "_dead_letters.py",
        "                except Exception:\n",
        "                except OSError:\n",
        MESSAGES,
    ),
    # Questions.
    _mutant(
        "a question is left hanging by the death of the one who is asked",
        "_losses.py",
        "            item.ask.lose(loss, end_reason(cell))",
        "            pass",
        ASKS,
    ),
    _mutant(
        "a question that is to be answered later is left hanging by a death",
        "_inbox.py",
        "for ask in tuple(unanswered or ()):",
        "for ask in ():",
        ASKS,
    ),
    _mutant(
        "who asks does not hear of the crash, but of a death",
        "_inbox.py",
        "            ask.fail(RemoteError(ask.path, error))\n",
        "",
        ASKS,
    ),
    _mutant(
        "a message is handled although nobody waits for its reply",
        "_inbox.py",
        "if (ask is not None and not ask.open) or (",
        "if (",
        MESSAGES,
    ),
    _mutant(
        "a reply that is late disappears",
        "_inbox.py",
        "            publish(self._cell, reply, None, Loss.LATE)",
        "            pass",
        ASKS,
    ),
    _mutant(
        "a reply is a dead letter although it came in time",
        "_inbox.py",
        "if not ask.answer(reply):",
        "if ask.answer(reply) or True:",
        ASKS,
    ),
    _mutant(
        "what is asked for the sake of a question outlasts it",
        "_asks.py",
        "            self.inner.abandon()\n        if self.owed is not None:\n"
        "            self.owed.pop(self, None)\n        return True",
        "            pass\n        if self.owed is not None:\n"
        "            self.owed.pop(self, None)\n        return True",
        ASKS,
    ),
    _mutant(
        "what is asked for the sake of a question outlasts the asker's cancellation",
        "_asks.py",
        "            self.inner.abandon()\n        if self.owed is not None:\n"
        "            self.owed.pop(self, None)\n        return trio",
        "            pass\n        if self.owed is not None:\n"
        "            self.owed.pop(self, None)\n        return trio",
        ASKS,
    ),
    # Timers and the stash.
    _mutant(
        "the tick of an old timer is delivered",
        "_timers.py",
        "            return VOID\n        if self.interval == inf:\n",
        "            pass\n        if self.interval == inf:\n",
        TIMERS,
    ),
    _mutant(
        "a late actor gets all the ticks that it missed",
        "_timers.py",
        "if not self._queued:  #",
        "if True:  #",
        TIMERS,
    ),
    _mutant(
        "timers survive a restart",
        "_inbox.py",
        "            self._timers.close()\n            self._timers = None\n",
        "            pass\n",
        TIMERS,
    ),
    _mutant(
        "the delay between two ticks counts from when they were due",
        "_timers.py",
        "if self.mode is TimerMode.FIXED_RATE and self.interval",
        "if self.interval",
        TIMERS,
    ),
    _mutant(
        "a timer with a fixed delay ticks once",
        "_timers.py",
        "if self.mode is TimerMode.FIXED_DELAY and self._timers.holds(self):",
        "if False:",
        TIMERS,
    ),
    _mutant(
        "a stash holds one message more than its capacity",
        "_inbox.py",
        "len(self._stash) >= cell.spec.stash_capacity",
        "len(self._stash) > cell.spec.stash_capacity",
        TIMERS,
    ),
    _mutant(
        "the stash comes back in reverse",
        "_inbox.py",
        "stash, self._stash = self._stash, None\n        count",
        "stash, self._stash = deque(reversed(self._stash)), None\n        count",
        MESSAGES,
    ),
    _mutant(
        "the stash comes back behind what is put back already",
        "_inbox.py",
        "        stash.extend(self._front or ())\n        self._front = stash\n",
        "        self._front = deque([*(self._front or ()), *stash])\n",
        MESSAGES,
    ),
    _mutant(
        "the stash is lost at a restart",
        "_inbox.py",
        "        self.unstash_all()\n\n    def close",
        "        self._stash = None\n\n    def close",
        MESSAGES,
    ),
    _mutant(
        "a restart leaves the stash where it is",
        "_inbox.py",
        "        self.unstash_all()\n\n    def close",
        "\n    def close",
        MESSAGES,
    ),
    _mutant(
        "what is stashed at the end is no dead letter",
        "_inbox.py",
        "        self.unstash_all()\n        front, self",
        "        front, self",
        MESSAGES,
    ),
    # Lives.
    _mutant(
        "an exception is leaked to the nursery",
        "_reasons.py",
        "        passing, crash = None, error\n    return",
        "        passing, crash = error, None\n    return",
        EXITS,
    ),
    _mutant(
        "two incarnations live at once",
        "_life.py",
        "        reason, passing = await _clean_up(cell, actor, reason, passing)\n",
        "        cell.keeper.start_helper(lambda: actor.stopped(reason), 'clean up')\n",
        MESSAGES,
        ORDER,
    ),
    _mutant(
        "stopped is not called after a cancellation",
        "_life.py",
        "if begun and actor is not None and type(actor).stopped",
        "if begun and not cell.scope.cancelled_caught and type(actor).stopped",
        EXITS,
        LIFE,
    ),
    _mutant(
        "cleaning up is cancelled from outside",
        "_life.py",
        "trio.CancelScope(shield=True, deadline=min(",
        "trio.CancelScope(shield=False, deadline=min(",
        CANCELLATION,
        LIFE,
    ),
    _mutant(
        "a failure to start is a crash like any other",
        "_life.py",
        "return Crash(crash) if cell.phase is RUNNING else InitFailed(crash)",
        "return Crash(crash)",
        EXITS,
    ),
    _mutant(
        "the failure of a task in the nursery is forgotten if the actor fails too",
        "_companions.py",
        "        if failure is None or crash is None:\n            return crash or failure\n",
        "        if crash or failure:\n            return crash or failure\n",
        EXITS,
    ),
    _mutant(
        "an actor's nursery is closed before the actor has heard of a cancellation",
        "_tasks.py",
        "                            await self._closing.wait()\n",
        "                            pass\n",
        EXITS,
        "tests/actors/test_tasks.py",
    ),
    # Supervision.
    _mutant(
        "one restart more than the intensity is allowed",
        "_restarts.py",
        "return len(self._times) <= self.intensity",
        "return len(self._times) <= self.intensity + 1",
        RESTARTING,
    ),
    _mutant(
        "a restart at the edge of the window counts no more",
        "_restarts.py",
        "self._times[0] < now - self.period",
        "self._times[0] <= now - self.period",
        RESTARTING,
    ),
    _mutant(
        "one child's restarts are counted against its siblings",
        "_supervisor.py",
        "if self._per_child or cell.spec.intensity",
        "if cell.spec.intensity",
        RESTARTING,
    ),
    _mutant(
        "the backoff is never reset",
        "_supervisor.py",
        "cell.failures = 1 if ran >= backoff.reset_after else cell.failures + 1",
        "cell.failures += 1",
        RESTARTING,
    ),
    _mutant(
        "the backoff does not grow",
        "_supervisor.py",
        "cell.failures = 1 if ran >= backoff.reset_after else cell.failures + 1",
        "cell.failures = 1",
        RESTARTING,
    ),
    _mutant(
        "a pause is longer than the longest",
        "_restarts.py",
        "return min(pause, self.longest) *",
        "return max(pause, self.longest) *",
        RESTARTING,
    ),
    _mutant(
        "children stop in the order of their start",
        "_children.py",
        "for cell in reversed(list(self.cells.values())):",
        "for cell in list(self.cells.values()):",
        ORDER,
    ),
    _mutant(
        "children start before the one before is ready",
        "_children.py",
        "            await cell.wait_settled(Phase.RUNNING, Phase.FAILED, Phase.ENDED)\n"
        "            self._starting",
        "            await trio.lowlevel.checkpoint()\n            self._starting",
        ORDER,
    ),
    _mutant(
        "rest_for_one restarts all",
        "_decisions.py",
        "first = 0 if strategy is Strategy.ONE_FOR_ALL else ended",
        "first = 0",
        RESTARTING,
    ),
    _mutant(
        "one_for_all spares those before",
        "_decisions.py",
        "first = 0 if strategy is Strategy.ONE_FOR_ALL else ended",
        "first = ended",
        RESTARTING,
    ),
    _mutant(
        "a temporary child is restarted with the others",
        "_decisions.py",
        " for at in together if children[at].restart is not Restart.TEMPORARY)",
        " for at in together)",
        RESTARTING,
    ),
    _mutant(
        "a transient child is restarted after a normal end",
        "_decisions.py",
        "return reason.abnormal or restart is _PERMANENT",
        "return True",
        RESTARTING,
    ),
    _mutant(
        "who is asked to stop is started again",
        "_supervisor.py",
        "if for_good or not may_restart or self._children.closed:",
        "if not may_restart or self._children.closed:",
        RESTARTING,
        STOPPING,
    ),
    _mutant(
        "each level of a tree takes all the time that there is",
        "_supervisor.py",
        "await self._stop_children(cell.deadline)",
        "await self._stop_children(inf)",
        STOPPING,
    ),
    # Ties, names and groups.
    _mutant(
        "unwatch is ignored",
        "_bonds.py",
        "            watch.void = True\n            cell.not_at_end(watch)\n",
        "            pass\n",
        TIES,
    ),
    _mutant(
        "a signal is delivered after unwatch",
        "_bonds.py",
        "            watch.void = True\n",
        "",
        TIES,
    ),
    _mutant(
        "who watches the dead again is told again",
        "_bonds.py",
        "if cell not in self._watches and not knows and self.cell.alive:",
        "if cell not in self._watches and self.cell.alive:",
        TIES,
    ),
    _mutant(
        "a name is not freed",
        "_registry.py",
        "        cell.at_end((self, name), partial(self._free, name))\n",
        "",
        TIES,
        LIFE,
    ),
    _mutant(
        "a name is given twice",
        "_registry.py",
        "        if holder != ref:\n",
        "        if False:\n",
        TIES,
        "tests/actors/test_registry.py",
    ),
    _mutant(
        "a group keeps the dead",
        "_groups.py",
        "            cell.at_end(group, group.farewell)\n",
        "",
        TIES,
    ),
    _mutant(
        "a service is listed after its end",
        "_receptionist.py",
        '            cell.at_end((self, "offers", key), partial(self._withdraw, key))\n',
        "",
        TIES,
    ),
)
