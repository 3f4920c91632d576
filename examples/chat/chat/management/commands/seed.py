"""Fill an empty database with two users and two rooms, to have something to try."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import transaction

from chat.models import Message, Room

PASSWORD = "greenroom"  # for a demonstration on localhost
USERS = ("ada", "grace")
ROOMS = (("Lobby", "Come in, the kettle is on."), ("Stage door", "Who is on when, and where."))
GREETINGS = (
    ("ada", "Has the show begun yet?"),
    ("grace", "Not before everybody is in the green room."),
)


class Command(BaseCommand):
    help = "Creates two demo users, who may use the admin, and two rooms, where missing."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        for name in USERS:
            if not User.objects.filter(username=name).exists():
                User.objects.create_superuser(
                    username=name, email=f"{name}@example.com", password=PASSWORD
                )
        for name, topic in ROOMS:
            Room.objects.get_or_create(
                slug=name.lower().replace(" ", "-"), defaults={"name": name, "topic": topic}
            )
        if not Message.objects.exists():
            lobby = Room.objects.get(slug="lobby")
            for name, text in GREETINGS:
                author = User.objects.get(username=name)
                Message.objects.create(room=lobby, author=author, text=text)
        self.stdout.write(
            f"Users {' and '.join(USERS)}, password {PASSWORD!r}; they may use the admin, too."
        )
