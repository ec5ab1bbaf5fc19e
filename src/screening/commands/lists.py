"""`screening lists`: registries and network lists."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from consent.category import Category
from consent.listing import HOME, Form
from consent.loading import change_list, load_list, prepare_calling, rollback_list
from consent.plan import BY_COUNTRY
from consent.record import ListKind
from screening.commands.actor import By, actor
from screening.commands.table import table
from screening.settings import Settings
from screening.state import open_files, open_state
from screening.statement import instant, shown_number

app = typer.Typer(no_args_is_help=True)

ChecksumFile = Annotated[
    Path | None,
    typer.Option(help="The publisher's digest, as sha256sum writes it; else FILE.sha256 and such."),
]


@app.command("load")
def load(
    name: Annotated[str, typer.Argument(help="What the list is called; a known one is replaced.")],
    path: Annotated[Path, typer.Argument(help="The file: plain, gzip or zip.")],
    kind: Annotated[
        ListKind,
        typer.Option(help="dnc: called numbers; dno, block, allow: calling numbers."),
    ],
    list_format: Annotated[
        Literal["numbers", "ftc", "ofca", "csv"],
        typer.Option("--format", help="How the file is written."),
    ],
    region: Annotated[str, typer.Option(help="ISO 3166-1 country of its national digits.")] = "",
    category: Annotated[
        Category | None, typer.Option(help="What a dnc list's numbers refuse.")
    ] = None,
    column: Annotated[str, typer.Option(help="The csv column that has the numbers.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also when the list would change beyond its guard.")
    ] = False,
    checksum_file: ChecksumFile = None,
    by: By = "",
) -> None:
    """Load a list: whole or not at all, in force once this returns."""
    out = Console(highlight=False)
    settings = Settings()
    if region and region not in BY_COUNTRY:
        raise typer.BadParameter(f"region {region!r} is no country of ISO 3166-1, such as DE")
    form = Form(
        list_format,
        region=region or ("" if list_format in HOME else settings.region),
        called=kind is ListKind.DNC,
        column=column,
    )
    with open_state(settings) as state, state.index() as store, _bars(out) as bars:
        task = bars.add_task(name, total=None)
        outcome = load_list(
            state.record(),
            store,
            state.folder,
            name=name,
            path=path,
            kind=kind,
            form=form,
            category=category or "",
            force=force,
            checksum=checksum_file,
            actor=by or actor(),
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    out.print(
        f"{name} generation {outcome.generation}: {outcome.loaded:,} loaded, "
        f"{outcome.duplicates:,} duplicate, {outcome.rejected:,} rejected"
    )
    if outcome.already:
        out.print("this very file was in force already")
    if outcome.rejected_path:
        out.print(f"rejected lines, with their reasons: {outcome.rejected_path}")


@app.command("delta")
def delta(
    name: Annotated[str, typer.Argument(help="The do-not-call list that changes.")],
    path: Annotated[
        Path, typer.Argument(help="The file: number, date and A or D a line; plain, gzip or zip.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also when it changes more than 1 % a day.")
    ] = False,
    checksum_file: ChecksumFile = None,
    by: By = "",
) -> None:
    """Change a list by the numbers added and removed: whole or not at all, in force at once."""
    out = Console(highlight=False)
    with open_state(Settings()) as state, state.index() as store, _bars(out) as bars:
        task = bars.add_task(name, total=None)
        outcome = change_list(
            state.record(),
            store,
            state.folder,
            name=name,
            path=path,
            actor=by or actor(),
            force=force,
            checksum=checksum_file,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    out.print(
        f"{name} generation {outcome.generation}: {outcome.loaded:,} loaded, "
        f"{outcome.added:,} added, {outcome.removed:,} removed, {outcome.rejected:,} rejected"
    )
    if outcome.already:
        out.print("this very file is part of what was in force already")
    if outcome.rejected_path:
        out.print(f"rejected lines, with their reasons: {outcome.rejected_path}")


def _bars(out: Console) -> Progress:
    """The progress of a load, in bytes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=out,
    )


@app.command("show")
def show() -> None:
    """The lists, what of them is in force, and the entities that calling numbers belong to."""
    out = Console(highlight=False)
    with open_files(Settings()) as state:
        record = state.record()
        names = ("list", "kind", "region", "category", "gen.", "entries", "excepted", "age", "by")
        excepted = Counter(name for each in record.exceptions.in_force().values() for name in each)
        lists = table(*names, whole=names[:-1])
        for each in record.catalogue.lists():
            now = each.active
            lists.add_row(
                each.name,
                each.kind,
                each.region or "any",
                each.category,
                str(now.generation) if now else "none",
                f"{now.loaded:,}" if now else "",
                str(excepted[each.name] or ""),
                str(timedelta(seconds=round(each.age_s or 0))) if now else "",
                now.actor if now else "",
            )
        out.print(lists)
        out.print()
        entities = table("entity", "title", "categories", "numbers")
        for entity in record.entities.all():
            count = str(len(entity.numbers) + len(entity.ranges))
            entities.add_row(entity.name, entity.title, " ".join(entity.categories), count)
        out.print(entities)


@app.command("exceptions")
def exceptions() -> None:
    """The calling numbers that are excepted from a list, by their tokens, and why."""
    rows = table("list", "number", "event", "at", "why", whole=("list", "number"))
    with open_files(Settings()) as state:
        for each in state.record().exceptions.all():
            rows.add_row(
                each.list_name,
                state.keyring.token(each.number),
                str(each.sequence),
                f"{instant(each.at):%Y-%m-%d %H:%M:%SZ}",
                each.reason,
            )
    Console(highlight=False).print(rows)


Number = Annotated[str, typer.Argument(help="The calling number.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]


@app.command("except")
def grant(
    name: Annotated[str, typer.Argument(help="The list.")], number: Number, reason: Reason
) -> None:
    """Except a number from a network list, whatever is loaded into it from now on."""
    settings = Settings()
    with open_state(settings) as state:
        value = shown_number(number, region=settings.region, field="number")
        fresh = state.record().exceptions.grant(name, value, reason=reason, actor=actor())
    Console(highlight=False).print(f"excepted from {name}" + (" before" if not fresh else ""))


@app.command("restore")
def restore(
    name: Annotated[str, typer.Argument(help="The list.")], number: Number, reason: Reason
) -> None:
    """Undo an exception: the list names the number again, if it does."""
    settings = Settings()
    with open_state(settings) as state:
        value = shown_number(number, region=settings.region, field="number")
        state.record().exceptions.restore(name, value, reason=reason, actor=actor())
    Console(highlight=False).print(f"no longer excepted from {name}")


@app.command("prepare")
def prepare() -> None:
    """Make the calling-side file of this node anew from the lists in force."""
    with open_files(Settings()) as state:
        prepare_calling(state.record(), state.folder)


@app.command("permit")
def permit(
    name: Annotated[str, typer.Argument(help="The list.")],
    days: Annotated[int, typer.Argument(min=0, help="How old it may be; 0: of any age.")],
) -> None:
    """Say how old a list may be before its facts are stale to the rules, and an alert fires."""
    with open_state(Settings()) as state:
        state.record().catalogue.permit_age(name, days * 86_400, actor=actor())
    Console(highlight=False).print(
        f"{name} may be {days} days old" if days else f"{name} may be of any age"
    )


@app.command("rollback")
def rollback(name: Annotated[str, typer.Argument(help="The list.")], by: By = "") -> None:
    """Bring the generation before this one back into force."""
    with open_state(Settings()) as state, state.index() as store:
        generation = rollback_list(
            state.record(), store, state.folder, name=name, actor=by or actor()
        )
    Console(highlight=False).print(f"{name} is back at generation {generation}")
