"""`screening audit`."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from screening.settings import Settings
from screening.state import open_files


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
) -> None:
    """Who did what to the service, newest first."""
    table = Table("when", "who", "what", "to")
    with open_files(Settings()) as state:
        for entry in state.record().audit.latest(limit):
            at = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            table.add_row(at, entry.actor, entry.action, entry.subject)
    Console().print(table)
