"""Settings of the project that the tests run in.

The database is a file, not `:memory:`: handlers run in several threads, and each of them
opens a connection of its own.
"""

import atexit
import tempfile
from pathlib import Path

_scratch = tempfile.TemporaryDirectory(prefix="greenroom-tests-", ignore_cleanup_errors=True)
atexit.register(_scratch.cleanup)

BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "tests.django_project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
    }
]
ROOT_URLCONF = "tests.django_project.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(_scratch.name) / "tests.sqlite3"),
        # Another thread's write makes a writer wait instead of failing at once; seconds.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast; nothing is secret
STATIC_URL = "static/"
USE_TZ = True

CHANNEL_LAYERS = {
    "default": {"BACKEND": "greenroom.bridges.channels.layers.InMemoryChannelLayer"},
}
