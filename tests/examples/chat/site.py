"""The chat project in processes of its own, and a visitor without a browser."""

from pathlib import Path

from tests.examples import projects
from tests.examples.projects import Project
from websockets.sync.client import ClientConnection

PROJECT = Path(__file__).resolve().parents[3] / "examples" / "chat"
PASSWORD = "greenroom"


class Site(Project):
    """The project's management commands, and its server once `serve` was called.

    Args:
        folder: where its database is.
        project: where `manage.py` is.
    """

    def __init__(self, folder: Path, project: Path = PROJECT) -> None:
        super().__init__(
            project,
            CHAT_DATABASE=str(folder / "chat.sqlite3"),
            DJANGO_SETTINGS_MODULE="config.settings",
            # A traceback of a warning nobody sees is a bug nobody sees.
            PYTHONWARNINGS="error",
        )


class Visitor(projects.Visitor):
    """Somebody who uses the pages as a browser does."""

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form with the token of the page that shows it."""
        self.get(path)
        (token,) = [each.value for each in self.cookies if each.name == "csrftoken"]
        assert token is not None
        return super().post(path, csrfmiddlewaretoken=token, **fields)

    def log_in(self, name: str, password: str = PASSWORD) -> "Visitor":
        """Log in on the login page."""
        self.post("/login/", username=name, password=password)
        return self

    def join(self, room: str, after: int = 0, origin: str | None = None) -> ClientConnection:
        """Open the WebSocket that a page of `room` opens."""
        return self.connect(f"/ws/rooms/{room}/?after={after}", origin or self.project.url)
