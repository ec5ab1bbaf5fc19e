"""`screening keys rotate`: new keys for numbers and for what is sealed, while calls and writes run.

The old versions stay in the key file: backups and log lines from before need them.
"""

from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from consent.keyring import Keyring
from consent.record import Record
from screening.commands.actor import actor
from screening.settings import Settings
from screening.state import open_files


def rotate(
    purpose: Annotated[
        Literal["token", "data"],
        typer.Argument(help="token: what numbers are known by; data: what seals them."),
    ],
) -> None:
    """Add a new key and write the table of subjects anew under it; the ledger stays as it is.

    May be broken off: the next one goes on where it was, and adds no key before it is done.
    """
    out = Console(highlight=False, soft_wrap=True)
    settings = Settings()
    with open_files(settings) as state:
        waiting = state.record().ledger.unrotated()
        path = state.secrets_path
    if waiting:
        out.print(f"{waiting:,} subjects are left of a rotation that was broken off")
    else:
        keyring = Keyring.rotate(path, purpose)
        out.print(f"{purpose} key version {keyring.version(purpose)} writes from now on")
    # Opened anew, since a command must not go on with the keys that it replaced.
    with open_files(settings) as state:
        record = state.record()
        done = _rewrite(record, out)
        record.audit.append(
            "keys.rotate", subject=purpose, actor=actor(), detail={"subjects": done}
        )
    out.print(f"{done:,} subjects written anew; copy {path.name} to the other nodes")


def _rewrite(record: Record, out: Console) -> int:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} subjects"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as bars:
        task = bars.add_task("keys", total=record.ledger.unrotated())
        return record.ledger.rotate(progress=lambda done: bars.advance(task, done))
