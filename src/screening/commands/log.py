"""`screening log`: the decision record, verified, searched and exported."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from consent.number import masked, parse_number
from consent.record.chain import Checkpoint
from consent.signing import SigningError, SigningKey, TrustedKeys
from screening.commands.actor import actor
from screening.recording.export import export as export_parquet
from screening.recording.reader import DECISION_ID, DecisionLog
from screening.recording.segments import (
    CHECKPOINTS,
    FOLDER,
    Line,
    checkpoints,
    first_flaw,
    segments,
)
from screening.settings import Settings
from screening.state import open_files

app = typer.Typer(no_args_is_help=True)

BROKEN = 1
"""The exit code where the log is not what it was."""

Days = Annotated[float | None, typer.Option(min=0, help="Only of the last so many days.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one record a line.")]


@app.command("verify")
def verify(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the segments; this node's own if left out.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="Public keys, file or folder, that checkpoints must be signed by."),
    ] = None,
    marks: Annotated[
        Path | None,
        typer.Option("--checkpoints", help="Checkpoints kept elsewhere, beside those of the log."),
    ] = None,
) -> None:
    """Find the first record that was altered, is missing, or stands elsewhere; exit 1 for one.

    Without checkpoints kept elsewhere it cannot show that the newest records were cut off.
    """
    where = folder or Settings().state_dir / FOLDER
    errors = Console(stderr=True)
    heads = [*checkpoints(where), *(_read(marks) if marks else ())]
    trusted = TrustedKeys.load(keys)
    for mark in heads:
        try:
            mark.check(trusted)
        except SigningError as refused:
            print(f"record {mark.sequence}: {refused}")
            raise typer.Exit(BROKEN) from None
    seen = [0, 0]
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} records"))
    with Progress(*columns, console=errors, transient=True) as bars:
        task = bars.add_task("", total=None)

        def look(line: Line) -> None:
            seen[0] += 1
            seen[1] = line.sequence
            if seen[0] % 10_000 == 0:
                bars.advance(task, 10_000)

        flaw = first_flaw(where, heads, progress=look)
    if flaw is not None:
        print(f"record {flaw.sequence}: {flaw.what}")
        raise typer.Exit(BROKEN)
    there = segments(where)
    if not there:
        print("the log is empty")
        return
    print(
        f"{seen[0]} records in {len(there)} segments hold, {there[0].first} to {seen[1]};"
        f" {len(heads)} checkpoints"
    )


def _read(path: Path) -> list[Checkpoint]:
    try:
        return [Checkpoint.parse(line) for line in path.read_bytes().splitlines() if line.strip()]
    except ValueError as broken:
        raise typer.BadParameter(f"{path}: {broken}") from None


@app.command("checkpoint")
def checkpoint(
    key: Annotated[Path, typer.Option(help="Private key; see `screening rules keygen`.")],
) -> None:
    """Sign how far the log has come, and print it to be kept elsewhere."""
    where = Settings().state_dir / FOLDER
    last: Line | None = None
    name = ""
    there = segments(where)
    for raw in there[-1].lines() if there else ():
        line = Line.parse(raw)
        if not name:
            name = str(line.document().get("log", ""))
        last = line if line.sequence else last
    if last is None:
        raise typer.BadParameter("the log is empty: there is nothing to sign")
    mark = Checkpoint.sign(name, last.sequence, last.hash, time.time(), SigningKey.load(key))
    with (where / CHECKPOINTS).open("a") as file:
        file.write(mark.line() + "\n")
    print(mark.line())


@app.command("find")
def find(
    what: Annotated[
        str, typer.Argument(help="A decision id, or a number for who holds the node's keys.")
    ],
    side: Annotated[
        str, typer.Option(help='Of a number: "calling", "called" or "" for both.')
    ] = "",
    days: Days = None,
    reason: Annotated[
        str, typer.Option(help="Why a number is looked up; the audit keeps it with its token.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """The records of a decision, or of the calls of a number."""
    settings = Settings()
    with open_files(settings) as state:
        log = DecisionLog(state.folder)
        if DECISION_ID.fullmatch(what.upper()):
            _show(log.find(what.upper(), days=days), as_json=as_json)
            return
        number = parse_number(what, region=settings.region)
        if not number.value:
            raise typer.BadParameter(f"{what!r} is neither a decision id nor a number")
        if not reason.strip():
            raise typer.BadParameter("looking up a number needs --reason, for the audit")
        # The audit first: what cannot be kept is not done.
        state.record().audit.append(
            "log.find",
            subject=state.keyring.token(number.value),
            actor=actor(),
            detail={"reason": reason},
        )
        sides = (side,) if side else ("calling", "called")
        Console(stderr=True).print(f"calls of {masked(number)}")
        found = log.of_number(number.value, state.keyring, sides=sides, days=days)
        _show(found, as_json=as_json)


@app.command("tail")
def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """The newest records."""
    _show(DecisionLog(Settings().state_dir).tail(count), as_json=as_json)


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    since: Annotated[datetime | None, typer.Option(help="From this instant on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this instant (UTC).")] = None,
) -> None:
    """Write decisions to a Parquet file; needs the extra `parquet`."""
    count = export_parquet(
        Settings().state_dir / FOLDER,
        out,
        since=since.replace(tzinfo=UTC).timestamp() if since else 0.0,
        until=until.replace(tzinfo=UTC).timestamp() if until else float("inf"),
    )
    print(f"{count} decisions in {out}")


def _show(found: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    count = 0
    for each in found:
        count += 1
        if as_json:
            print(json.dumps(each, ensure_ascii=False))
            continue
        at = datetime.fromtimestamp(each["instant"], UTC).isoformat(timespec="milliseconds")
        attempt = f" attempt {each['attempt']}" if each["attempt"] > 1 else ""
        parties = f"{each['calling'] or each['calling_class']} to {each['called']}"
        why = f"{each['action']} {each['cause']} by {each['ruleset']} {each['rule']}"
        print(f"{at} {each['id']}{attempt}: {why}, {parties}")
    if not count:
        Console(stderr=True).print("no record")
        raise typer.Exit(BROKEN)
