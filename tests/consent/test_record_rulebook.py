"""The rulebook: what is in force is always the newest activation, and the way back is known."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consent.keyring import Keyring
from consent.record import BEFORE_THE_FIRST, FOLDER, Record, RecordError

A, B, C = (hashlib.sha256(content).hexdigest() for content in (b"a", b"b", b"c"))


@pytest.fixture
def instants() -> list[float]:
    return [1000.0]


@pytest.fixture
def record(record_url: str, tmp_path: Path, instants: list[float]) -> Iterator[Record]:
    record = Record.open(
        record_url,
        keyring=Keyring.load_or_create(tmp_path / "keyring.json"),
        clock=lambda: instants[-1],
    )
    for content in (b"a", b"b", b"c"):
        record.rulebook.push(content, sets=["default@1"], actor="author")
    yield record
    record.close()


def in_force(record: Record) -> str:
    return record.rulebook.active().digest


def roll_back(record: Record) -> str:
    return record.rulebook.rollback(record.rulebook.active(), actor="ops").digest


def test_push(record: Record, instants: list[float]) -> None:
    """A bundle is named by its content; nothing comes into force by keeping it."""
    instants.append(2000.5)
    kept = record.rulebook.push(
        b"new", sets=["cn@2", "us@3"], actor="me", note="why", signature=b"s", key_id="k"
    )
    assert kept.digest == hashlib.sha256(b"new").hexdigest()
    assert (kept.size_bytes, kept.sets, kept.author) == (3, ("cn@2", "us@3"), "me")
    assert (kept.created_at, kept.note, kept.signature, kept.key_id) == (2000.5, "why", b"s", "k")
    assert record.rulebook.content(kept.digest) == b"new"
    assert record.rulebook.bundles(1) == [kept]
    assert record.rulebook.active() == BEFORE_THE_FIRST
    (entry,) = record.audit.latest(1)
    assert (entry.actor, entry.action, entry.subject) == ("me", "rules.push", kept.digest)


def test_pushed_again(record: Record) -> None:
    """The same content is one bundle; a signature is added, and not taken off."""
    signed = record.rulebook.push(b"a", sets=["x@1"], actor="x", signature=b"s", key_id="k")
    assert (signed.author, signed.sets, signed.signature) == ("author", ("default@1",), b"s")
    again = record.rulebook.push(b"a", sets=["x@1"], actor="x")
    assert again == signed
    assert len(record.rulebook.bundles()) == 3


def test_find(record: Record) -> None:
    """By the beginning of the digest, as a person types it, when it names one."""
    assert record.rulebook.find(A[:4]).digest == A
    assert record.rulebook.find(A).digest == A
    for wrong, message in (
        (A[:3], "4 to 64 hexadecimal digits"),
        ("%%%%", "4 to 64 hexadecimal digits"),
        ("ffffffff", "no bundle has the revision"),
    ):
        with pytest.raises(RecordError, match=message):
            record.rulebook.find(wrong)


def test_a_beginning_that_two_share_names_neither(record: Record) -> None:
    """More digits are asked for."""
    seen: dict[str, bytes] = {}
    for number in range(10_000):  # two of 65,536 beginnings meet after some 300
        content = b"%d" % number
        start = hashlib.sha256(content).hexdigest()[:4]
        if start in seen:
            break
        seen[start] = content
    for each in (seen[start], content):
        record.rulebook.push(each, sets=[], actor="x")
    with pytest.raises(RecordError, match="more than one bundle begins"):
        record.rulebook.find(start)


def test_activate(record: Record, instants: list[float]) -> None:
    """In force from then on, with who, when and why, in the audit too."""
    record.rulebook.activate(A, actor="first")
    instants.append(3000.25)
    done = record.rulebook.activate(B, actor="ops", reason="noon", forced=True)
    assert record.rulebook.active() == done
    assert (done.sequence, done.digest, done.at) == (2, B, 3000.25)
    assert (done.actor, done.reason, done.forced) == ("ops", "noon", True)
    assert [each.digest for each in record.rulebook.activations()] == [B, A]
    (entry,) = record.audit.latest(1)
    assert (entry.actor, entry.action, entry.subject) == ("ops", "rules.activate", B)
    assert entry.detail == {"left": A, "reason": "noon", "forced": True}


def test_what_was_never_pushed_cannot_be_activated(record: Record) -> None:
    """And leaves what is in force."""
    record.rulebook.activate(A, actor="ops")
    with pytest.raises(RecordError, match="no bundle has the revision"):
        record.rulebook.activate("f" * 64, actor="ops")
    assert (in_force(record), len(record.rulebook.activations())) == (A, 1)


ROLLBACKS = {
    "each step goes one further back, to the folder at last": ([A, B, C], [B, A, FOLDER]),
    "the folder was a step": ([A, FOLDER, B], [FOLDER, A, FOLDER]),
    "the same again is no step": ([A, B, B, B], [A, FOLDER]),
    "one and back": ([A], [FOLDER]),
}


@pytest.mark.parametrize(("activated", "expected"), ROLLBACKS.values(), ids=ROLLBACKS)
def test_rollback(record: Record, activated: list[str], expected: list[str]) -> None:
    """Never to and fro; and at the end there is no way back."""
    for digest in activated:
        record.rulebook.activate(digest, actor="ops")
    assert [roll_back(record) for _ in expected] == expected
    with pytest.raises(RecordError, match="no way back"):
        roll_back(record)
    assert in_force(record) == expected[-1]


def test_a_new_activation_after_a_rollback_returns_to_where_that_led(record: Record) -> None:
    """What was rolled back from is not on the way."""
    for digest in (A, B):
        record.rulebook.activate(digest, actor="ops")
    assert roll_back(record) == A
    record.rulebook.activate(C, actor="ops")
    assert [roll_back(record), roll_back(record)] == [A, FOLDER]


def test_two_who_roll_back_at_once_go_one_step(record: Record) -> None:
    """Both saw C fail; the second is told, and what the first did stands."""
    for digest in (A, B, C):
        record.rulebook.activate(digest, actor="ops")
    seen = record.rulebook.active()

    def attempt(actor: str) -> str:
        try:
            return record.rulebook.rollback(seen, actor=actor).digest
        except RecordError as refused:
            return str(refused)

    with ThreadPoolExecutor() as people:
        outcomes = sorted(people.map(attempt, ("one", "two")))
    assert outcomes[0] != outcomes[1]
    assert B in outcomes
    assert any("meanwhile" in each for each in outcomes)
    assert in_force(record) == B
