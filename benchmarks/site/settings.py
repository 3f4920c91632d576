"""What `startproject` gives, with the default middleware, and the in-memory layer."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parent
SECRET_KEY = "only for benchmarks on this machine"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
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
ROOT_URLCONF = "urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "benchmark.sqlite3",
        "CONN_MAX_AGE": 60,
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": os.environ.get("BENCHMARK_CONSUMERS", "channels")
        + ".layers.InMemoryChannelLayer"
    }
}
USE_TZ = True
