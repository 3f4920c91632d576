"""This bridge as a Django application: `runworker`, and checks of what the settings say."""

from types import ModuleType

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from . import _checks
from ._install import NAME, is_installed


def _is_listed(package: str, listed: list[str]) -> bool:
    return any(entry == package or entry.startswith(package + ".apps.") for entry in listed)


class ChannelsConfig(AppConfig):
    """What `"greenroom.bridges.channels"` in `INSTALLED_APPS` stands for.

    After `install_as_channels()` it is what `"channels"` stands for, under that name, which
    packages ask for: `apps.is_installed("channels")`.
    """

    name = "greenroom.bridges.channels"
    verbose_name = "Channels"

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        if app_name == ChannelsConfig.name:
            # Which of the module's two names stands in the list Django does not tell.
            listed = list(settings.INSTALLED_APPS)
            by_own_name = _is_listed(ChannelsConfig.name, listed)
            by_alias = is_installed() and _is_listed(NAME, listed)
            if by_own_name and by_alias:
                raise ImproperlyConfigured(
                    "INSTALLED_APPS lists both 'channels' and 'greenroom.bridges.channels', which "
                    "are one application after install_as_channels(). Remove one: keep 'channels' "
                    "if packages that you use ask whether it is installed."
                )
            if is_installed() and not by_own_name:
                app_name = NAME
        self.label = NAME if app_name == NAME else "greenroom_channels"
        super().__init__(app_name, app_module)

    def ready(self) -> None:
        """Register this application's checks."""
        for check in _checks.ALL:
            checks.register(check)
