"""Lists from a file into force: whole or not at all.

A load keeps the original, reads it, writes what it says beside what is in force, has it counted
back, and then lets the record switch. Whoever dies on the way leaves the list as it was; what was
half written is cleared by the next load of the list.
"""

import contextlib
import errno
import fcntl
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consent.calling import (
    CallingList,
    CallingSideError,
    Exceptions,
    Numbers,
    save_entities,
    save_exceptions,
    save_numbers,
    write_calling,
)
from consent.category import BIT
from consent.durable import written_whole
from consent.entity import Entity
from consent.index import BLOCK, IndexLost, IndexStore
from consent.listing import Form, Listing, ListingError, Rejected, Values, open_source, read_listing
from consent.listing.changes import Changes, read_changes
from consent.listing.checksum import published, verify
from consent.listing.gather import Gathered, Gathering
from consent.originals import OriginalError, Originals
from consent.record import Generation, GenerationState, ListInfo, ListKind, Record

__all__ = [
    "ChangeOutcome",
    "LoadError",
    "LoadOutcome",
    "change_list",
    "dnc_generations",
    "load_list",
    "prepare_callers",
    "prepare_calling",
    "restore_lists",
    "rollback_list",
]

ORIGINALS: Final = "originals"
REJECTED: Final = "rejected"
SHRINK_LIMIT: Final = 0.2
"""A new generation with fewer than 1 - this of the entries before is taken for a broken file."""

CHANGE_LIMIT: Final = 0.01
"""Changes a day, of the entries before, that are taken without asking. The largest day known of
is the UK's 21 May 2018 with 0.6 %."""

DELTA: Final = "delta"
"""The format of a generation that is changes to another, whose number follows a colon."""

MOST_REJECTED_KEPT: Final = 100_000
"""Rejected lines written out; beyond that a file is no list, and they are only counted."""

Progress = Callable[[int, int], None]
"""Told the bytes done so far and in all: a third each to keep, to read and to write a list."""


class LoadError(Exception):
    """A list was not loaded, and nothing has changed; the message says why."""


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What a load came to; `already` says that this very file was in force before."""

    generation: int
    loaded: int
    duplicates: int
    rejected: int
    rejected_path: Path | None
    already: bool = False


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """What changes came to; `already` says that this very file is part of the list in force."""

    generation: int
    loaded: int
    added: int
    removed: int
    rejected: int
    rejected_path: Path | None
    already: bool = False


def load_list(
    record: Record,
    store: IndexStore,
    folder: Path,
    *,
    name: str,
    path: Path,
    kind: ListKind,
    form: Form,
    category: str,
    actor: str,
    force: bool = False,
    checksum: Path | None = None,
    progress: Progress | None = None,
) -> LoadOutcome:
    """Bring the list in `path` into force as the next generation of `name`.

    It must have the digest that the file `checksum` says, or one that lies beside it.
    Raises LoadError, RecordError for words that are none, RecordUnavailable and
    IndexUnavailable; the list is then as it was.
    """
    with _alone(folder, name):
        before = _active(record, name)
        try:
            _expect_checksum(path, checksum)
            with open_source(path) as source:
                total = os.stat(path).st_size  # noqa: PTH116 - a Path is not always a file's
                kept = Originals(folder / ORIGINALS).keep(
                    source, progress=_third(progress, 0, total, done=lambda: source.done)
                )
            written_as = f"{form.format}:{form.column}" if form.column else form.format
            if before and (before.sha256, before.format) == (kept.sha256, written_as):
                return LoadOutcome(
                    before.generation, before.loaded, before.duplicates, before.rejected, None,
                    already=True,
                )  # fmt: skip
            listing, rejected_path = _read(
                folder, name, form, kept.sha256, _third(progress, 1, kept.size_bytes)
            )
        except (ListingError, OriginalError) as refused:
            raise LoadError(str(refused)) from None
        _guard(name, listing, before, rejected=rejected_path, force=force)
        began = record.catalogue.begin(
            name,
            kind=kind,
            format=written_as,
            source=path.name,
            sha256=kept.sha256,
            size_bytes=kept.size_bytes,
            actor=actor,
            region=form.region,
            category=category,
        )
        try:
            _write(
                record, store, folder, kind=kind, began=began, listing=listing,
                progress=_third(progress, 2, listing.loaded),
            )  # fmt: skip
            record.catalogue.activate(
                began,
                loaded=listing.loaded,
                duplicates=listing.duplicates,
                rejected=listing.rejected,
                checksum=listing.checksum(),
                actor=actor,
            )
        except BaseException as failed:
            with contextlib.suppress(Exception):
                record.catalogue.fail(began, reason=type(failed).__name__, actor=actor)
            with contextlib.suppress(Exception):
                if kind is ListKind.DNC:
                    store.retire_generation(began.list_id, began.generation)
                else:
                    prepare_calling(record, folder)
            raise
        if kind is ListKind.DNC:
            _clear(record, store, name)
        _forget_rejected(folder, name, rejected_path)
        return LoadOutcome(
            began.generation, listing.loaded, listing.duplicates, listing.rejected, rejected_path
        )


def change_list(
    record: Record,
    store: IndexStore,
    folder: Path,
    *,
    name: str,
    path: Path,
    actor: str,
    force: bool = False,
    checksum: Path | None = None,
    progress: Progress | None = None,
) -> ChangeOutcome:
    """Bring the do-not-call list `name`, changed as the file in `path` says, into force.

    What is in force stays until all is written, and can be rolled back to. Changes beyond
    `CHANGE_LIMIT` a day since the last are refused unless forced. Raises as `load_list` does.
    """
    with _alone(folder, name):
        info = next((each for each in record.catalogue.lists() if each.name == name), None)
        if info is None or info.active is None or info.kind is not ListKind.DNC:
            raise LoadError(f"list {name!r} is no do-not-call list in force: changes need one")
        before = info.active
        try:
            _expect_checksum(path, checksum)
            with open_source(path) as source:
                total = os.stat(path).st_size  # noqa: PTH116 - a Path is not always a file's
                kept = Originals(folder / ORIGINALS).keep(
                    source, progress=_third(progress, 0, total, done=lambda: source.done)
                )
            full, deltas = _chain(record, before)
            if any(each.sha256 == kept.sha256 for each in deltas):
                return ChangeOutcome(before.generation, before.loaded, 0, 0, 0, None, already=True)
            rejected: list[Rejected] = []
            changes = _changes(folder, info, full, kept.sha256, reject=rejected)
            rejected_path = _write_rejected(folder, name, rejected)
            applied = changes.applied(
                _gathered_of(record, folder, info, before), Gathering(folder / ORIGINALS)
            )
        except (ListingError, OriginalError) as refused:
            raise LoadError(str(refused)) from None
        allowed = CHANGE_LIMIT * max(1.0, (info.age_s or 0) / 86_400)
        if not force and applied.added + applied.removed > allowed * before.loaded:
            raise LoadError(
                f"list {name!r}: {applied.added} numbers added and {applied.removed} removed of "
                f"{before.loaded}, expected {allowed:.1%} at most: held until --force confirms it"
            )
        began = record.catalogue.begin(
            name, kind=info.kind, format=f"{DELTA}:{before.generation}", source=path.name,
            sha256=kept.sha256, size_bytes=kept.size_bytes, actor=actor, region=info.region,
            category=info.category,
        )  # fmt: skip
        gathered = applied.gathered
        try:
            _write_called(
                store, began, BIT[info.category], gathered,
                progress=_third(progress, 2, gathered.count),
            )  # fmt: skip
            _write_beside(record, store, began, BIT[info.category], gathered)
            record.catalogue.activate(
                began, loaded=gathered.count, duplicates=0, rejected=changes.rejected,
                checksum=gathered.sha256.hexdigest(), actor=actor,
            )  # fmt: skip
        except BaseException as failed:
            with contextlib.suppress(Exception):
                record.catalogue.fail(began, reason=type(failed).__name__, actor=actor)
            with contextlib.suppress(Exception):
                store.retire_generation(began.list_id, began.generation)
            raise
        _clear(record, store, name)
        _forget_rejected(folder, name, rejected_path)
        return ChangeOutcome(
            began.generation, gathered.count, applied.added, applied.removed, changes.rejected,
            rejected_path,
        )  # fmt: skip


def rollback_list(record: Record, store: IndexStore, folder: Path, *, name: str, actor: str) -> int:
    """Bring the generation before the one in force back; the answer is its number.

    Raises RecordError where there is none, LoadError where its original is gone.
    """
    with _alone(folder, name):
        info = next((each for each in record.catalogue.lists() if each.name == name), None)
        if info is not None and info.kind is ListKind.DNC:
            _ensure_earlier_readable(record, store, folder, info)
        back = record.catalogue.rollback(name, actor=actor)
        if info is not None and info.kind is not ListKind.DNC:
            prepare_calling(record, folder)
        return back.generation


def dnc_generations(record: Record, folder: Path) -> Iterator[tuple[int, int, int, Values]]:
    """List, generation, category bit and numbers of every do-not-call list in force.

    What a rebuild of the index is made of; a long list comes in parts. Raises LoadError where
    an original is gone.
    """
    for each in record.catalogue.lists():
        if each.kind is ListKind.DNC and each.active is not None:
            for numbers in _gathered_of(record, folder, each, each.active).parts(align=BLOCK):
                yield each.id, each.active.generation, BIT[each.category], numbers


def restore_lists(record: Record, store: IndexStore, folder: Path) -> list[tuple[int, int]]:
    """Write the do-not-call lists in force that the index lacks; the answer is those in force.

    A primary may be lost before its replica has heard that a list was switched, and a list may
    have changed while an index was being made. Raises LoadError where an original is gone, and
    IndexUnavailable.
    """
    found = []
    for each in record.catalogue.lists():
        if each.kind is ListKind.DNC and each.active is not None:
            _ensure_readable(record, store, folder, each, each.active)
            found.append((each.id, each.active.generation))
    return found


def prepare_calling(record: Record, folder: Path, *, also: CallingList | None = None) -> None:
    """Write the calling-side file and the copy of the registry anew from the record.

    `also` is a generation about to be activated; it stands for the one of its list in force.
    Raises LoadError, RecordUnavailable, and OSError where the folder cannot be written.
    """
    lists = [
        CallingList(each.name, each.active.generation, each.kind, listing.numbers, listing.ranges)
        for each in record.catalogue.lists()
        if each.kind is not ListKind.DNC and each.active and not (also and also.name == each.name)
        for listing in (_numbers_of(folder, each, each.active),)
    ]
    try:
        write_calling(folder, lists + ([also] if also else []))
    except CallingSideError as refused:
        raise LoadError(str(refused)) from None
    prepare_callers(record, folder)


def prepare_callers(record: Record, folder: Path) -> tuple[list[Entity], Numbers, Exceptions]:
    """Copy the registry, the numbers on the ladder and the exceptions beside the lists, for a
    start without the record."""
    entities, numbers = record.entities.all(), record.steps.numbers()
    exceptions = record.exceptions.in_force()
    save_entities(folder, entities)
    save_numbers(folder, numbers)
    save_exceptions(folder, exceptions)
    return entities, numbers, exceptions


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """One loader a list at a time; a second one is told instead of waiting."""
    (folder / ORIGINALS).mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / ORIGINALS / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except OSError as busy:
        if busy.errno in (errno.EAGAIN, errno.EACCES):
            raise LoadError(f"list {name!r} is being loaded by another process") from None
        raise
    finally:
        os.close(descriptor)


def _active(record: Record, name: str) -> Generation | None:
    return next((each.active for each in record.catalogue.lists() if each.name == name), None)


def _third(
    progress: Progress | None, before: int, total: int, *, done: Callable[[], int] | None = None
) -> Callable[[int], None] | None:
    """Progress of one of the three passes, as a third of all; `done` tells it better if given."""
    if progress is None:
        return None
    told = progress

    def report(position: int) -> None:
        told(before * total + (done() if done else position), 3 * total)

    return report


def _read(
    folder: Path, name: str, form: Form, sha256: str, progress: Callable[..., None] | None
) -> tuple[Listing, Path | None]:
    """The listing of an original, and the file of the lines that were rejected."""
    rejected: list[Rejected] = []

    def keep(each: Rejected) -> None:
        if len(rejected) < MOST_REJECTED_KEPT:
            rejected.append(each)

    with Originals(folder / ORIGINALS).open(sha256) as source:
        listing = read_listing(
            source, form, spill=folder / ORIGINALS, reject=keep, progress=progress
        )
    return listing, _write_rejected(folder, name, rejected)


def _write_rejected(folder: Path, name: str, rejected: list[Rejected]) -> Path | None:
    """The file of rejected lines, none where all were understood."""
    path = folder / REJECTED / f"{name}.txt"
    if not rejected:
        return None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with written_whole(path) as file:
        for each in sorted(rejected):
            file.write(f"line {each.line}: {each.reason.value}: {each.text}\n".encode())
    return path


def _forget_rejected(folder: Path, name: str, written: Path | None) -> None:
    """What was rejected of the load before is kept until one without any is in force."""
    if written is None:
        (folder / REJECTED / f"{name}.txt").unlink(missing_ok=True)


def _expect_checksum(path: Path, checksum: Path | None) -> None:
    said = published(path, checksum)
    if said is not None:
        verify(path, said)


def _guard(
    name: str,
    listing: Listing,
    before: Generation | None,
    *,
    rejected: Path | None,
    force: bool,
) -> None:
    if not listing.loaded:
        raise LoadError(
            f"list {name!r}: the file is empty: of {listing.lines} lines none could be loaded"
            + (f"; {listing.rejected} were rejected, see {rejected}" if rejected else "")
        )
    if before and not force and listing.loaded < before.loaded * (1 - SHRINK_LIMIT):
        raise LoadError(
            f"list {name!r}: {listing.loaded} entries where generation {before.generation} has "
            f"{before.loaded}, expected {SHRINK_LIMIT:.0%} fewer at most: --force loads it"
        )


def _write(
    record: Record,
    store: IndexStore,
    folder: Path,
    *,
    kind: ListKind,
    began: Generation,
    listing: Listing,
    progress: Callable[[int], None] | None,
) -> None:
    """Write a generation beside what is in force, readable and counted back."""
    if kind is ListKind.DNC:
        info = next(each for each in record.catalogue.lists() if each.id == began.list_id)
        bit = BIT[info.category]
        _write_called(store, began, bit, listing.gathered, progress=progress)
        _write_beside(record, store, began, bit, listing.gathered)
    else:
        prepare_calling(
            record,
            folder,
            also=CallingList(
                began.list_name, began.generation, kind, listing.numbers, listing.ranges
            ),
        )


def _write_called(
    store: IndexStore,
    generation: Generation,
    bit: int,
    gathered: Gathered,
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Make a do-not-call generation readable; `progress` is told the numbers written so far."""
    written = 0

    def report(more: int) -> None:
        nonlocal written
        written += more
        if progress:
            progress(written)

    # A number that was used before and half written is cleared by this.
    store.retire_generation(generation.list_id, generation.generation)
    for numbers in gathered.parts(align=BLOCK):
        store.write_generation(
            generation.list_id, generation.generation, bit, numbers, progress=report
        )
    store.publish_generation(generation.list_id, generation.generation)


def _write_beside(
    record: Record, store: IndexStore, generation: Generation, bit: int, gathered: Gathered
) -> None:
    """The same in an index that is about to come into force, or has since the loader began.

    One that comes into force right after this look has it written by who made it, or the keeper.
    """
    epochs = record.indexes.epochs()
    for epoch in {epochs.in_force, epochs.coming} - {store.attached, ""}:
        with contextlib.suppress(IndexLost), store.beside(epoch) as other:
            _write_called(other, generation, bit, gathered)


def _clear(record: Record, store: IndexStore, name: str) -> None:
    """Delete from the index what no rollback can reach: all but the newest two that served."""
    held = {GenerationState.ACTIVE, GenerationState.REPLACED}
    served = [each for each in record.catalogue.generations(name) if each.state in held]
    keep = {each.generation for each in served[:2]}
    # Those long gone have nothing left to delete; the last few may.
    for each in record.catalogue.generations(name)[:8]:
        if each.generation not in keep:
            store.retire_generation(each.list_id, each.generation)


def _ensure_earlier_readable(
    record: Record, store: IndexStore, folder: Path, info: ListInfo
) -> None:
    """Write the generation that a rollback would bring back, where a rebuild left it out."""
    for each in record.catalogue.generations(info.name):
        if each.state is GenerationState.REPLACED:
            _ensure_readable(record, store, folder, info, each)
            return


def _ensure_readable(
    record: Record, store: IndexStore, folder: Path, info: ListInfo, generation: Generation
) -> None:
    if store.unreadable([(info.id, generation.generation)]):
        gathered = _gathered_of(record, folder, info, generation)
        _write_called(store, generation, BIT[info.category], gathered)


def _chain(record: Record, generation: Generation) -> tuple[Generation, list[Generation]]:
    """The full list that a generation goes back to, and the changes since then, oldest first."""
    deltas: list[Generation] = []
    if generation.format.startswith(DELTA):
        known = {
            each.generation: each for each in record.catalogue.generations(generation.list_name)
        }
        while generation.format.startswith(DELTA):
            deltas.insert(0, generation)
            generation = known[int(generation.format.partition(":")[2])]
    return generation, deltas


def _changes(
    folder: Path, info: ListInfo, full: Generation, sha256: str, *, reject: list[Rejected]
) -> Changes:
    """The changes that an original has, read as the full list is."""

    def keep(each: Rejected) -> None:
        if len(reject) < MOST_REJECTED_KEPT:
            reject.append(each)

    form = Form(full.format.partition(":")[0], region=info.region, called=True)
    with Originals(folder / ORIGINALS).open(sha256) as source:
        return read_changes(source, form, reject=keep)


def _gathered_of(record: Record, folder: Path, info: ListInfo, generation: Generation) -> Gathered:
    """The numbers of a do-not-call generation, from the originals of its full list and changes."""
    full, deltas = _chain(record, generation)
    gathered = _numbers_of(folder, info, full).gathered
    if not deltas:
        return gathered
    try:
        every = [_changes(folder, info, full, each.sha256, reject=[]) for each in deltas]
    except (ListingError, OriginalError) as gone:
        raise LoadError(f"list {info.name!r} generation {generation.generation}: {gone}") from None
    net = functools.reduce(Changes.then, every)
    gathered = net.applied(gathered, Gathering(folder / ORIGINALS)).gathered
    if gathered.sha256.hexdigest() != generation.checksum:
        raise LoadError(
            f"list {info.name!r} generation {generation.generation}: its originals read "
            "differently than when it was loaded"
        )
    return gathered


def _numbers_of(folder: Path, info: ListInfo, generation: Generation) -> Listing:
    """What a generation says, read from its original again."""
    written_as, _, column = generation.format.partition(":")
    try:
        form = Form(written_as, region=info.region, called=info.kind is ListKind.DNC, column=column)
        with Originals(folder / ORIGINALS).open(generation.sha256) as source:
            listing = read_listing(source, form, spill=folder / ORIGINALS)
    except (ListingError, OriginalError) as gone:
        raise LoadError(f"list {info.name!r} generation {generation.generation}: {gone}") from None
    if listing.checksum() != generation.checksum:
        raise LoadError(
            f"list {info.name!r} generation {generation.generation}: its original reads "
            "differently than when it was loaded"
        )
    return listing
