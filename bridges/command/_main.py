"""The command `greenroom` itself; each of its commands has a file of its own."""

import click

from ._run import run


@click.group(name="greenroom", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="greenroom")
def main() -> None:
    """Supervised trio actors for Django and ASGI."""


main.add_command(run)
