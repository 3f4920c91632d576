"""Greenroom as a Django application: its management commands and its checks."""

from typing import final

from django.apps import AppConfig
from django.core import checks

from ._blocking_queries import refuse_blocking_queries
from ._checks import ALL


@final
class GreenroomConfig(AppConfig):
    """What `"greenroom.bridges.django"` in `INSTALLED_APPS` stands for."""

    name = "greenroom.bridges.django"
    label = "greenroom"
    verbose_name = "Greenroom"

    def ready(self) -> None:
        """Register this application's checks, and guard the event loop from blocking queries."""
        for check, tags in ALL:
            checks.register(check, *tags)
        refuse_blocking_queries()
