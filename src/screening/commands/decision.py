"""What the commands that write decisions have in common."""

import time
from contextlib import closing
from typing import Annotated, Any

import typer
from rich.console import Console

from consent.event import Event, EventKind
from consent.record import RecordError
from screening.commands.actor import actor
from screening.registrar import Registrar
from screening.state import State
from screening.statement import called_number, plain

PENDING = 3
"""The exit code of what is recorded and not yet in force."""

Subscriber = Annotated[str, typer.Argument(help="The subscriber's number.")]
Called = Annotated[str, typer.Option(help="The subscriber who decided.")]
Grantee = Annotated[str, typer.Option(help="Name of the entity, from `entity show`.")]
Evidence = Annotated[
    list[str] | None,
    typer.Option("--evidence", metavar="NAME=VALUE", help="A field of what proves it; repeat."),
]


def number_of(state: State, called: str) -> int:
    """The subscriber's number; a wrong call where it is none."""
    try:
        return called_number(called, region=state.settings.region)
    except RecordError as refused:
        raise typer.BadParameter(str(refused)) from None


def entity_of(state: State, name: str) -> int:
    """The id of an entity; a wrong call where it is none, with those that there are."""
    known = state.record().entities.ids()
    if name not in known:
        expected = ", ".join(sorted(known)) or "none is registered"
        raise typer.BadParameter(f"no entity {name!r}; there are: {expected}")
    return known[name]


def take(state: State, kind: EventKind, called: str, body: dict[str, Any]) -> None:
    """Record a decision made now; say whether it is in force."""
    take_event(state, Event(0, time.time(), kind, number_of(state, called), body))


def take_event(state: State, event: Event) -> None:
    """Commit to the ledger, then bring the index up; say which of the two happened."""
    with closing(Registrar(state)) as registrar:
        try:
            taken = registrar.take([event], actor=actor())
        except RecordError as refused:
            message, field = plain(refused)
            raise RecordError(message, field=field) from None
    out = Console(highlight=False)
    if taken.in_force:
        out.print(f"recorded as event {taken.sequence}, in force")
        return
    out.print(
        f"recorded as event {taken.sequence}; in force once the index is back: {registrar.failure}"
    )
    raise typer.Exit(PENDING)


def pairs(words: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE words as fields."""
    fields: dict[str, Any] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{word!r}: expected NAME=VALUE")
        fields[name] = value
    return fields
