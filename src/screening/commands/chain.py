"""`screening consent verify` and `checkpoint-key`: that the ledger is what it was."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from consent.record import Checkpoint, Record
from consent.signing import SigningError, TrustedKeys
from screening.checkpoints import read_checkpoints
from screening.settings import Settings
from screening.state import open_files


def verify(
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="Checkpoints kept elsewhere; the file of this node when left out."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="Public keys that checkpoints must be signed by, a file or a folder; this "
            "node's own when left out."
        ),
    ] = None,
) -> None:
    """Look at every event of the ledger; exit 1 at the first that is not what it was."""
    out = Console(highlight=False, soft_wrap=True)
    with open_files(Settings()) as state:
        trusted = TrustedKeys.load(public_key) if public_key else TrustedKeys.of([state.signer])
        record = state.record()
        # Those of the database first: the ledger only grows while it is looked at.
        marks = _of_database(record, trusted)
        path = checkpoints or state.settings.checkpoints
        if checkpoints is not None or path.exists():
            marks += _of_file(path, trusted, out)
        flaw = _flaw(record, marks, out)
        if flaw:
            out.print(f"[red]not whole:[/red] {flaw}")
            raise typer.Exit(1)
        last = record.ledger.last_sequence()
    newest = max((each.sequence for each in marks), default=0)
    out.print(f"whole: {last:,} events, {len(marks):,} checkpoints, the newest of event {newest:,}")


def _of_database(record: Record, trusted: TrustedKeys) -> list[Checkpoint]:
    marks = record.ledger.checkpoints()
    for each in marks:
        _expect_trusted(each, trusted, "the checkpoint in the database")
    return marks


def _of_file(path: Path, trusted: TrustedKeys, out: Console) -> list[Checkpoint]:
    marks, passed_over = [], 0
    for number, each in read_checkpoints(path):
        if each is None:
            passed_over += 1
            continue
        _expect_trusted(each, trusted, f"{path}, line {number}: the checkpoint")
        marks.append(each)
    if passed_over:
        out.print(f"{path}: {passed_over} lines are no checkpoints and were passed over")
    if not marks:
        raise SigningError(f"{path} has no checkpoint: expected lines of JSON, as they are written")
    return marks


def _expect_trusted(mark: Checkpoint, trusted: TrustedKeys, what: str) -> None:
    try:
        mark.check(trusted)
    except SigningError:
        raise SigningError(
            f"{what} of event {mark.sequence} is not signed by a trusted key, it names "
            f"{mark.key_id or 'none'}: it was altered, or --public-key lacks that key"
        ) from None


def _flaw(record: Record, marks: list[Checkpoint], out: Console) -> str:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} events"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as bars:
        task = bars.add_task("chain", total=record.ledger.last_sequence())
        flaw = record.ledger.first_flaw(marks, progress=lambda done: bars.advance(task, done))
    return str(flaw or "")


def checkpoint_key() -> None:
    """Print the public key that this node signs checkpoints with; keep it elsewhere."""
    with open_files(Settings()) as state:
        print(f"{state.signer.line()} checkpoints {state.signer.id}")
