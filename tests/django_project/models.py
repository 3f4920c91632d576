"""The one table that the tests write to from consumers and views."""

from django.db import models


class Log(models.Model):
    """What happened, and to which client: the model of the Channels introduction."""

    type: "models.CharField[str, str]" = models.CharField(max_length=100)
    client = models.JSONField(null=True)

    def __str__(self) -> str:
        return f"{self.type} {self.client}"
