"""Dead letters: counted, kept, logged and passed on."""

from typing import Any

import pytest

from greenroom.actors import (
    Actor,
    ActorRef,
    ChildSpec,
    DeadLetter,
    DeadLetters,
    Loss,
    Restart,
    open_dynamic_supervisor,
)


async def dead_ref() -> ActorRef[Any]:
    class Brief(Actor[Any]):
        async def run(self, ctx: Any) -> None:
            pass

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(ChildSpec("brief", Brief, restart=Restart.TEMPORARY))
        await ref.join()
    return ref


async def test_i6_each_letter_is_counted_kept_for_a_while_and_passed_to_subscribers() -> None:
    letters = DeadLetters(keep=2)
    ref = await dead_ref()
    seen: list[Any] = []
    unsubscribe = letters.subscribe(lambda letter: seen.append(letter.message))
    for message in range(3):
        letters.publish(DeadLetter(message, ref, None, Loss.DEAD))
    unsubscribe()
    unsubscribe()
    letters.publish(DeadLetter(3, ref, None, Loss.REJECTED))
    assert letters.count == 4
    assert letters.by_loss == {Loss.DEAD: 3, Loss.REJECTED: 1}
    assert [letter.message for letter in letters.recent] == [2, 3]
    assert seen == [0, 1, 2]


async def test_a_failing_subscriber_hurts_neither_the_sender_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    letters = DeadLetters()
    seen: list[DeadLetter] = []

    def fail(letter: DeadLetter) -> None:
        raise OSError("subscriber")

    letters.subscribe(fail)
    letters.subscribe(seen.append)
    letters.publish(DeadLetter("message", await dead_ref(), None, Loss.DEAD))
    assert len(seen) == 1
    assert "a subscriber to dead letters failed" in caplog.text


async def test_dead_letters_are_visible_in_the_log_by_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (await dead_ref()).tell("too late")
    (record,) = caplog.records
    assert "/supervisor/brief-" in record.getMessage()
    assert "the actor had ended" in record.getMessage()


def test_a_negative_number_of_letters_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="keep"):
        DeadLetters(keep=-1)


def test_a_subscriber_that_would_have_to_be_awaited_is_refused() -> None:
    async def callback(letter: DeadLetter) -> None: ...

    with pytest.raises(TypeError, match=r"plain function.*callback.*use the tell of an actor"):
        DeadLetters().subscribe(callback)
