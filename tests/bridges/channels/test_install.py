"""Tests of `install_as_channels`, each in a process of its own: what it changes lasts."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.projects import write_project

INSTALL = """\
from greenroom.bridges.channels import install_as_channels
install_as_channels()
"""

SETTINGS = """\
SECRET_KEY = "only for tests"
DEBUG = True
INSTALLED_APPS = ["channels"]
ASGI_APPLICATION = "website.asgi.application"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
"""

# As Channels' tutorial has it: Channels is imported before the settings are read.
ASGI = """\
import os
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "website.settings")
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AuthMiddlewareStack(URLRouter([path("", AsyncWebsocketConsumer.as_asgi())])),
    }
)
"""


def finish(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python, with warnings as errors, to its end."""
    environment = {
        name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run(code: str, cwd: Path) -> str:
    """Run a program that has to succeed, and give what it printed."""
    ended = finish("-c", textwrap.dedent(code), cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def website(tmp_path: Path) -> Path:
    """A Django project whose package calls `install_as_channels` in its `__init__.py`."""
    files = {"__init__.py": INSTALL, "settings.py": SETTINGS, "asgi.py": ASGI}
    write_project(tmp_path, "website", {f"website/{name}": text for name, text in files.items()})
    return tmp_path


def test_every_module_of_channels_is_ours_under_both_names_and_nothing_is_imported_early(
    tmp_path: Path,
) -> None:
    run(
        """
        import importlib, importlib.util, pkgutil, sys
        from greenroom.bridges.channels import install_as_channels

        before = set(sys.modules)
        install_as_channels()
        install_as_channels()  # once more does nothing
        assert set(sys.modules) == before
        assert "django" not in sys.modules and "trio" not in sys.modules
        assert len([f for f in sys.meta_path if "_install" in type(f).__module__]) == 1

        import channels.generic.websocket
        import greenroom.bridges.channels as ours
        assert channels is ours
        assert channels.generic.websocket is ours.generic.websocket
        assert channels.__version__ == "4.3.2"
        assert channels.DEFAULT_CHANNEL_LAYER == "default"

        from django.conf import settings
        settings.configure(INSTALLED_APPS=["channels"])
        import django
        django.setup()

        # `find_spec` tells before the import, from either name, and imports nothing but parents.
        spec = importlib.util.find_spec("channels.sessions")
        assert spec.origin.endswith("sessions.py")
        assert "greenroom.bridges.channels.sessions" not in sys.modules
        assert importlib.util.find_spec("channels.nothing") is None
        assert importlib.util.find_spec("channelsandmore") is None
        try:
            import channels.nothing
        except ModuleNotFoundError as error:
            assert error.name == "channels.nothing", error
        else:
            raise AssertionError("there is nothing")

        names = [module.name for module in pkgutil.walk_packages(channels.__path__, "channels.")]
        assert {
            "channels." + name
            for name in (
                "apps auth consumer db exceptions generic generic.http generic.websocket layers "
                "management.commands.runworker middleware routing security security.websocket "
                "sessions testing testing.application testing.http testing.live "
                "testing.websocket utils worker"
            ).split()
        } <= set(names), names
        for name in names:
            alias = importlib.import_module(name)
            assert alias is importlib.import_module("greenroom.bridges." + name), name
            assert alias.__spec__.name == alias.__name__ == "greenroom.bridges." + name
            assert not alias.__spec__._initializing
            assert importlib.util.find_spec(name).origin == alias.__file__
            parent, _, child = name.rpartition(".")
            assert getattr(sys.modules[parent], child) is alias
        from channels import layers
        assert layers is sys.modules["channels.layers"]
        """,
        tmp_path,
    )


def test_every_name_that_a_module_of_channels_defines_or_hands_on_is_in_ours(
    tmp_path: Path,
) -> None:
    """Code imports from Channels also what it merely imports itself."""
    missing = run(
        """
        import importlib, pkgutil
        from django.conf import settings
        settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"])
        import django
        django.setup()
        import channels
        for module in pkgutil.walk_packages(channels.__path__, "channels."):
            theirs = vars(importlib.import_module(module.name))
            ours = importlib.import_module("greenroom.bridges." + module.name)
            for name, value in theirs.items():
                home = getattr(value, "__module__", None)
                if isinstance(home, str) and home.startswith(("channels.", "django.db")):
                    if not name.startswith("__") and not hasattr(ours, name):
                        print(f"{module.name}.{name}")
        """,
        tmp_path,
    )
    assert missing.split() == [
        "channels.testing.application.no_op",  # of the server in a process of its own,
        "channels.testing.live.connections",  # which is a thread here
        "channels.testing.live.make_application",
        "channels.testing.live.set_database_connection",
    ]


def test_tools_that_look_into_modules_find_what_they_expect(tmp_path: Path) -> None:
    run(
        """
        import asyncio, importlib, importlib.resources, inspect, pickle, pydoc, sys
        from unittest import mock
        from greenroom.bridges.channels import install_as_channels
        install_as_channels()
        from django.conf import settings
        settings.configure(
            CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
        )

        import greenroom.bridges.channels.db
        with mock.patch("channels.db.close_old_connections") as close:
            asyncio.run(greenroom.bridges.channels.db.database_sync_to_async(len)([]))
            assert close.call_count == 2
        assert greenroom.bridges.channels.db.close_old_connections is not close

        from django.utils.module_loading import import_string
        from greenroom.bridges.channels.layers import InMemoryChannelLayer
        assert import_string("channels.layers.InMemoryChannelLayer") is InMemoryChannelLayer
        from channels.layers import get_channel_layer
        assert type(get_channel_layer()) is InMemoryChannelLayer

        import channels.exceptions
        from channels.exceptions import ChannelFull, StopConsumer
        assert type(pickle.loads(pickle.dumps(StopConsumer("why")))) is StopConsumer
        assert pickle.loads(b"cchannels.exceptions\\nStopConsumer\\n.") is StopConsumer
        assert "StopConsumer" in inspect.getsource(channels.exceptions)
        assert inspect.getmodule(StopConsumer) is channels.exceptions
        assert (importlib.resources.files("channels") / "layers.py").is_file()
        assert pydoc.locate("channels.exceptions.ChannelFull") is ChannelFull

        from pathlib import Path
        from django.utils.autoreload import iter_all_python_module_files
        watched = set(iter_all_python_module_files())
        assert Path(channels.exceptions.__file__).resolve() in watched

        module = importlib.reload(channels.exceptions)
        assert module is channels.exceptions is sys.modules["greenroom.bridges.channels.exceptions"]
        assert importlib.reload(sys.modules["channels"]) is sys.modules["channels"]
        import channels.middleware
        assert channels.middleware is greenroom.bridges.channels.middleware
        """,
        tmp_path,
    )


def test_threads_that_import_at_the_same_time_get_whole_modules(tmp_path: Path) -> None:
    run(
        """
        import importlib, random, sys, threading
        from django.conf import settings
        settings.configure()
        # Python refuses with a deadlock what threads that import a package and a module of it
        # for the first time may do; so the packages below this one are there already.
        import greenroom.bridges.threads
        sys.setswitchinterval(1e-6)
        names = "exceptions layers consumer db routing utils sessions generic.http".split()
        failures = []
        ready = threading.Barrier(16)

        def visit(seed):
            order = random.Random(seed).sample(names, len(names))
            ready.wait()
            try:
                from greenroom.bridges.channels import install_as_channels
                install_as_channels()
                for name in order:
                    # One half of the threads says the one name, one half the other.
                    prefix = "channels." if seed % 2 else "greenroom.bridges.channels."
                    module = importlib.import_module(prefix + name)
                    assert module.__all__ and module.__spec__.name == module.__name__
                    for public in module.__all__:
                        getattr(module, public)
            except BaseException as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert len([f for f in sys.meta_path if "_install" in type(f).__module__]) == 1
        """,
        tmp_path,
    )


def test_real_channels_imported_first_is_named_with_who_did_it(tmp_path: Path) -> None:
    (tmp_path / "hasty.py").write_text("from channels.exceptions import StopConsumer\n")
    (tmp_path / "late.py").write_text("import hasty\n" + INSTALL)
    ended = finish("-c", "import late", cwd=tmp_path)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "ChannelsImportedFirst: install_as_channels() was called after the real" in last
    assert "site-packages/channels/__init__.py (imported by: hasty)" in last
    assert "in the __init__.py of the package that holds your settings.py" in last
    run(
        """
        def hidden():
            import channels
        hidden()
        from greenroom.bridges.channels import ChannelsImportedFirst, install_as_channels
        try:
            install_as_channels()
        except ChannelsImportedFirst as error:
            assert error.importers == [] and "cannot be found out" in str(error)
        else:
            raise AssertionError
        """,
        tmp_path,
    )


def test_bridge_without_installation_leaves_the_real_channels_alone(tmp_path: Path) -> None:
    run(
        """
        from django.conf import settings
        settings.configure(INSTALLED_APPS=["greenroom.bridges.channels"])
        import django
        django.setup()
        from django.apps import apps
        config = apps.get_app_config("greenroom_channels")
        assert config.name == "greenroom.bridges.channels"
        assert not apps.is_installed("channels")
        import channels.layers
        import greenroom.bridges.channels.layers as ours
        assert channels.layers is not ours
        assert "site-packages" in channels.layers.__file__
        """,
        tmp_path,
    )


def test_line_in_the_package_of_the_settings_serves_commands_servers_and_children(
    website: Path,
) -> None:
    ended = finish("manage.py", "runworker", "--help", cwd=website)
    assert ended.returncode == 0, ended.stderr
    assert "usage: manage.py runworker" in ended.stdout
    (website / "children.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, os

            def child(expected):
                import website.asgi
                from django.apps import apps
                import channels, channels.layers
                assert apps.is_installed("channels")
                assert apps.get_app_config("channels").name == "channels"
                assert channels.__name__ == "greenroom.bridges.channels"
                assert isinstance(
                    channels.layers.get_channel_layer(), channels.layers.InMemoryChannelLayer
                )

            if __name__ == "__main__":
                for method in ("spawn", "fork"):
                    context = multiprocessing.get_context(method)
                    process = context.Process(target=child, args=(method,))
                    process.start()
                    process.join()
                    assert process.exitcode == 0, method
                child("here")
                from django.core.management import call_command, get_commands
                assert get_commands()["runworker"] == "channels"
                call_command("check")
            """
        )
    )
    ended = finish("children.py", cwd=website)
    assert ended.returncode == 0, ended.stderr


def test_application_under_both_names_is_refused_with_words(tmp_path: Path) -> None:
    out = run(
        """
        from greenroom.bridges.channels import install_as_channels
        install_as_channels()
        import django
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured
        settings.configure(INSTALLED_APPS=["channels.apps.ChannelsConfig"])
        django.setup()
        from django.apps import apps
        assert [config.name for config in apps.get_app_configs()] == ["channels"]

        for both in (
            ["channels", "greenroom.bridges.channels"],
            ["greenroom.bridges.channels.apps.ChannelsConfig", "channels"],
        ):
            settings.INSTALLED_APPS = both
            try:
                apps.set_installed_apps(both)
            except ImproperlyConfigured as error:
                assert str(error).startswith("INSTALLED_APPS lists both 'channels' and "), error
            else:
                raise AssertionError
            apps.unset_installed_apps()

        # After the installation the application may also be listed by its own name.
        settings.INSTALLED_APPS = ["greenroom.bridges.channels"]
        apps.set_installed_apps(settings.INSTALLED_APPS)
        assert apps.is_installed("greenroom.bridges.channels")
        """,
        tmp_path,
    )
    assert out == ""
