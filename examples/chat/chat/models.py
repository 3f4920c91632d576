"""Rooms, and what was said in them."""

# mypy: disable-error-code="var-annotated"
# Fields are written as everywhere in Django; only a plugin could tell their types.

import json

from django.conf import settings
from django.db import models
from django.urls import reverse

MAX_TEXT_LENGTH = 2000


class Room(models.Model):
    name = models.CharField(max_length=60, unique=True)
    slug = models.SlugField(max_length=60, unique=True)
    topic = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return str(self.name)

    def get_absolute_url(self) -> str:
        return reverse("room", kwargs={"slug": str(self.slug)})

    @property
    def group(self) -> str:
        """The group of everybody who has this room open."""
        return f"room.{self.pk}"


class Message(models.Model):
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.TextField(max_length=MAX_TEXT_LENGTH)
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.author}: {self.text[:60]}"

    def as_json(self) -> str:
        """What a browser needs to show this message; `author` must be loaded."""
        return json.dumps(
            {
                "id": self.pk,
                "author": self.author.get_username(),
                "text": self.text,
                "sent_at": self.sent_at.isoformat(),
            }
        )
