"""Who runs a command, for the audit."""

import getpass
from typing import Annotated

import typer

By = Annotated[str, typer.Option("--by", hidden=True, help="Whom the audit shall name.")]
"""Of commands that the service runs for a client."""


def actor() -> str:
    """The operating system's name of the person, marked as the command line's."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"
