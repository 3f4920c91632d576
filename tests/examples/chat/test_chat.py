"""The chat project as its visitors meet it, over real sockets."""

import json
import zlib
from contextlib import ExitStack
from typing import Any

import pytest
from tests.examples.chat.site import Site, Visitor
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

pytestmark = pytest.mark.timeout(180)  # the first of them waits for the server to start


def received(tab: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(tab.recv(timeout=20))
    return message


@pytest.fixture
def room(ada: Visitor, request: pytest.FixtureRequest) -> str:
    """The slug of a room that no other test uses."""
    name = f"room {zlib.crc32(request.node.name.encode())}"
    ada.post("/", name=name)
    return name.replace(" ", "-")


def test_somebody_who_is_not_logged_in_is_shown_the_login_page(site: Site) -> None:
    for path in ("/", "/rooms/lobby/"):
        status, page = Visitor(site).get(path)
        assert status == 200
        assert "Log in" in page
        assert "Lobby" not in page


def test_a_wrong_password_is_refused_and_the_right_one_opens_the_rooms(site: Site) -> None:
    visitor = Visitor(site)
    assert "correct username" in visitor.post("/login/", username="ada", password="wrong")[1]
    page = visitor.log_in("ada").get("/")[1]
    assert "Lobby" in page
    assert "Stage door" in page
    assert '<span class="me">ada</span>' in page


def test_logging_out_ends_the_session(site: Site) -> None:
    visitor = Visitor(site).log_in("grace")
    visitor.post("/logout/")
    assert "Log in" in visitor.get("/")[1]


def test_a_new_room_is_opened_once(ada: Visitor) -> None:
    assert "<h1>Prop room</h1>" in ada.post("/", name="Prop room")[1]
    assert "There is a room of this name" in ada.post("/", name="prop ROOM")[1]
    assert "needs a letter" in ada.post("/", name="!?")[1]


def test_an_unknown_room_is_404_as_a_page_and_403_as_a_websocket(ada: Visitor) -> None:
    assert ada.get("/rooms/nowhere/")[0] == 404
    with pytest.raises(InvalidStatus) as refusal:
        ada.join("nowhere")
    assert refusal.value.response.status_code == 403


def test_a_websocket_without_a_session_is_refused(site: Site) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        Visitor(site).join("lobby")
    assert refusal.value.response.status_code == 403


def test_a_websocket_from_another_sites_page_is_refused(ada: Visitor) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        ada.join("lobby", origin="http://elsewhere.example")
    assert refusal.value.response.status_code == 403


def test_what_one_says_reaches_everybody_in_the_room_with_their_name(
    ada: Visitor, grace: Visitor, room: str
) -> None:
    with ada.join(room) as adas, grace.join(room) as graces, ada.join("lobby", 10**6) as elsewhere:
        adas.send("Hello, <b>Grace</b> & all!")
        for tab in (adas, graces):
            message = received(tab)
            assert (message["author"], message["text"]) == ("ada", "Hello, <b>Grace</b> & all!")
        graces.send("  Hello, Ada!\n")
        for tab in (adas, graces):
            message = received(tab)
            assert (message["author"], message["text"]) == ("grace", "Hello, Ada!")
        with pytest.raises(TimeoutError):
            elsewhere.recv(timeout=0)
    page = grace.get(f"/rooms/{room}/")[1]
    assert "Hello, &lt;b&gt;Grace&lt;/b&gt; &amp; all!" in page
    assert page.index("Hello, &lt;b") < page.index("Hello, Ada!")


def test_who_comes_back_gets_what_was_said_since_the_last_message_they_saw(
    ada: Visitor, room: str
) -> None:
    with ada.join(room) as tab:
        for number in range(5):
            tab.send(f"message {number}")
        seen = [received(tab) for _ in range(5)]
    with ada.join(room, after=seen[2]["id"]) as tab:
        assert [received(tab) for _ in range(2)] == seen[3:]
        tab.send("and now?")
        assert received(tab)["text"] == "and now?"


@pytest.mark.parametrize("after", ["-1", "x", "", "9" * 40, "%FF"])
def test_nonsense_for_the_last_message_counts_as_none_seen(
    ada: Visitor, room: str, after: str
) -> None:
    with ada.join(room, after=after) as tab:  # type: ignore[arg-type]
        tab.send("fine")
        assert received(tab)["text"] == "fine"


def test_empty_and_binary_messages_are_ignored_and_long_ones_cut(ada: Visitor, room: str) -> None:
    with ada.join(room) as tab:
        tab.send("")
        tab.send(" \n ")
        tab.send(b"\xff\x00")
        tab.send("x" * 5000)
        assert received(tab)["text"] == "x" * 2000


def test_many_tabs_that_talk_at_once_all_get_everything_in_one_order(
    ada: Visitor, room: str
) -> None:
    with ExitStack() as open_tabs:
        # Nobody has missed anything, so that each message comes once, from the group.
        tabs = [open_tabs.enter_context(ada.join(room, after=10**9)) for _ in range(8)]
        for number, tab in enumerate(tabs):
            for turn in range(3):
                tab.send(f"{number}.{turn}")
        heard = [[received(tab)["text"] for _ in range(24)] for tab in tabs]
    assert sorted(heard[0]) == sorted(f"{n}.{turn}" for n in range(8) for turn in range(3))
    for number in range(8):
        mine = [text for text in heard[0] if text.startswith(f"{number}.")]
        assert mine == sorted(mine)
    assert all(each == heard[0] for each in heard)


def test_the_admin_opens_for_staff_with_its_style_sheets(ada: Visitor) -> None:
    status, page = ada.get("/admin/chat/message/")
    assert status == 200
    assert "Has the show begun yet?" in page
    assert ada.get("/static/admin/css/base.css")[0] == 200
    assert ada.get("/static/admin/js/core.js")[0] == 200
    assert ada.get("/static/chat/room.js")[0] == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/static/../manage.py", 400),
        ("/static/%2e%2e/manage.py", 400),
        ("/static//etc/passwd", 404),
        ("/static/", 404),
        ("/static/chat/", 404),
    ],
)
def test_static_files_are_served_from_nowhere_else(site: Site, path: str, status: int) -> None:
    assert Visitor(site).get(path)[0] == status
