"""What is ordered."""

from typing import Any

from django.db import models


class Order(models.Model):
    """A dish for a table."""

    table = models.IntegerField()
    dish = models.CharField(max_length=100)
    waiter = models.CharField(max_length=100)
    ready = models.BooleanField(default=False)
    bill = models.TextField(default="")

    def as_json(self) -> dict[str, Any]:
        """What the kitchen's screen shows."""
        return {"order": self.pk, "table": self.table, "dish": self.dish}
