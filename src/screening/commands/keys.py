"""`screening keys`: who may do what."""

import re
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from consent.record import Record
from screening.access import Access, Right, Role
from screening.commands.actor import actor
from screening.settings import Settings
from screening.state import State, open_files

app = typer.Typer(no_args_is_help=True)
_TERM = re.compile(r"(\d+)([dh])\Z")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is; several may have one name.")],
    role: Annotated[list[Role], typer.Option(help="What it may do; repeat for more.")],
    right: Annotated[
        list[Right] | None, typer.Option(help="What its lookups may ask for; repeat for more.")
    ] = None,
    expires: Annotated[str, typer.Option(help="After 90d or 12h; never when left out.")] = "",
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    until = time.time() + _seconds(expires) if expires else 0.0
    with open_files(Settings()) as state:
        secret = Access.load(state.keys_path).create(
            name, roles=role, rights=right or [], expires=until
        )
        _audit(state, "keys.add", name)
    print(secret)


@app.command("list")
def show() -> None:
    """Every key: whose, what it may do, until when."""
    with open_files(Settings()) as state:
        table = Table("name", "id", "roles", "rights", "made", "expires")
        for key in Access.load(state.keys_path).list():
            table.add_row(
                key.name,
                key.id,
                " ".join(sorted(key.roles)),
                " ".join(sorted(key.rights)),
                _day(key.created),
                _day(key.expires) if key.expires else "never",
            )
    Console().print(table)


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    key_id: Annotated[str, typer.Argument(help="Its id, from `keys list`.")],
) -> None:
    """Take a key out of force; a running service follows within a second."""
    with open_files(Settings()) as state:
        Access.load(state.keys_path).revoke(name, key_id)
        _audit(state, "keys.revoke", f"{name}/{key_id}")
    print(f"revoked {name}/{key_id}")


def _audit(state: State, action: str, subject: str) -> None:
    record: Record = state.record()
    record.audit.append(action, subject=subject, actor=actor())


def _seconds(term: str) -> float:
    found = _TERM.match(term)
    if not found:
        raise typer.BadParameter(f"{term!r}: expected a number of days or hours such as 90d or 12h")
    return int(found[1]) * (86_400.0 if found[2] == "d" else 3_600.0)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
