"""`screening entity`: who calls for commercial reasons."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from consent.category import Category
from consent.entity import Entity, EntityStatus
from consent.record import Record, RecordError
from screening.commands.actor import actor
from screening.commands.table import table
from screening.settings import Settings
from screening.state import open_files
from screening.statement import shown_number

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The entity's name.")]
Numbers = Annotated[list[str] | None, typer.Option("--number", help="A calling number; repeat.")]
Trades = Annotated[list[Category] | None, typer.Option(help="A trade of it; repeat.")]


@app.command("add")
def add(
    name: Name,
    title: Annotated[str, typer.Option(help="Its name for people.")],
    category: Trades = None,
    number: Numbers = None,
    acts_for: Annotated[
        str, typer.Option(help="The entity that this telemarketer calls for.")
    ] = "",
) -> None:
    """Register an entity; calls from its numbers are then its calls, within a second."""
    settings = Settings()
    with open_files(settings) as state:
        made = state.record().entities.put(
            name,
            title=title,
            categories=map(str, category or []),
            numbers=_numbers(number, settings.region),
            acts_for=acts_for,
            actor=actor(),
            unchanged="",
        )
    _say(made)


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="One of them; all when left out.")] = "") -> None:
    """The entities: trades, numbers, status, and who calls for whom."""
    with open_files(Settings()) as state:
        known = state.record().entities.all(status=None)
        if name:
            state.record().entities.named(name)
    names = {each.id: each.name for each in known}
    rows = table(
        "entity", "title", "categories", "status", "acts for", "numbers", whole=("entity",)
    )
    for each in known:
        if name in ("", each.name):
            spans = [f"+{one}" for one in each.numbers]
            spans += [f"+{low}-+{high}" for low, high in each.ranges]
            rows.add_row(
                each.name,
                each.title,
                " ".join(each.categories),
                each.status,
                names.get(each.acts_for, ""),
                " ".join(spans) if name else str(len(spans)),
            )
    Console(highlight=False).print(rows)


@app.command("range")
def add_range(
    name: Name,
    first: Annotated[str, typer.Argument(help="The first calling number.")],
    last: Annotated[str, typer.Argument(help="The last; the first alone when left out.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take it away instead.")] = False,
) -> None:
    """Authorise a number or a range of them, or take it away."""
    region = Settings().region
    low = shown_number(first, region=region, field="first")
    high = shown_number(last or first, region=region, field="last")

    def changed(entity: Entity) -> Entity:
        spans = [(one, one) for one in entity.numbers] + list(entity.ranges)
        if remove and (low, high) not in spans:
            raise RecordError(f"entity {name!r} has no such number or range", field="first")
        kept = [span for span in spans if span != (low, high)]
        return _with_spans(entity, kept if remove else [*kept, (low, high)])

    _change(name, changed)


@app.command("delegate")
def delegate(
    name: Annotated[str, typer.Argument(help="Who is called for.")],
    telemarketer: Annotated[str, typer.Argument(help="Who calls for it: an entity as well.")],
    end: Annotated[bool, typer.Option("--end", help="It no longer does.")] = False,
) -> None:
    """Let a telemarketer's numbers speak for an entity: its consents permit their calls.

    A telemarketer that calls for several is registered once for each, with the numbers it uses.
    """
    _change(telemarketer, lambda entity: entity, acts_for="" if end else name)


@app.command("status")
def status(
    name: Name, to: Annotated[EntityStatus, typer.Argument(help="Whether it may call.")]
) -> None:
    """Suspend an entity, or let it call again; its id, consents and numbers stay its own."""
    _change(name, lambda entity: replace(entity, status=to))


def _change(name: str, changed: Callable[[Entity], Entity], acts_for: str | None = None) -> None:
    with open_files(Settings()) as state:
        record = state.record()
        before = record.entities.named(name)
        if acts_for is None:
            acts_for = _name_of(record, before.acts_for)
        after = changed(before)
        made = record.entities.put(
            name,
            title=after.title,
            categories=after.categories,
            numbers=after.numbers,
            ranges=after.ranges,
            status=after.status,
            acts_for=acts_for,
            unchanged=before.version,
            actor=actor(),
        )
    _say(made)


def _name_of(record: Record, entity_id: int) -> str:
    return next((name for name, known in record.entities.ids().items() if known == entity_id), "")


def _with_spans(entity: Entity, spans: list[tuple[int, int]]) -> Entity:
    return replace(
        entity,
        numbers=tuple(low for low, high in spans if low == high),
        ranges=tuple((low, high) for low, high in spans if low != high),
    )


def _numbers(texts: Iterable[str] | None, region: str) -> list[int]:
    return [
        shown_number(each, region=region, field=f"number {n}")
        for n, each in enumerate(texts or [], 1)
    ]


def _say(made: Entity) -> None:
    count = len(made.numbers) + len(made.ranges)
    Console(highlight=False).print(f"{made.name}: {made.status}, {count} numbers and ranges")
