"""The restaurant in processes of its own, and a visit that tells what its guests see."""

import json
from http.client import HTTPResponse
from pathlib import Path

from tests.examples.projects import PATIENCE, Project, Visitor
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

MOVING = Path(__file__).resolve().parents[3] / "examples" / "moving"


class Restaurant(Project):
    """A project's folder, with a database and a channel layer for its commands.

    Args:
        project: where `manage.py` is.
        database: the path of its SQLite file.
        redis: the address of a Redis, whose layer it uses instead of the one in memory.
    """

    def __init__(self, project: Path, database: Path, redis: str = "") -> None:
        super().__init__(
            project,
            KITCHEN_DATABASE=str(database),
            KITCHEN_REDIS=redis,
            DJANGO_SETTINGS_MODULE="kitchen.settings",
            PYTHONDONTWRITEBYTECODE="1",
        )


class Guest(Visitor):
    """Somebody who eats or works there."""

    def log_in(self, name: str = "ada", password: str = "soup") -> tuple[int, str]:
        """Log in."""
        return self.post("/enter/", name=name, password=password)

    def connect(self, path: str, origin: str | None = "http://localhost") -> ClientConnection:
        """Open a WebSocket as a page of `origin` does."""
        return super().connect(path, origin)

    def refused(self, path: str, origin: str | None = "http://localhost") -> int:
        """Open a WebSocket that is refused, and give the status."""
        try:
            self.connect(path, origin).close()
        except InvalidStatus as error:
            return error.response.status_code
        return 101


def hear(client: ClientConnection) -> str:
    """Wait for the next message."""
    return str(client.recv(timeout=PATIENCE))


def next_event(stream: HTTPResponse) -> str:
    """Read one server-sent event."""
    line = stream.readline().decode()
    assert stream.readline() == b"\n"
    return line.strip()


def visit(restaurant: Restaurant) -> list[object]:
    """Go to the restaurant, and give all that was seen; the printer prints beside it."""
    seen: list[object] = []
    guest = Guest(restaurant)
    seen += [guest.log_in(password="salad"), guest.refused("/waiter/?table=4"), guest.log_in()]
    seen += [
        guest.refused("/kitchen/", "http://elsewhere.example"),
        guest.refused("/kitchen/", None),
    ]
    with guest.connect("/kitchen/") as screen, guest.connect("/waiter/?table=4") as pad:
        events = guest.open("/table/4/events/")
        seen += [hear(screen), next_event(events)]
        pad.send("soup")
        order = hear(screen)
        screen.send(json.dumps({"ready": json.loads(order)["order"]}))
        seen += [order, hear(pad), hear(pad), next_event(events)]
        seen += [guest.post("/take-away/", dish="pizza"), hear(screen)]
        screen.send(json.dumps({"ready": 99}))
        seen.append(closing(screen))
        with guest.connect("/kitchen/") as another:
            seen.append(hear(another))
        events.close()
    return seen


def closing(client: ClientConnection) -> int | None:
    """Wait until the server closes a WebSocket, and give the code."""
    try:
        hear(client)
    except ConnectionClosed as error:
        return None if error.rcvd is None else error.rcvd.code
    return 0
