"""Fixtures for pytest, whether tests run under pytest-asyncio, pytest-trio or neither.

In the project's outermost `conftest.py`:

```python
pytest_plugins = ["greenroom.bridges.channels.testing.fixtures"]
```

| fixture | gives |
| --- | --- |
| `channel_layer` | a fresh layer in memory, the default one during the test |
| `communicator` | makes communicators, which are stopped at the end of the test |
| `channels_live_server` | the project served on a free port: `url`, `ws_url` |

Where a test has a database of pytest-django's, it is the same for all threads that handle
something: `database_sync_to_async` and Django's `acreate()` in the test itself, too, are in
the test's transaction. That needs no fixture.
"""

from collections.abc import Generator, Iterator
from typing import Any, final

import pytest
from django.test import modify_settings

from ...django._shared_connections import lend_in_test
from ..layers import InMemoryChannelLayer, channel_layers
from ._live_server import LiveServer, default_application
from ._running import exit_in
from .application import ApplicationCommunicator
from .http import HttpCommunicator
from .websocket import WebsocketCommunicator

__all__ = ["Communicators", "channel_layer", "channels_live_server", "communicator"]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:  # noqa: ARG001
    """Share the database connections of a test with the threads that work for it.

    And let Ctrl-C end pytest, where the nurseries of pytest-trio put it into a group.
    """
    try:
        with lend_in_test():
            return (yield)
    except BaseExceptionGroup as group:
        exit_ = exit_in(group)
        if exit_ is None:
            raise
        raise exit_ from None


@pytest.fixture
def channel_layer() -> Iterator[InMemoryChannelLayer]:
    """A layer in memory that no other test has used, as the layer `default` of this one."""
    fresh = InMemoryChannelLayer()
    old = channel_layers.set("default", fresh)
    yield fresh
    if old is None:
        channel_layers.backends.pop("default", None)
    else:
        channel_layers.set("default", old)


@final
class Communicators:
    """Makes communicators for one test, with the arguments that each class takes."""

    def __init__(self) -> None:
        self._made: list[ApplicationCommunicator] = []

    def __call__(self, *args: Any, **kwargs: Any) -> WebsocketCommunicator:
        """Make a `WebsocketCommunicator`."""
        return self.websocket(*args, **kwargs)

    def websocket(self, *args: Any, **kwargs: Any) -> WebsocketCommunicator:
        """Make a `WebsocketCommunicator`."""
        made = WebsocketCommunicator(*args, **kwargs)
        self._made.append(made)
        return made

    def http(self, *args: Any, **kwargs: Any) -> HttpCommunicator:
        """Make an `HttpCommunicator`."""
        made = HttpCommunicator(*args, **kwargs)
        self._made.append(made)
        return made

    def application(self, *args: Any, **kwargs: Any) -> ApplicationCommunicator:
        """Make an `ApplicationCommunicator`."""
        made = ApplicationCommunicator(*args, **kwargs)
        self._made.append(made)
        return made

    def close(self) -> None:
        """Stop all applications; raise what one of them has raised and no call has told."""
        for made in self._made:
            try:
                made.stop(exceptions=False)
            except RuntimeError:  # its loop has ended before
                continue
        told = [made._failure() for made in self._made if made._told]
        for made in self._made:
            error = None if made._told else made._failure()
            if error is not None and not any(error is each for each in told):
                raise error


@pytest.fixture
def communicator() -> Iterator[Communicators]:
    """Make communicators: `communicator(application, "/ws/")`, `communicator.http(...)`.

    Their applications are stopped with the test. One that has crashed without any call
    that tells so fails the test.
    """
    communicators = Communicators()
    yield communicators
    communicators.close()


@pytest.fixture
def channels_live_server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    """The project of `settings.ASGI_APPLICATION`, served for a real client.

    With pytest-django the test gets its `transactional_db` along.
    """
    if request.config.pluginmanager.has_plugin("django"):
        request.getfixturevalue("transactional_db")
    with modify_settings(ALLOWED_HOSTS={"append": "localhost"}):
        server = LiveServer(default_application())
        server.start()
        try:
            yield server
        finally:
            server.stop()
