"""`screening index`: the projection of the record that calls are decided by."""

import contextlib
import secrets
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Final

import typer
from rich.console import Console

from consent.index import (
    SHARDS,
    IndexLost,
    IndexRefused,
    IndexStore,
    IndexUnavailable,
    name_epoch,
)
from consent.loading import dnc_generations, restore_lists
from consent.private import locked
from consent.projection import catch_up
from consent.rebuilding import Stage, reading, rebuild_beside, remove_left
from consent.record import Record
from screening.commands.progress import Stages, stages
from screening.settings import Settings
from screening.state import State, open_state

app = typer.Typer(no_args_is_help=True)

TRIES: Final = 5
AWAIT_SECONDS: Final = 60.0
"""A failover is over by then, or it is none."""


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
        with stages(out) as told:
            _rebuild(state, told, only_lost=if_lost)
        last = state.record().ledger.last_sequence()
        out.print(f"the index holds {_numbers(state):,} numbers of files and {last} events")


@app.command("tidy", hidden=True)
def tidy() -> None:
    """Remove what a rebuild that was killed has left beside the index in force."""
    # Who is still removing it holds the lock, and then there is nothing left.
    with open_state(Settings()) as state, locked(state.folder / "index"), state.index() as store:
        _remove_remains(state.record(), store)


def _remove_remains(record: Record, store: IndexStore) -> None:
    if remains := record.indexes.remains():
        store.attach(record.index_epoch())
        remove_left(record, store, remains)


def _rebuild(state: State, told: Stages, *, only_lost: bool) -> None:
    """Try so often that a failover, or two, need nobody. Raises IndexUnavailable after the last."""
    made = ""
    for left in range(TRIES - 1, -1, -1):
        old = state.record().index_epoch()
        try:
            with closing(IndexStore(state.redis_url)) as store:
                if made and made == old:
                    # It is in force, and the servers failed while the one before was removed.
                    told.begin(Stage.REMOVING)
                    _remove_remains(state.record(), store)
                    return
                made = name_epoch(secrets.token_hex(8), beside=old)
                lost = store.lost_shards(old) if only_lost else ()
                if 0 < len(lost) < SHARDS:
                    _rebuild_some(state, store, told, lost)
                else:
                    _rebuild_beside(state, store, told, made)
                return
        except IndexRefused:
            raise
        except IndexUnavailable as gone:
            if not left:
                raise IndexUnavailable(
                    f"{gone}; given up after {TRIES} tries, what is in force stays so: once the "
                    "servers are well, begin it again"
                ) from None
            told.note(f"{gone}; begun again when the servers answer, {left} more tries")
        _await_servers(state)


def _await_servers(state: State) -> None:
    """Wait until the servers answer, but not for longer than a failover may take."""
    deadline = time.monotonic() + AWAIT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(AWAIT_SECONDS / 60)
        with contextlib.suppress(IndexUnavailable), closing(IndexStore(state.redis_url)) as store:
            store.lost_shards("")
            return


def _rebuild_beside(state: State, store: IndexStore, told: Stages, epoch: str) -> None:
    record = state.record()
    totals = {
        Stage.MAKING: (_numbers(state), "numbers"),
        Stage.READING: (record.ledger.last_sequence(), "events"),
    }

    def begin(stage: Stage) -> None:
        total, unit = totals.get(stage, (0, ""))
        told.begin(stage, total=total, unit=unit)

    rebuild_beside(
        record,
        store,
        state.folder,
        epoch=epoch,
        progress=told.add,
        stage=begin,
    )


def _rebuild_some(state: State, store: IndexStore, told: Stages, lost: Sequence[int]) -> None:
    """No more than what an emptied node held: the others stay in use."""
    record = state.record()
    last = record.ledger.last_sequence()
    told.begin(Stage.MAKING, total=_numbers(state) * len(lost) // SHARDS, unit="numbers")
    store.rebuild(
        record.index_epoch(),
        generations=dnc_generations(record, state.folder),
        events=reading(
            record.ledger.events(),
            progress=told.add,
            stage=lambda stage: told.begin(stage, total=last, unit="events"),
        ),
        last_sequence=last,
        progress=told.add,
        shards=lost,
    )
    catch_up(record, store)


def _numbers(state: State) -> int:
    """Of the do-not-call lists in force."""
    return sum(
        each.active.loaded
        for each in state.record().catalogue.lists()
        if each.kind == "dnc" and each.active
    )
