"""`screening index verify`: whether calls are decided by what the record says."""

import asyncio
import random
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from consent.comparison import AT_ONCE, Difference, compare, sample
from consent.index import IndexReader, IndexStore, Question
from consent.loading import dnc_generations
from consent.record import ListKind, Record
from screening.settings import Settings
from screening.state import State, open_state

MOST_SHOWN = 100
ANSWER_SECONDS = 5.0


def verify(
    numbers: Annotated[
        int, typer.Option("--sample", min=1, help="How many numbers of each kind are drawn.")
    ] = 1000,
    lists: Annotated[
        bool,
        typer.Option(help="Also the do-not-call lists, whose files are read again for it."),
    ] = True,
) -> None:
    """Compare what is drawn from ledger, index and list files; exit 1 where something differs.

    What differs is told by tokens. Calls and writes run on.
    """
    out = Console(highlight=False, soft_wrap=True)
    with open_state(Settings()) as state, state.index() as store:
        found = list(_of_ledger(state, store, numbers, out))
        if lists:
            found += asyncio.run(_of_lists(state, numbers, out))
            found += _counts(state.record(), store)
        for each in found[:MOST_SHOWN]:
            who = state.keyring.token(each.called) if each.called else "all numbers"
            out.print(f"[red]differs:[/red] {who}: {each.what}")
    if found:
        out.print(f"{len(found):,} differences: `screening index rebuild` makes the index anew")
        raise typer.Exit(1)
    out.print("the index says what the record says")


def _bars(out: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} numbers"),
        TimeRemainingColumn(),
        console=out,
    )


def _of_ledger(state: State, store: IndexStore, numbers: int, out: Console) -> Iterator[Difference]:
    record = state.record()
    drawn = sample(record, store, numbers)
    with _bars(out) as bars:
        task = bars.add_task("ledger", total=len(drawn))
        for first in range(0, len(drawn), AT_ONCE):
            some = drawn[first : first + AT_ONCE]
            yield from compare(record, store, some)
            bars.advance(task, len(some))


async def _of_lists(state: State, numbers: int, out: Console) -> list[Difference]:
    """Numbers that a list names, and their neighbours that it does not, asked as a call asks."""
    record = state.record()
    names = {each.id: each.name for each in record.catalogue.lists()}
    total = sum(
        each.active.loaded
        for each in record.catalogue.lists()
        if each.kind is ListKind.DNC and each.active
    )
    found: list[Difference] = []
    reader = IndexReader(state.redis_url, epoch=record.index_epoch())
    await reader.start()
    try:
        with _bars(out) as bars:
            task = bars.add_task("lists", total=total)
            for list_id, generation, bit, part in dnc_generations(record, state.folder):
                # Long lists come in parts, each with its share of what is drawn.
                share = min(len(part), max(1, numbers * len(part) // max(1, total)))
                drawn = part[random.sample(range(len(part)), share)]
                beside = drawn + np.uint64(1)
                beside = beside[~np.isin(beside, part)]
                for values, expected in ((drawn, True), (beside, False)):
                    for called in values.tolist():
                        question = Question(
                            called, categories=(bit,), lists=((list_id, generation),)
                        )
                        says = await _is_listed(reader, question)
                        if says is not expected:
                            what = {None: "not known", True: "listed", False: "not listed"}[says]
                            found.append(
                                Difference(
                                    called,
                                    f"{names[list_id]} generation {generation}: {what}, expected "
                                    + ("listed" if expected else "not listed"),
                                )
                            )
                bars.advance(task, len(part))
    finally:
        await reader.close()
    return found


async def _is_listed(reader: IndexReader, question: Question) -> bool | None:
    deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
    facts = await reader.facts(question, deadline=deadline)
    return bool(facts.listed) if facts.known else None


def _counts(record: Record, store: IndexStore) -> Iterator[Difference]:
    for each in record.catalogue.lists():
        if each.kind is ListKind.DNC and each.active is not None:
            counts = store.count_generation(each.id, each.active.generation)
            held = sum(found for _, found in counts.values())
            if held != each.active.loaded:
                yield Difference(
                    0,
                    f"{each.name} generation {each.active.generation} has {held:,} numbers, "
                    f"expected {each.active.loaded:,}",
                )
