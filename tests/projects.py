"""Django projects that tests write, each in a folder of its own."""

from collections.abc import Mapping
from pathlib import Path

MANAGE = """\
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "{}.settings"
execute_from_command_line(sys.argv)
"""


def write_project(folder: Path, package: str, files: Mapping[str, str]) -> None:
    """Write a project whose settings are in `package`: files by their path, and `manage.py`."""
    for name, content in {"manage.py": MANAGE.format(package), **files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
