"""`screening complaints`: what called parties complained of."""

import csv
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from consent.complaint import Complaint, Rejects, read_ftc, read_ndjson
from rules.ladder import load_ladders
from screening.commands.table import table
from screening.conduct import Conduct
from screening.settings import Settings
from screening.state import open_files
from screening.statement import instant

app = typer.Typer(no_args_is_help=True)

AT_ONCE = 1000
"""Complaints of one reading of the decision log."""


@app.command("import")
def import_file(
    path: Annotated[Path, typer.Argument(help="FTC CSV, or NDJSON of our own by its name.")],
) -> None:
    """Take down the complaints of a file; those that were taken before are passed over."""
    settings, rejects = Settings(), Rejects()
    source, now = f"file:{path.name}", time.time()
    kept = repeated = matched = steps = 0
    with open_files(settings) as state, path.open("rb") as file:
        conduct = Conduct(state, load_ladders(settings.ladder_dir))
        complaints: Iterator[Complaint]
        if path.suffix == ".csv":
            lines = (line.decode("utf-8-sig", "replace") for line in file)
            complaints = read_ftc(lines, source=source, rejects=rejects)
        else:
            complaints = read_ndjson(
                file, region=settings.region, now=now, source=source, rejects=rejects
            )
        while batch := list(islice(complaints, AT_ONCE)):
            heard = conduct.complain(batch)
            kept += sum(each.kept is not None for each in heard)
            repeated += sum(each.kept is None for each in heard)
            matched += sum(bool(each.kept and each.kept.decision_id) for each in heard)
            steps += len({each.step.sequence for each in heard if each.step})
    say = Console(highlight=False).print
    say(f"{kept} kept, {matched} of them matched, {repeated} repeated, {rejects.count} rejected")
    if steps:
        say(f"{steps} steps of the ladder: screening ladder notices")
    for line, reason in rejects.first:
        say(f"line {line}: {reason}")
    if rejects.count:
        raise typer.Exit(1)


@app.command("list")
def show(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
) -> None:
    """The complaints, newest first; parties by their tokens."""
    rows = table("id", "at", "caller", "entity", "category", "call", "authenticated", "source")
    with open_files(Settings()) as state:
        names = {each.id: each.name for each in state.record().entities.all(status=None)}
        for each in state.record().complaints.latest(limit):
            rows.add_row(
                str(each.id),
                instant(each.at).isoformat(timespec="seconds"),
                each.caller,
                names.get(each.entity, ""),
                each.category,
                each.decision_id or "not found",
                "yes" if each.authenticated else "no",
                each.source,
            )
    Console(highlight=False).print(rows)


@app.command("shares")
def shares(
    month: Annotated[str, typer.Argument(help="Such as 2026-11.")],
    jurisdiction: Annotated[str, typer.Option(help="One country alone, ISO 3166-1.")] = "",
) -> None:
    """The complaints of a month by category, as CSV."""
    with open_files(Settings()) as state:
        counts = state.record().complaints.shares(month, jurisdiction)
    write_shares(counts, typer.get_text_stream("stdout"))


def write_shares(counts: dict[str, int], file: Iterable[str]) -> None:
    """Category, complaints and share, a line each."""
    total = sum(counts.values())
    writer = csv.writer(file, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerow(("category", "complaints", "share"))
    for name, count in counts.items():
        writer.writerow((name or "unknown", count, f"{count / total:.4f}"))
