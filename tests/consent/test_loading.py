"""Do-not-call lists longer than memory holds: loaded in parts, and still whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.servers import client_of

from consent.category import BIT
from consent.index import BLOCK, IndexStore, layout, name_epoch
from consent.keyring import Keyring
from consent.listing import Form, gather
from consent.loading import (
    ChangeOutcome,
    LoadError,
    LoadOutcome,
    change_list,
    dnc_generations,
    load_list,
    rollback_list,
)
from consent.record import ListKind, Record

FIRST = 447700900000 // BLOCK * BLOCK
HELD = 1000
ALL = BIT["all"]


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "HELD", HELD)
    monkeypatch.setattr(gather, "SAMPLED", 16)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    keyring = Keyring.load_or_create(tmp_path / "keyring.json")
    record = Record.open(str(tmp_path / "record.db"), keyring=keyring)
    yield record
    record.close()


@pytest.fixture
def store(index_url: str) -> Iterator[IndexStore]:
    store = IndexStore(index_url)
    store.create(name_epoch("9f3a6c"))
    yield store
    store.close()


def a_list(path: Path, *, seed: int) -> int:
    """Ten blocks of numbers, each listed with a chance of its own, in no order; how many."""
    rng = np.random.default_rng(seed)
    chances = rng.permutation(np.geomspace(0.0005, 0.2, 10)).repeat(BLOCK)
    numbers = rng.permutation(np.flatnonzero(rng.random(10 * BLOCK) < chances) + FIRST)
    path.write_text("".join(f"+{number}\n" for number in numbers.tolist()))
    return len(numbers)


def load(record: Record, store: IndexStore, path: Path, **words: Any) -> LoadOutcome:
    return load_list(
        record, store, path.parent, name="tps", path=path, kind=ListKind.DNC,
        form=Form("numbers", region="GB", called=True), category="all", actor="ops", force=True,
        **words,
    )  # fmt: skip


def keys(client: Any) -> set[bytes]:
    return set(client.scan_iter(count=1000))


def test_a_long_list_is_whole(record: Record, store: IndexStore, tmp_path: Path) -> None:
    """Every number is loaded, rolled back to, and rebuilt, though no array ever had them all."""
    counts = []
    for seed in (1, 2):
        count = a_list(tmp_path / "list", seed=seed)
        told: list[tuple[int, int]] = []
        outcome = load(
            record, store, tmp_path / "list", progress=lambda *words, told=told: told.append(words)
        )
        assert (outcome.loaded, outcome.duplicates, outcome.rejected) == (count, 0, 0)
        assert told[-1][0] == told[-1][1]
        assert store.count_generation(1, seed) == {ALL: (count, count)}
        counts.append(count)
    assert rollback_list(record, store, tmp_path, name="tps", actor="ops") == 1
    parts = list(dnc_generations(record, tmp_path))
    assert len(parts) >= 5
    assert sum(len(numbers) for *_, numbers in parts) == counts[0]
    store.rebuild(name_epoch("new"), generations=parts, events=[], last_sequence=0)
    assert store.count_generation(1, 1) == {ALL: (counts[0], counts[0])}


def test_a_loader_that_dies_while_it_writes(
    record: Record, store: IndexStore, index_url: str, tmp_path: Path
) -> None:
    """At whatever part it ends, the list before stays in force, and no key of the new remains."""
    count = a_list(tmp_path / "list", seed=1)
    load(record, store, tmp_path / "list")
    a_list(tmp_path / "list", seed=2)
    with contextlib.closing(client_of(index_url)) as client:
        before = keys(client)
        for share in (0.67, 0.8, 0.99):

            def die(done: int, total: int, share: float = share) -> None:
                if done > share * total:
                    raise InterruptedError

            with pytest.raises(InterruptedError):
                load(record, store, tmp_path / "list", progress=die)
            assert keys(client) == before
        assert client.hget(layout.SIDES[0].stamp_key(0), "l1").startswith(b"1:")
    (listed,) = record.catalogue.lists()
    assert listed.active is not None
    assert (listed.active.generation, listed.active.loaded) == (1, count)
    load(record, store, tmp_path / "list")


def change(record: Record, store: IndexStore, path: Path, **words: Any) -> ChangeOutcome:
    return change_list(record, store, path.parent, name="tps", path=path, actor="ops", **words)


def test_changes_to_a_long_list(record: Record, store: IndexStore, tmp_path: Path) -> None:
    """They make a generation that is rolled back from and rebuilt; again, they change nothing."""
    count = a_list(tmp_path / "list", seed=1)
    load(record, store, tmp_path / "list")
    listed = (tmp_path / "list").read_text().split()
    for day in (1, 2):
        gone = listed[day * 100 : day * 100 + 50]
        fresh = [f"+{FIRST + 11 * BLOCK + day * 1000 + each}" for each in range(20)]
        lines = [f"{each},2026-11-2{day},D" for each in gone]
        lines += [f"{each},2026-11-2{day},A" for each in fresh]
        (tmp_path / f"day{day}").write_text("\n".join(lines))
        outcome = change(record, store, tmp_path / f"day{day}")
        count += 20 - 50
        assert (outcome.generation, outcome.loaded) == (1 + day, count)
        assert (outcome.added, outcome.removed, outcome.rejected) == (20, 50, 0)
        assert store.count_generation(1, 1 + day) == {ALL: (count, count)}
    for day in (1, 2):
        assert change(record, store, tmp_path / f"day{day}").already
    parts = list(dnc_generations(record, tmp_path))
    assert sum(len(numbers) for *_, numbers in parts) == count
    assert rollback_list(record, store, tmp_path, name="tps", actor="ops") == 2
    store.rebuild(name_epoch("new"), generations=parts[:1], events=[], last_sequence=0)
    assert sum(len(each) for *_, each in dnc_generations(record, tmp_path)) == count + 30


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        pytest.param(2000, "2000 numbers added and 0 removed of .*--force", id="too many"),
        pytest.param(0, "none is a change", id="none"),
    ],
)
def test_changes_that_are_held(
    record: Record, store: IndexStore, tmp_path: Path, lines: int, words: str
) -> None:
    """More than a hundredth a day waits for someone to confirm it; nothing has changed."""
    a_list(tmp_path / "list", seed=1)
    load(record, store, tmp_path / "list")
    fresh = range(FIRST + 11 * BLOCK, FIRST + 11 * BLOCK + lines)
    (tmp_path / "day").write_text("\n".join(f"+{each},2026-11-21,A" for each in fresh))
    with pytest.raises(LoadError, match=words):
        change(record, store, tmp_path / "day")
    (info,) = record.catalogue.lists()
    assert info.active is not None
    assert info.active.generation == 1
    if lines:
        assert change(record, store, tmp_path / "day", force=True).added == lines


def test_changes_need_a_list(record: Record, store: IndexStore, tmp_path: Path) -> None:
    """Without a full list there is nothing to change."""
    (tmp_path / "day").write_text("+447700900001,2026-11-21,A\n")
    with pytest.raises(LoadError, match="no do-not-call list in force"):
        change(record, store, tmp_path / "day")
