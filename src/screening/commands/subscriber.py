"""`screening subscriber`: what a subscriber set for itself."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from consent.category import Category
from consent.event import EventKind
from consent.listing import ListingError
from consent.record import RecordError
from screening.commands.actor import By, actor
from screening.commands.decision import PENDING, Evidence, Subscriber, number_of, pairs, take
from screening.commands.table import table
from screening.reassigned import carry_out, expect_few, read_ends
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State, open_files, open_state
from screening.statement import (
    ConsentEvidence,
    Preferences,
    Reassign,
    calling_number,
    personal_out,
)

app = typer.Typer(no_args_is_help=True)

Calling = Annotated[str, typer.Argument(help='A calling number, or "anonymous".')]
Many = list[str] | None


@app.command("show")
def show(number: Subscriber) -> None:
    """What is set: preferences and personal lists."""
    with open_files(Settings()) as state:
        called = number_of(state, number)
        record = state.record()
        held = record.ledger.held(called)
        token = state.keyring.token(called)
        record.audit.append("preferences.read", subject=token, actor=actor())
    rows = table("what", "set", whole=("what",))
    for name, value in Preferences.of(held.preferences).model_dump(mode="json").items():
        words = value.split() if isinstance(value, str) else value
        if name == "prefixes":
            words = [f"{each['action']}={each['prefix']}" for each in value]
        rows.add_row(name, " ".join(words))
    for action, numbers in personal_out(held).items():
        rows.add_row(f"personal {action}", " ".join(numbers))
    Console(highlight=False).print(rows)


@app.command("preferences")
def preferences(
    number: Subscriber,
    refuse: Annotated[list[Category] | None, typer.Option(help="A category; repeat.")] = None,
    accept: Annotated[
        list[Category] | None, typer.Option(help="A category, though a list refuses it; repeat.")
    ] = None,
    band: Annotated[Many, typer.Option(help="Hours of refusal, such as 21:00-09:00.")] = None,
    day: Annotated[Many, typer.Option(help="Days of refusal: mon to sun, holiday.")] = None,
    mode: Annotated[Many, typer.Option(help="voice, autodialler or prerecorded.")] = None,
    zone: Annotated[str, typer.Option(help="IANA time zone, such as Europe/London.")] = "",
    prefix: Annotated[Many, typer.Option(help="allow=DIGITS or block=DIGITS, 3 at most.")] = None,
) -> None:
    """Set the whole of what a subscriber wants; what is left out is not set any more."""
    prefixes = [word.partition("=") for word in prefix or []]
    try:
        wish = Preferences.model_validate(
            {
                "refused": refuse or [],
                "accepted": accept or [],
                "bands": band or [],
                "days": day or [],
                "modes": mode or [],
                "zone": zone,
                "prefixes": [{"prefix": digits, "action": word} for word, _, digits in prefixes],
            }
        )
    except ValidationError as wrong:
        first = wrong.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"{place}: {first['msg']}") from None
    with open_state(Settings()) as state:
        take(state, EventKind.PREFERENCES_SET, number, wish.body())


@app.command("put")
def put(
    number: Subscriber,
    action: Annotated[Literal["allow", "block"], typer.Argument(help="On which of its lists.")],
    calling: Calling,
) -> None:
    """Put a calling number on a subscriber's own list."""
    with open_state(Settings()) as state:
        body = {"calling": _calling(state, calling), "action": action}
        take(state, EventKind.PERSONAL_SET, number, body)


@app.command("clear")
def clear(number: Subscriber, calling: Calling) -> None:
    """Take a calling number off a subscriber's own lists."""
    with open_state(Settings()) as state:
        body = {"calling": _calling(state, calling)}
        take(state, EventKind.PERSONAL_CLEARED, number, body)


@app.command("refuse-all")
def refuse_all(number: Subscriber, evidence: Evidence = None) -> None:
    """A subscriber refuses every commercial call; the consents it gave are void."""
    try:
        proof = ConsentEvidence.model_validate(pairs(evidence))
    except ValidationError as wrong:
        first = wrong.errors(include_input=False)[0]
        raise typer.BadParameter(f"{first['loc'][0]}: {first['msg']}") from None
    with open_state(Settings()) as state:
        take(state, EventKind.REFUSED_ALL, number, {"evidence": proof.kept()})


@app.command("reassigned")
def reassigned(
    path: Annotated[
        Path, typer.Argument(help="The file: number and date a line; plain, gzip or zip.")
    ],
    region: Annotated[str, typer.Option(help="ISO 3166-1 country of its national digits.")] = "",
    checksum_file: Annotated[
        Path | None, typer.Option(help="The publisher's digest; else FILE.sha256 and such.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it ends more than 1 % a day.")
    ] = False,
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="What came of it as JSON.")] = False,
) -> None:
    """End what was decided of numbers that their subscribers gave up, by a published file."""
    out = Console(highlight=False)
    settings = Settings()
    with open_state(settings) as state, closing(Registrar(state)) as registrar:
        record, now = state.record(), time.time()
        try:
            ends = read_ends(
                record.ledger,
                path,
                region=region or settings.region,
                checksum=checksum_file,
                now=now,
            )
            if not force:
                expect_few(ends, record, now=now)
        except ListingError as refused:
            raise RecordError(str(refused)) from None
        in_force = carry_out(ends, record, registrar, actor=by or actor(), confirmed=force)
    if as_json:
        typer.echo(json.dumps(ends.report(in_force=in_force)))
    else:
        for reason in ends.reasons:
            out.print(reason)
        out.print(
            f"{ends.lines:,} lines, {ends.rejected:,} rejected, {ends.known:,} known here, "
            f"{ends.subscriptions:,} ended"
        )
    if not in_force:
        raise typer.Exit(PENDING)


@app.command("reassign")
def reassign(
    number: Subscriber,
    since: Annotated[str, typer.Option(help="When, RFC 3339; unknown when left out.")] = "",
) -> None:
    """The number has another subscriber: what was decided before does not bind it."""
    try:
        told = Reassign.model_validate({"since": since or None}).since
    except ValidationError as wrong:
        raise typer.BadParameter(f"since: {wrong.errors()[0]['msg']}") from None
    with open_state(Settings()) as state:
        body = {"since": int(told.timestamp()) if told else 0}
        take(state, EventKind.REASSIGNED, number, body)


def _calling(state: State, calling: str) -> int:
    try:
        return calling_number(calling, region=state.settings.region)
    except RecordError as refused:
        raise typer.BadParameter(str(refused)) from None
