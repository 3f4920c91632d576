"""Django system checks of the channel layers, and of who else is listed beside this bridge.

Each looks at settings that may hold anything, so each takes them apart with care: a
check that fails itself keeps every management command from running. No layer is made
here; a layer of somebody else may open connections when it is made.
"""

import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core import mail
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from ...runtime.layers import InMemoryChannelLayer
from ._install import NAME, is_installed

OWN: Final = "greenroom.bridges.channels"
MEMORY: Final = f"{OWN}.layers.InMemoryChannelLayer"


def check_form_of_layers(**_: Any) -> list[CheckMessage]:
    """Say so if `CHANNEL_LAYERS` is not a dict of dicts that name a backend."""
    layers = getattr(settings, "CHANNEL_LAYERS", None)
    if layers is None:
        return []
    if not isinstance(layers, dict):
        return [
            _malformed(f"CHANNEL_LAYERS is a {type(layers).__name__}, not a dict of alias to layer")
        ]
    problems: list[CheckMessage] = []
    for alias, config in layers.items():
        here = f"CHANNEL_LAYERS[{alias!r}]"
        if not isinstance(config, dict):
            problems.append(_malformed(f"{here} is a {type(config).__name__}, not a dict"))
            continue
        if not isinstance(config.get("BACKEND"), str):
            problems.append(_malformed(f"{here} has no 'BACKEND', the dotted path of a class"))
        if "ROUTING" in config:
            problems.append(_malformed(f"{here} has a 'ROUTING', which layers no longer have"))
        problems += [
            _malformed(f"{here} has a {key!r} that is not a dict of keyword arguments")
            for key in ("CONFIG", "TEST_CONFIG")
            if key in config and not _is_keywords(config[key])
        ]
    return problems


def check_backends(**_: Any) -> list[CheckMessage]:
    """Say so if a layer's backend cannot be imported, or does not take its `CONFIG`."""
    problems: list[CheckMessage] = []
    for alias, path, config in _layers():
        backend, problem = _import_backend(path)
        if problem is not None:
            hint = f"This is {MEMORY!r} here." if path.startswith(f"{NAME}.layers.") else None
            problems.append(
                Error(
                    f"The BACKEND of the channel layer {alias!r}, {path!r}, {problem}.",
                    hint=hint,
                    id="greenroom.E011",
                )
            )
            continue
        for key in ("CONFIG", *({"TEST_CONFIG"} & config.keys())):
            refusal = _refusal(backend, config.get(key, {}))
            if refusal is not None:
                problems.append(
                    Error(
                        f"The BACKEND of the channel layer {alias!r}, {path!r}, does not take its "
                        f"{key}: {refusal}.",
                        id="greenroom.E012",
                    )
                )
    return problems


def check_memory_in_production(**_: Any) -> list[CheckMessage]:
    """Warn of a layer in memory where several processes are the rule: with DEBUG off."""
    # Django's test runner turns DEBUG off too; with it comes an outbox for mail.
    if getattr(settings, "DEBUG", False) or hasattr(mail, "outbox"):
        return []
    return [
        CheckWarning(
            f"The channel layer {alias!r} is in the memory of one process, and DEBUG is off.",
            hint="A message reaches only the process that sends it: not another process of the "
            "server, not a view or a Celery task in a process of its own, not runworker. Use a "
            "layer with a server, such as channels_redis. If one process is all there is, add "
            "'greenroom.W010' to SILENCED_SYSTEM_CHECKS.",
            id="greenroom.W010",
        )
        for alias, path, _config in _layers()
        if _is_memory(_import_backend(path)[0])
    ]


def check_layers_of_channels(**_: Any) -> list[CheckMessage]:
    """Warn of the in-memory layer of the real Channels below consumers of ours."""
    return [
        CheckWarning(
            f"The BACKEND of the channel layer {alias!r}, {path!r}, is that of the real Channels.",
            hint=f"It works on one asyncio loop only, so threads and trio do not reach it. Use "
            f"{MEMORY!r}, or call install_as_channels() before Channels is imported.",
            id="greenroom.W011",
        )
        for alias, path, _config in _layers()
        if _is_theirs(_import_backend(path)[0])
    ]


def check_other_applications(**_: Any) -> list[CheckMessage]:
    """Warn of the real Channels and of daphne in `INSTALLED_APPS` beside this bridge."""
    problems: list[CheckMessage] = []
    if apps.is_installed(NAME) and not is_installed():
        problems.append(
            CheckWarning(
                "The real Channels is in INSTALLED_APPS beside 'greenroom.bridges.channels'.",
                hint="Of two commands of one name Django takes the one listed first, and each of "
                "the two keeps channel layers of its own: in memory they do not meet. Remove "
                "'channels', or call install_as_channels() and remove "
                "'greenroom.bridges.channels'.",
                id="greenroom.W013",
            )
        )
    # With "greenroom.bridges.django" listed as well, its own check says which runserver it is.
    if apps.is_installed("daphne") and not apps.is_installed("greenroom.bridges.django"):
        problems.append(
            CheckWarning(
                "'daphne' is in INSTALLED_APPS beside Greenroom.",
                hint="It brings a `runserver` of its own, and installs Twisted's reactor in every "
                "process. Put 'greenroom.bridges.django' in its place.",
                id="greenroom.W012",
            )
        )
    return problems


def check_patience_of_redis(**_: Any) -> list[CheckMessage]:
    """Warn of channels_redis with a redis-py that gives up waiting after five seconds."""
    problems: list[CheckMessage] = []
    for alias, path, config in _layers():
        if path.startswith("channels_redis.core.") and _redis_is_impatient():
            keywords = config.get("CONFIG")
            hosts = keywords.get("hosts") if isinstance(keywords, dict) else None
            entries = hosts if isinstance(hosts, list | tuple) and hosts else [None]
            if all(isinstance(entry, dict) and "socket_timeout" in entry for entry in entries):
                continue
            problems.append(
                CheckWarning(
                    f"The channel layer {alias!r} has hosts without a 'socket_timeout', which is "
                    f"five seconds since redis-py 8.",
                    hint="channels_redis asks the server to wait just as long for a message, so "
                    "every idle wait ends with a lost connection, and a message that comes "
                    'just then may be lost. Write {"address": "redis://...", "socket_timeout": '
                    "None} for each host, or install redis<8.",
                    id="greenroom.W014",
                )
            )
    return problems


ALL: Final[tuple[Callable[..., list[CheckMessage]], ...]] = (
    check_form_of_layers,
    check_backends,
    check_memory_in_production,
    check_layers_of_channels,
    check_other_applications,
    check_patience_of_redis,
)


def _malformed(problem: str) -> CheckMessage:
    return Error(
        f"{problem}.",
        hint='Such as CHANNEL_LAYERS = {"default": {"BACKEND": "' + MEMORY + '", "CONFIG": {}}}.',
        id="greenroom.E010",
    )


def _layers() -> Iterator[tuple[object, str, dict[Any, Any]]]:
    """Give (alias, path of the backend, the whole dict) of each layer that has the form."""
    layers = getattr(settings, "CHANNEL_LAYERS", None)
    if isinstance(layers, dict):
        for alias, config in layers.items():
            if isinstance(config, dict) and isinstance(config.get("BACKEND"), str):
                yield alias, config["BACKEND"], config


def _is_keywords(config: object) -> bool:
    return isinstance(config, dict) and all(isinstance(key, str) for key in config)


def _import_backend(path: str) -> tuple[Any, str | None]:
    """Give the backend, or None and what is wrong with it."""
    try:
        backend = import_string(path)
    except Exception as error:  # noqa: BLE001 -- a module may fail in any way
        return None, f"cannot be imported: {type(error).__name__}: {error}"
    if not callable(backend):
        return None, f"is a {type(backend).__name__}, not a class"
    return backend, None


def _refusal(backend: Callable[..., object], config: object) -> str | None:
    """Tell why `backend` cannot be called with `config`, None if it can or nobody knows."""
    if not _is_keywords(config):
        return None  # E010
    assert isinstance(config, dict)
    try:
        signature = inspect.signature(backend)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(**config)
    except TypeError as error:
        return str(error)
    return None


def _is_memory(backend: object) -> bool:
    return (isinstance(backend, type) and issubclass(backend, InMemoryChannelLayer)) or (
        _is_theirs(backend)
    )


def _is_theirs(backend: object) -> bool:
    module = getattr(backend, "__module__", None)
    return isinstance(module, str) and module.startswith(f"{NAME}.layers")


def _redis_is_impatient() -> bool:
    try:
        return int(version("redis").partition(".")[0]) >= 8
    except (PackageNotFoundError, ValueError):
        return False
