"""Tests of the bridge as a Django application."""

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.test import override_settings

from greenroom.bridges.channels import _checks
from greenroom.bridges.channels.apps import ChannelsConfig

OWN = "greenroom.bridges.channels"


@pytest.fixture(params=[OWN, f"{OWN}.apps.ChannelsConfig"])
def listed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Django forgets no check when the list is as before: other tests would be told of it.
    monkeypatch.setattr(checks.registry.registry, "registered_checks", set())
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, request.param]):
        yield


def test_application_is_listed_by_its_package_or_its_class(listed: None) -> None:
    config = apps.get_app_config("greenroom_channels")
    assert isinstance(config, ChannelsConfig)
    assert (config.name, config.verbose_name) == (OWN, "Channels")
    assert apps.is_installed(OWN)
    assert not apps.is_installed("channels")


def test_application_registers_its_checks(listed: None) -> None:
    registered = checks.registry.registry.get_checks()
    assert set(_checks.ALL) <= set(registered)
