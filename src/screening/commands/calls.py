"""`screening calls`: what became of calls, from call detail records."""

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import orjson
import typer
from rich.progress import Progress

from consent.calling import CallingLists, CallingSide, Registry, load_entities
from screening.call_ends import EndReader, EndReport
from screening.recording.outbox import connect
from screening.settings import Settings
from screening.state import open_state

app = typer.Typer(no_args_is_help=True)

_AT_ONCE: Final = 500


@app.callback()
def calls() -> None:
    """What became of calls."""


@app.command("import")
def import_ends(
    file: Annotated[Path, typer.Argument(help="NDJSON; - for standard input.")],
) -> None:
    """Hand the ends of calls to this node's recorder; exit 1 where a line could not be read."""
    settings = Settings()
    report = EndReport()
    with open_state(settings) as state, Progress(disable=not sys.stderr.isatty()) as progress:
        registry = Registry(load_entities(state.folder))
        side = CallingSide(CallingLists.load(state.folder), registry)
        reader = EndReader(
            region=settings.region,
            key=state.keyring.decision_key,
            entity_of=lambda: side.entity_of,
        )
        link = connect(state.folder)
        if link is None:
            raise typer.BadParameter("no recorder runs on this node: it counts the ends of calls")
        with link, _opened(file) as lines:
            # A recorder that is behind is waited for, which a worker never does.
            link.setblocking(True)
            task = progress.add_task("ends of calls", total=None)
            ends = reader.read_lines(lines, report, trusts_trunk=True)
            while batch := list(islice(ends, _AT_ONCE)):
                told = [("ends", end) for end in batch]
                empty = {"instance": "", "rules": "", "lost": 0, "verdicts": [], "lists": []}
                link.send(orjson.dumps({**empty, "calls": [], "told": told}))
                progress.advance(task, len(batch))
    for error in report.errors:
        print(f"line {error['line']}: {error['error']}", file=sys.stderr)
    print(f"{report.taken:,} ends handed over, {report.rejected:,} lines not read")
    raise typer.Exit(1 if report.rejected else 0)


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        return sys.stdin.buffer
    try:
        return file.open("rb")
    except OSError as broken:
        raise typer.BadParameter(f"{file}: {broken.strerror}") from None
