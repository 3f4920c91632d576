"""Say which versions the tests just ran on."""

import platform

import django
import trio

print(
    f"tested on Python {platform.python_version()}, Django {django.get_version()},"
    f" trio {trio.__version__}"
)
