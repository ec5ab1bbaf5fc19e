"""`screening consent`: who agreed to what."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console

from consent.category import Category
from consent.event import Event, EventKind
from consent.number import NotE164, parse_e164
from screening.commands.actor import actor
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State, open_state

app = typer.Typer(no_args_is_help=True)

Called = Annotated[str, typer.Option(help="The subscriber who decided.")]
Grantee = Annotated[str, typer.Option(help="Name of the entity, from `lists show --entities`.")]


@app.command("grant")
def grant(
    called: Called,
    entity: Grantee,
    category: Annotated[
        list[Category] | None, typer.Option(help="What for; every category when left out.")
    ] = None,
    days: Annotated[int, typer.Option(min=0, help="For how many days; 0: until revoked.")] = 0,
) -> None:
    """Record that a subscriber agreed to the calls of an entity."""
    expires = int((datetime.now(UTC) + timedelta(days=days)).timestamp()) if days else 0
    with open_state(Settings()) as state:
        body = {
            "entity": _entity(state, entity),
            "categories": [str(each) for each in category or [Category.ALL]],
            "expires": expires,
        }
        _append(state, EventKind.CONSENT_GRANTED, called, body)


@app.command("revoke")
def revoke(called: Called, entity: Grantee) -> None:
    """Record that a subscriber took its consent back; in force once this returns."""
    with open_state(Settings()) as state:
        body = {"entity": _entity(state, entity)}
        _append(state, EventKind.CONSENT_REVOKED, called, body)


def _entity(state: State, name: str) -> int:
    known = {each.name: each.id for each in state.record().entities.all()}
    if name not in known:
        expected = ", ".join(sorted(known)) or "none is registered"
        raise typer.BadParameter(f"no entity {name!r}; there are: {expected}")
    return known[name]


def _append(state: State, kind: EventKind, called: str, body: dict[str, Any]) -> None:
    """Commit to the ledger, then bring the index up; say which of the two happened."""
    try:
        number = parse_e164(called, region=state.settings.region)
    except NotE164 as refused:
        raise typer.BadParameter(str(refused)) from None
    with closing(Registrar(state)) as registrar:
        taken = registrar.take([Event(0, time.time(), kind, number, body)], actor=actor())
    out = Console(highlight=False)
    if taken.in_force:
        out.print(f"recorded as event {taken.sequence}, in force")
    else:
        out.print(
            f"recorded as event {taken.sequence}; in force once the index is back: "
            f"{registrar.failure}"
        )
