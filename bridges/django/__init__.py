"""Django on Greenroom: its ASGI handler, its database connections, static files, `runserver`.

Put `"greenroom.bridges.django"` into `INSTALLED_APPS`, above `"django.contrib.staticfiles"`,
for the management commands. This package imports nothing of Django by itself, as
Django wants an application's package to be importable before its settings are read:
take `asgi`, `database` and `static` from their modules.
"""

__all__: list[str] = []
