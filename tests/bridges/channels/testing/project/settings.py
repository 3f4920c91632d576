"""Settings of a project that tests its consumers; the database is chosen by the environment."""

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

from greenroom.bridges.channels import install_as_channels

install_as_channels()  # tests import the communicators from `channels.testing`

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["testserver", "localhost"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "tests.bridges.channels.testing.project.notes",
]
ROOT_URLCONF = "tests.bridges.channels.testing.project.urls"
ASGI_APPLICATION = "tests.bridges.channels.testing.project.asgi.application"
CHANNEL_LAYERS = {
    "default": {"BACKEND": "greenroom.bridges.channels.layers.InMemoryChannelLayer"},
}
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def database(url: str) -> dict[str, Any]:
    """Settings of the database at `url`: `memory`, the path of a file, or PostgreSQL's."""
    if url == "memory":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    if "://" not in url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url,
            "TEST": {"NAME": url + ".test"},
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username or "postgres",
        "HOST": parse_qs(parts.query)["host"][0],
        # Connections outlive a handler, unless a test would be disturbed by it.
        "CONN_MAX_AGE": 600,
        "TEST": {"NAME": os.environ["NOTES_TEST_DATABASE"]},
    }


DATABASES = {"default": database(os.environ["NOTES_DATABASE"])}
