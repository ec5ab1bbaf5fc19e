"""`screening wash`: a list of numbers, before it is dialled."""

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from consent.category import Category
from consent.record import RecordError
from screening.commands.actor import actor
from screening.logs import log_to_stderr
from screening.service import Service
from screening.settings import Settings
from screening.state import open_state
from screening.wash import MOST_NUMBERS, Washed, account, calling_of, counts_of, read_lines, wash


def wash_file(
    path: Annotated[Path, typer.Argument(help="A number a line, as text or JSON.")],
    entity: Annotated[str, typer.Option(help="Who would call.")],
    category: Annotated[Category, typer.Option(help="What for.")],
    calling: Annotated[str, typer.Option(help="From which of its numbers; else its first.")] = "",
    at: Annotated[str, typer.Option(help="When it would call, RFC 3339; else now.")] = "",
) -> None:
    """Say of each number whether a call of the entity would be refused; JSON lines.

    callable, consented, or refused with the cause; unknown while the index cannot be read. It is
    kept who washed how many. Exit code 1 where an answer is unknown.
    """
    try:
        instant = datetime.fromisoformat(at).timestamp() if at else time.time()
    except ValueError:
        raise typer.BadParameter(f"at {at!r}: expected such as 2026-11-24T10:00:00Z") from None
    log_to_stderr("ERROR")
    with path.open("rb") as file:
        found = asyncio.run(_wash(list(file), entity, category, calling, instant))
    for each in found:
        print(each.text().decode(), end="")
    counts = counts_of(found)
    said = ", ".join(f"{count:,} {answer}" for answer, count in counts.items())
    Console(stderr=True, highlight=False).print(said or "no numbers")
    if counts.get("unknown"):
        raise typer.Exit(1)


async def _wash(
    lines: list[bytes], entity: str, category: Category, calling: str, at: float
) -> list[Washed]:
    settings = Settings()
    found: list[Washed] = []
    with open_state(settings) as state:
        try:
            _, number = calling_of(state.record(), entity, calling, region=settings.region)
        except RecordError as refused:
            raise typer.BadParameter(str(refused)) from None
        service = Service(state)
        await service.take_in()
        try:
            for first in range(0, len(lines), MOST_NUMBERS):
                numbers = read_lines(b"".join(lines[first : first + MOST_NUMBERS]))
                some = await wash(
                    service.screener,
                    numbers,
                    calling=number,
                    category=category,
                    region=settings.region,
                    at=at,
                )
                caught = service.honey.among(numbers)
                account(state, actor(), entity, category, counts_of(some), caught)
                found += some
        finally:
            await service.stop()
    return found
