"""`screening index`: the projection of the record that calls are decided by."""

import secrets
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from consent.index import SHARDS, IndexLost, IndexStore, name_epoch
from consent.loading import dnc_generations, restore_lists
from consent.private import locked
from consent.projection import catch_up
from consent.rebuilding import Stage, rebuild_beside
from screening.settings import Settings
from screening.state import State, open_state

app = typer.Typer(no_args_is_help=True)


@app.command("status")
def status() -> None:
    """Whether the index is the record's, and how far it has come; exit 1 when it is lost."""
    out = Console(highlight=False, soft_wrap=True)
    with open_state(Settings()) as state:
        last = state.record().ledger.last_sequence()
        _show_nodes(state, out)
        with state.index() as store:
            _show_lists(state, store, out, last)


def _show_nodes(state: State, out: Console) -> None:
    store = IndexStore(state.redis_url)
    try:
        for node in store.nodes(state.record().index_epoch()):
            lost = f"  [red]{node.lost} lost[/red]" if node.lost else ""
            out.print(
                f"node {node.name}: {node.version}, {node.shards} of {SHARDS} shards,"
                f" {node.replicas} replicas, {node.used_bytes >> 20} MiB,"
                f" applied {node.applied}{lost}"
            )
    finally:
        store.close()


def _show_lists(state: State, store: IndexStore, out: Console, last: int) -> None:
    out.print(f"epoch {store.epoch()}, applied {store.applied()} of {last} events")
    for each in state.record().catalogue.lists():
        if each.kind == "dnc" and each.active:
            counts = store.count_generation(each.id, each.active.generation)
            held = sum(found for _, found in counts.values())
            mark = "" if held == each.active.loaded else "  [red]differs from the record[/red]"
            out.print(f"{each.name} generation {each.active.generation}: {held} numbers{mark}")


@app.command("rebuild")
def rebuild(
    if_lost: Annotated[
        bool, typer.Option("--if-lost", help="Only when the server does not hold the index.")
    ] = False,
) -> None:
    """Make the index again from the list files and the ledger, beside the one that calls use."""
    out = Console(highlight=False)
    # One at a time: what one has begun looks lost to the service, which then begins another.
    with open_state(Settings()) as state, locked(state.folder / "index"):
        if if_lost:
            try:
                with state.index() as store:
                    catch_up(state.record(), store)
                    restore_lists(state.record(), store, state.folder)
            except IndexLost:
                pass
            else:
                out.print("the index is whole")
                return
        _rebuild(state, out, only_lost=if_lost)


def _rebuild(state: State, out: Console, *, only_lost: bool) -> None:
    """With `only_lost` no more than what an emptied node held: the others stay in use."""
    record = state.record()
    expected = sum(
        each.active.loaded
        for each in record.catalogue.lists()
        if each.kind == "dnc" and each.active
    )
    store = IndexStore(state.redis_url)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} numbers"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=out) as bars:
            old = record.index_epoch()
            lost = store.lost_shards(old)
            some = only_lost and 0 < len(lost) < SHARDS
            task = bars.add_task(
                Stage.MAKING, total=max(1, expected * len(lost) // SHARDS if some else expected)
            )
            if some:
                last = record.ledger.last_sequence()
                store.rebuild(
                    old,
                    generations=dnc_generations(record, state.folder),
                    events=record.ledger.events(),
                    last_sequence=last,
                    progress=lambda numbers: bars.advance(task, numbers),
                    shards=lost,
                )
                catch_up(record, store)
            else:
                last = rebuild_beside(
                    record,
                    store,
                    state.folder,
                    epoch=name_epoch(secrets.token_hex(8), beside=old),
                    progress=lambda numbers: bars.advance(task, numbers),
                    stage=lambda stage: bars.update(task, description=stage),
                )
    finally:
        store.close()
    out.print(f"the index holds {expected:,} numbers of files and {last} events")
