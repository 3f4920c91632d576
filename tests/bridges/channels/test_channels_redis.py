"""The layers of channels_redis below our consumers, on our server, and as they are."""

from pathlib import Path

import pytest
from tests.bridges.channels.launching import run_alone

PROGRAM = Path(__file__).with_name("visit_redis")


@pytest.fixture(scope="module")
def heard(valkey_url: str) -> list[str]:
    """What the program printed."""
    return run_alone(PROGRAM, valkey_url)


@pytest.mark.parametrize("alias", ["core", "pubsub"])
def test_async_trio_and_sync_consumers_and_threads_reach_each_other(
    alias: str, heard: list[str]
) -> None:
    said = [line.removeprefix(f"{alias} hears ") for line in heard if line.startswith(alias)]
    kinds = ("async", "async", "trio", "sync", "sync")
    assert said == [
        *(
            ", ".join(f"{kind}: {name}" for kind in kinds)
            for name in ("async 1", "async 2", "trio 1", "sync 1", "sync 2")
        ),
        ", ".join(f"{kind}: after one has left" for kind in kinds[1:]),
        ", ".join(f"{kind}: from a thread" for kind in kinds[1:]),
        "sync: from a thread",
        "trio: from a thread",
    ]


def test_their_layers_stand_on_our_base_class_and_raise_our_errors(heard: list[str]) -> None:
    assert heard[0] == "System check identified no issues (0 silenced)."
    assert heard[-3] == "full: greenroom.runtime.layers._errors"
    assert heard[-2].startswith("Group name must be a valid unicode string with length < 100")
    assert heard[-1] == "stopped"
