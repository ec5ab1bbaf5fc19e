"""`screening subscriber erase`: the right to be forgotten, with the ledger still whole."""

import time
from contextlib import closing
from typing import Annotated

import typer
from rich.console import Console

from consent.event import Event, EventKind
from consent.number import NotE164, parse_e164
from screening.commands.actor import actor
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import open_state


def erase(
    called: Annotated[str, typer.Argument(help="The subscriber's number.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: what is erased cannot be read again.")
    ] = False,
) -> None:
    """Destroy the key of all that a subscriber decided, its facts leave the index first, and take
    its number out of complaints."""
    out = Console(highlight=False, soft_wrap=True)
    settings = Settings()
    try:
        number = parse_e164(called, region=settings.region)
    except NotE164 as refused:
        raise typer.BadParameter(str(refused)) from None
    with open_state(settings) as state:
        record = state.record()
        held = len(record.ledger.events_of(number)) + record.complaints.naming(number)
        if not held:
            out.print("nothing is held for this number")
            raise typer.Exit(1)
        if not yes:
            typer.confirm(
                f"{held} events and complaints will never be readable again. Erase them?",
                abort=True,
            )
        with closing(Registrar(state)) as registrar:
            erased = Event(0, time.time(), EventKind.ERASED, number, {})
            taken = registrar.take([erased], actor=actor())
            # A key is destroyed once no shard has anything more to learn from what it opens.
            followed = taken.in_force and registrar.in_force(taken.sequence)
        if followed:
            done = record.ledger.finish_erasures(taken.sequence)
            key = "its key is destroyed"
            if not done and record.indexes.epochs().building:
                key += " once the index that is being made is in force"
            out.print(f"recorded as event {taken.sequence}: its facts are gone and {key}")
        else:
            out.print(
                f"recorded as event {taken.sequence}; erased once the index is back: "
                f"{registrar.failure}"
            )
