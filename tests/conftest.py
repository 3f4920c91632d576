"""What all tests share: the Django project that they run in, and its database."""

import os
import sys
from pathlib import Path

import pytest

# `tests.django_project` is imported by name, by Django and by the tests.
sys.path.append(str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django_project.settings")

import django

django.setup()


@pytest.fixture(scope="session")
def migrated_database() -> None:
    """The test project's tables, made once in a temporary file."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


@pytest.fixture
def database(migrated_database: None) -> None:
    """An empty database that every thread may use."""
    from django.core.management import call_command

    call_command("flush", interactive=False, verbosity=0)
