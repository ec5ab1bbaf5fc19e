"""`screening consent`: who agreed to what."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from consent.category import Category
from consent.number import parse_number
from screening.bulk import Bulk, batches
from screening.commands.actor import actor
from screening.commands.decision import (
    PENDING,
    Called,
    Evidence,
    Grantee,
    entity_of,
    number_of,
    pairs,
    take_event,
)
from screening.commands.table import table
from screening.consents import of_entity, of_subscriber
from screening.export import export as export_of
from screening.export import naming
from screening.registrar import Registrar
from screening.service import Service
from screening.settings import Settings
from screening.state import open_files, open_state
from screening.statement import (
    ConsentOut,
    Expire,
    Grant,
    Narrow,
    Renew,
    Revoke,
    Statement,
)

app = typer.Typer(no_args_is_help=True)

Days = Annotated[int, typer.Option(min=0, help="For how many days; 0: until revoked.")]
Effective = Annotated[
    str | None, typer.Option(help="From when on it counts, RFC 3339; from now when left out.")
]
Day = Annotated[
    list[str] | None,
    typer.Option(help="Day on which it permits calls: mon to sun, or holiday; repeat for more."),
]
Band = Annotated[
    list[str] | None,
    typer.Option(help="Hours in which it permits them, such as 09:00-18:00; repeat for more."),
]
Zone = Annotated[
    str | None, typer.Option(help="IANA time zone of these, where the number does not say it.")
]
Mode = Annotated[
    list[str] | None,
    typer.Option(help="Kind of call: voice, autodialler or prerecorded; repeat for more."),
]
Calls = Annotated[int | None, typer.Option(help="At most so many calls, within --per-days.")]
PerDays = Annotated[int | None, typer.Option(help="The days that --calls is counted within.")]


@app.command("grant")
def grant(
    called: Called,
    entity: Grantee,
    category: Annotated[
        list[Category] | None, typer.Option(help="What for; every category when left out.")
    ] = None,
    days: Days = 0,
    effective: Effective = None,
    day: Day = None,
    band: Band = None,
    zone: Zone = None,
    mode: Mode = None,
    calls: Calls = None,
    per_days: PerDays = None,
    evidence: Evidence = None,
) -> None:
    """Record that a subscriber agreed to the calls of an entity."""
    _state(
        Grant,
        called,
        entity,
        evidence,
        categories=category or [Category.ALL],
        expires_at=_until(days),
        effective_at=effective,
        terms=_terms(day, band, zone, mode, calls, per_days),
    )


@app.command("renew")
def renew(called: Called, entity: Grantee, days: Days, evidence: Evidence = None) -> None:
    """Record that a consent goes on, from now for so many days."""
    _state(Renew, called, entity, evidence, expires_at=_until(days))


@app.command("narrow")
def narrow(
    called: Called,
    entity: Grantee,
    withdraw: Annotated[
        list[Category] | None, typer.Option(help="What is taken back; repeat for more.")
    ] = None,
    day: Day = None,
    band: Band = None,
    zone: Zone = None,
    mode: Mode = None,
    calls: Calls = None,
    per_days: PerDays = None,
    evidence: Evidence = None,
) -> None:
    """Record that a subscriber took back some of a consent, or made its terms narrower."""
    terms = _terms(day, band, zone, mode, calls, per_days)
    _state(Narrow, called, entity, evidence, withdrawn=withdraw or [], terms=terms)


@app.command("revoke")
def revoke(
    called: Called,
    entity: Grantee,
    scope: Annotated[
        list[Category] | None, typer.Option(help="For these categories only; repeat for more.")
    ] = None,
    effective: Effective = None,
    evidence: Evidence = None,
) -> None:
    """Record that a subscriber took its consent back; in force once this returns."""
    _state(Revoke, called, entity, evidence, scope=scope or [], effective_at=effective)


@app.command("expire")
def expire(called: Called, entity: Grantee, evidence: Evidence = None) -> None:
    """Record that a consent has come to its end."""
    _state(Expire, called, entity, evidence)


def _terms(
    days: list[str] | None,
    bands: list[str] | None,
    zone: str | None,
    modes: list[str] | None,
    calls: int | None,
    per_days: int | None,
) -> dict[str, Any] | None:
    said = {
        "days": days, "bands": bands, "zone": zone, "modes": modes, "calls": calls,
        "per_days": per_days,
    }  # fmt: skip
    given = {name: value for name, value in said.items() if value}
    return given or None


def _until(days: int) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days else None


def _state(
    model: type[Statement], called: str, entity: str, evidence: list[str] | None, **says: Any
) -> None:
    try:
        stated = model.model_validate(
            {"called": called, "entity": entity, "evidence": pairs(evidence), **says}
        )
    except ValidationError as wrong:
        first = wrong.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"{place}: {first['msg']}") from None
    with open_state(Settings()) as state:
        number, known = number_of(state, called), entity_of(state, entity)
        take_event(state, stated.event(called=number, entity=known, now=time.time()))


@app.command("list")
def show(
    called: Annotated[str, typer.Option(help="Those of a subscriber, or")] = "",
    entity: Annotated[str, typer.Option(help="those of an entity, page by page.")] = "",
    after: Annotated[int, typer.Option(min=0, help="The cursor that the page before gave.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most of a page.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The consents of a subscriber, or of an entity."""
    if bool(called) == bool(entity):
        raise typer.BadParameter("expected one of --called and --entity")
    with open_files(Settings()) as state:
        record, following = state.record(), None
        if called:
            number = number_of(state, called)
            found, _ = of_subscriber(record, number)
            subject = state.keyring.token(number)
        else:
            entity_of(state, entity)
            found, following = of_entity(record, entity, after, limit)
            subject = entity
        record.audit.append("consents.read", subject=subject, actor=actor())
    if as_json:
        for each in found:
            print(each.model_dump_json(exclude_none=True))
    else:
        _show(found, by_entity=bool(called))
    if following is not None:
        Console(stderr=True, highlight=False).print(f"more: --after {following}")


def _show(found: list[ConsentOut], *, by_entity: bool) -> None:
    first = "entity" if by_entity else "subscriber"
    rows = table(first, "state", "categories", "granted", "expires", "event", whole=(first,))
    for each in found:
        rows.add_row(
            each.entity if by_entity else each.called,
            each.state,
            " ".join(each.categories),
            f"{each.granted_at:%Y-%m-%d}",
            f"{each.expires_at:%Y-%m-%d}" if each.expires_at else "never",
            str(each.sequence),
        )
    Console(highlight=False).print(rows)


@app.command("bulk")
def bulk(
    path: Annotated[Path, typer.Argument(help="A statement a line; `do` says which. See docs.")],
    report: Annotated[
        Path | None, typer.Option(help="Where to write what became of each line.")
    ] = None,
) -> None:
    """Grant and revoke for many, a JSON object a line; a bad line stops no other.

    A line that says what is already so is not recorded again: a bulk that broke off is repeated
    whole. Exit code 0 when every line holds, 3 when the index is still to follow, 1 when a line
    was refused.
    """
    out = Console(highlight=False)
    with open_state(Settings()) as state, closing(Registrar(state)) as registrar:
        taken = Bulk(state, registrar, actor())
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=out,
        )
        with bars, path.open("rb") as lines, (report or Path("/dev/null")).open("wb") as said:
            task = bars.add_task(path.name, total=path.stat().st_size)
            for batch in batches(_told(lines, bars, task)):
                outcomes = taken.take(batch)
                said.writelines(each.text() for each in outcomes)
                for each in outcomes[: 0 if report else None]:
                    if each.error:
                        out.print(f"line {each.line}: {each.field} {each.error}".replace("  ", " "))
                if taken.broken:
                    break
    summary = taken.summary()
    out.print(", ".join(f"{summary[name]:,} {name}" for name in taken.counts) or "no lines")
    if taken.broken:
        out.print("the record was gone: repeat the whole, what was done is found done")
    if taken.counts["refused"] or taken.broken:
        raise typer.Exit(1)
    if taken.counts["pending"]:
        raise typer.Exit(PENDING)


def _told(lines: Iterator[bytes], bars: Progress, task: Any) -> Iterator[bytes]:
    for line in lines:
        yield line
        bars.advance(task, len(line))


@app.command("export")
def export(called: Called) -> None:
    """Everything held about a subscriber as JSON, with the chain's entries as proof."""
    document = asyncio.run(_exported(called))
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


async def _exported(called: str) -> dict[str, Any]:
    with open_state(Settings()) as state:
        number = number_of(state, called)
        service = Service(state)
        await service.take_in()
        try:
            record, token = state.record(), state.keyring.token(number)
            record.audit.append("subscriber.exported", subject=token, actor=actor())
            country = parse_number(called, region=state.settings.region).country
            lists = await naming(service.reader, service.lists_in_force(), number, country=country)
            return export_of(record, state.keyring, number, lists=lists, now=time.time())
        finally:
            await service.stop()
