"""One project, for Channels and moved: whoever visits it can't tell the difference."""

import json

import pytest
from tests.examples.moving.conftest import Open
from tests.examples.moving.restaurant import Guest, Restaurant, hear, visit

SEEN: list[object] = [
    (403, "who?"),
    403,  # a waiter who has not logged in
    (200, "hello ada"),
    403,  # a page of another site
    403,  # no page at all
    '{"waiting": 0}',
    ": welcome",
    '{"order": 1, "table": 4, "dish": "soup"}',
    "soup is ready",
    "1 soup, served by ada",
    'data: {"ready": "soup"}',
    (201, "ordered"),
    '{"order": 2, "table": 0, "dish": "pizza"}',
    1011,  # a handler failed
    '{"waiting": 1}',
]


def serve_by_daphne(restaurant: Restaurant) -> None:
    restaurant.serve(
        "-m", "daphne", "-p", "0", "kitchen.asgi:application", until=r"Listening on TCP .* (\S+)"
    )


def serve_by_uvicorn(restaurant: Restaurant) -> None:
    restaurant.serve("-m", "uvicorn", "--port", "0", "kitchen.asgi:application")


def serve_by_command(restaurant: Restaurant) -> None:
    restaurant.serve("-m", "greenroom", "run", "--port", "0", "kitchen.asgi:application")


def serve_by_runserver(restaurant: Restaurant) -> None:
    restaurant.serve("manage.py", "runserver", "--noreload", "127.0.0.1:0")


def start_printer(restaurant: Restaurant) -> None:
    restaurant.start("manage.py", "runworker", "printer").wait_for("printer")


SERVERS = {
    "daphne": serve_by_daphne,
    "uvicorn": serve_by_uvicorn,
    "command": serve_by_command,
    "runserver": serve_by_runserver,
}


@pytest.mark.parametrize(
    ("project", "server"),
    [
        ("before", "daphne"),
        ("after", "runserver"),
        ("after", "uvicorn"),
        ("installed", "command"),
    ],
)
def test_the_visitor_sees_the_same_before_and_after(
    project: str, server: str, open_restaurant: Open
) -> None:
    restaurant = open_restaurant(project)
    SERVERS[server](restaurant)
    start_printer(restaurant)
    # uvicorn closes without a code when an application fails.
    assert [1011 if each is None else each for each in visit(restaurant)] == SEEN


@pytest.mark.parametrize("project", ["before", "after", "installed"])
def test_the_project_s_own_tests_pass_before_and_after(project: str, open_restaurant: Open) -> None:
    restaurant = open_restaurant(project, redis="")
    warnings = "default" if project == "before" else "error"
    said = restaurant.run("-W", warnings, "manage.py", "test")
    assert "Ran 7 tests" in said
    assert "\nOK\n" in said


def test_half_of_the_servers_are_moved_and_guests_of_both_hear_each_other(
    open_restaurant: Open,
) -> None:
    old, new = open_restaurant("before"), open_restaurant("after")
    serve_by_daphne(old)
    serve_by_command(new)
    start_printer(new)
    at_old, at_new = Guest(old), Guest(new)
    at_old.log_in()
    at_new.cookies = at_old.cookies  # one session, in the database that both share
    with (
        at_old.connect("/kitchen/") as old_screen,
        at_new.connect("/kitchen/") as new_screen,
        at_old.connect("/waiter/?table=1") as old_pad,
        at_new.connect("/waiter/?table=2") as new_pad,
    ):
        for screen in (old_screen, new_screen):
            assert json.loads(hear(screen)) == {"waiting": 0}
        for pad, dish, cook in ((old_pad, "soup", new_screen), (new_pad, "pie", old_screen)):
            pad.send(dish)
            order = json.loads(hear(old_screen))
            assert order == json.loads(hear(new_screen))
            assert order["dish"] == dish
            cook.send(json.dumps({"ready": order["order"]}))
            assert hear(pad) == f"{dish} is ready"
            assert hear(pad) == f"1 {dish}, served by ada"  # printed by a worker that is moved
        for guest in (at_old, at_new):
            assert guest.post("/take-away/", dish="pizza") == (201, "ordered")
            assert json.loads(hear(old_screen))["dish"] == "pizza"
            assert json.loads(hear(new_screen))["dish"] == "pizza"
