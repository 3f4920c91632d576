"""Tests of what a channel or a group may be called, and what a message may be."""

from typing import Any

import pytest

from greenroom.runtime.layers import BaseChannelLayer, InMemoryChannelLayer

GOOD_CHANNELS = ["a", "A-b_c.1", "specific.x!y", "x!", "x" * 99, "room_٣", "a!b.c-d_ä"]
BAD_CHANNELS = ["", "a b", "x" * 100, 5, None, "a!b!c", "é", "!", "a/b", "a\n", b"a"]
BAD_GROUPS = ["", "a b", "x" * 100, 5, None, "a!b", "é", "a\n", b"a"]


@pytest.mark.parametrize("name", GOOD_CHANNELS)
def test_good_channel_name_is_taken(name: str) -> None:
    assert BaseChannelLayer().require_valid_channel_name(name)


@pytest.mark.parametrize("name", BAD_CHANNELS)
async def test_bad_channel_name_is_a_type_error_that_tells_the_rule(name: Any) -> None:
    layer = InMemoryChannelLayer()
    rule = "Channel name must be a valid unicode string with length < 100"
    with pytest.raises(TypeError, match=rule):
        await layer.send(name, {"type": "x"})
    with pytest.raises(TypeError, match=rule):
        await layer.receive(name)
    with pytest.raises(TypeError, match=rule):
        layer.group_add("g", name)


@pytest.mark.parametrize("name", BAD_GROUPS)
def test_bad_group_name_is_a_type_error_that_tells_the_rule(name: Any) -> None:
    layer = InMemoryChannelLayer()
    rule = "Group name must be a valid unicode string with length < 100"
    with pytest.raises(TypeError, match=rule):
        layer.group_add(name, "c")
    with pytest.raises(TypeError, match=rule):
        layer.group_send(name, {"type": "x"})


def test_specific_name_for_receiving_ends_at_the_exclamation_mark() -> None:
    layer = BaseChannelLayer()
    assert layer.require_valid_channel_name("a!", receive=True)
    with pytest.raises(TypeError, match="must end at the !"):
        layer.require_valid_channel_name("a!b", receive=True)


def test_list_of_names_must_not_be_empty() -> None:
    layer = BaseChannelLayer()
    assert layer.valid_channel_names(["a", "b"])
    no_lists: list[Any] = [[], None, "ab", 1]
    for names in no_lists:
        with pytest.raises(AssertionError, match="names must be a non-empty list"):
            layer.valid_channel_names(names)
    with pytest.raises(TypeError):
        layer.valid_channel_names(["a", "b c"])


def test_older_names_of_the_checks_warn() -> None:
    layer = BaseChannelLayer()
    with pytest.warns(DeprecationWarning, match="require_valid_channel_name"):
        assert layer.valid_channel_name("a!b", receive=True)  # which it ignores, as in Channels
    with pytest.warns(DeprecationWarning, match="require_valid_group_name"):
        assert layer.valid_group_name("a")


@pytest.mark.parametrize("message", ["text", None, ["type"], {"__asgi_channel__": "x"}])
def test_message_is_a_dict_without_the_reserved_key(message: Any) -> None:
    layer = InMemoryChannelLayer()
    with pytest.raises(AssertionError):
        layer.send("a", message)
    with pytest.raises(AssertionError):
        layer.group_send("a", message)


async def test_base_says_which_extension_is_missing() -> None:
    layer = BaseChannelLayer()
    with pytest.raises(NotImplementedError, match="groups extension"):
        await layer.group_send("g", {"type": "x"})
    with pytest.raises(NotImplementedError, match="flush extension"):
        await layer.flush()
    with pytest.raises(NotImplementedError, match="should be implemented"):
        await layer.receive("a")
