"""The one table."""

from django.db import models


class Note(models.Model):
    """What somebody has said."""

    text: "models.CharField[str, str]" = models.CharField(max_length=100, unique=True)

    def __str__(self) -> str:
        return self.text
