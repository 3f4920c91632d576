"""`manage.py announce GROUP TEXT`: a message to a group, from outside of any server."""

from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandParser

from greenroom.bridges.channels.layers import get_channel_layer


class Command(BaseCommand):
    """Sends one message."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("group")
        parser.add_argument("text")

    def handle(self, *args: Any, **options: Any) -> None:
        message = {"type": "chat.message", "text": options["text"]}
        async_to_sync(get_channel_layer().group_send)(options["group"], message)
