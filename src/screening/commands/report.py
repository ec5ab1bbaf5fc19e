"""`screening report`: a month of one country as a page and CSV files."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from screening.recording.reader import DecisionLog
from screening.report import figures, write_report
from screening.settings import Settings
from screening.state import open_files


def report(
    month: Annotated[str, typer.Option(help="Such as 2026-11, in UTC.")],
    jurisdiction: Annotated[str, typer.Option(help="Country of the called, ISO 3166-1.")],
    out: Annotated[Path, typer.Option(help="Folder of the page and the files.")],
) -> None:
    """Calls, verdicts, complaints, the ladder, appeals, false positives, lists; no number."""
    with open_files(Settings()) as state:
        tables = figures(
            state.record(),
            DecisionLog(state.folder),
            month=month,
            jurisdiction=jurisdiction,
            now=time.time(),
        )
    page = write_report(out, tables, month=month, jurisdiction=jurisdiction, made=datetime.now(UTC))
    Console(highlight=False).print(str(page))
