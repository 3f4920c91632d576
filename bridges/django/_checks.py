"""Django system checks: mistakes in a project's settings that can be seen before it runs."""

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error


def check_order_of_applications(**_: Any) -> list[CheckMessage]:
    """Say so if the runserver of `django.contrib.staticfiles` would be taken, not ours.

    Of two applications with a command of one name Django takes the one listed first.
    """
    names = [config.name for config in apps.get_app_configs()]
    if "django.contrib.staticfiles" not in names:
        return []
    if names.index("django.contrib.staticfiles") > names.index("greenroom.bridges.django"):
        return []
    return [
        Error(
            "'greenroom.bridges.django' is listed below 'django.contrib.staticfiles' in "
            "INSTALLED_APPS, so `runserver` would be Django's and not serve ASGI.",
            hint="List 'greenroom.bridges.django' first.",
            id="greenroom.E001",
        )
    ]
