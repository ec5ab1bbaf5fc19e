"""The chain of the ledger: each event's hash covers the event and the hash before it.

It covers the sealed body, so that destroying a subject's key leaves it whole. It shows what was
altered, taken out or moved by whoever does not make it anew from there to its end; a checkpoint,
signed and kept elsewhere, shows that as well, and a tail that was cut.

One chain holds all of a ledger: its writers take turns at the database's counter of events, so
that events of two writers cannot change places unseen either.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NamedTuple, Protocol, Self

from consent.signing import Signed, SigningKey, TrustedKeys

LEDGER: Final = "ledger"
"""The setting that names the ledger, so that the chain of one cannot stand in for another's."""

ID_BYTES: Final = 16

LOOK_AHEAD: Final = 1000
"""How far an event that is not in its place is looked for."""


class Link(Protocol):
    """What a chain is made of: each one's hash covers the hash before it."""

    @property
    def sequence(self) -> int: ...
    @property
    def hash(self) -> bytes: ...

    def after(self, before: bytes, sequence: int) -> bytes:
        """The hash that it would have at `sequence`, after the one with the hash `before`."""


class Entry(NamedTuple):
    """A row of the table of events; instants are microseconds, `entity_id` None for no entity."""

    sequence: int
    at_us: int
    recorded_us: int
    kind: str
    subject_id: bytes
    entity_id: int | None
    body: bytes
    actor: str
    hash: bytes = b""

    def after(self, before: bytes, sequence: int) -> bytes:
        """See `Link`."""
        return entry_hash(before, self._replace(sequence=sequence))


def genesis(ledger: bytes) -> bytes:
    """The hash before the first event of the ledger with this id."""
    return hashlib.sha256(b"call-screening ledger 1\0" + ledger).digest()


def entry_hash(before: bytes, entry: Entry) -> bytes:
    """The hash of an event that follows the one with the hash `before`."""
    kind, actor = entry.kind.encode(), entry.actor.encode()
    parts = (
        before,
        entry.sequence.to_bytes(8),
        entry.at_us.to_bytes(8),
        entry.recorded_us.to_bytes(8),
        (entry.entity_id or 0).to_bytes(8),
        *(len(part).to_bytes(4) + part for part in (kind, entry.subject_id, entry.body, actor)),
    )
    return hashlib.sha256(b"".join(parts)).digest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a key's holder saw: the ledger's last event and its hash, at an instant (epoch s)."""

    ledger: str
    sequence: int
    head: bytes
    at: float
    key_id: str = ""
    signature: bytes = b""

    @classmethod
    def sign(cls, ledger: str, sequence: int, head: bytes, at: float, key: SigningKey) -> Self:
        """A checkpoint, signed."""
        # In whole microseconds, as its line says it: what is signed is what can be read.
        at = datetime.fromtimestamp(at, UTC).timestamp()
        bare = cls(ledger, sequence, head, at)
        signature = key.sign(bare.digest, of=Signed.CHECKPOINT)
        return cls(ledger, sequence, head, at, key.id, signature)

    @classmethod
    def parse(cls, line: str | bytes) -> Self:
        """The checkpoint of a line that `line` gave. Raises ValueError for another."""
        try:
            fields = json.loads(line)
            return cls(
                ledger=bytes.fromhex(fields["ledger"]).hex(),
                sequence=int(fields["sequence"]),
                head=bytes.fromhex(fields["head"]),
                at=datetime.fromisoformat(fields["at"]).timestamp(),
                key_id=str(fields["key"]),
                signature=base64.b64decode(fields["signature"], validate=True),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no checkpoint: {error!r}") from None

    @property
    def digest(self) -> str:
        """Of all that the signature is of, in hexadecimal."""
        text = f"{self.ledger} {self.sequence} {self.head.hex()} {round(self.at * 1e6)}"
        return hashlib.sha256(text.encode()).hexdigest()

    def line(self) -> str:
        """As it is kept elsewhere: one line of JSON."""
        fields = {
            "ledger": self.ledger,
            "sequence": self.sequence,
            "head": self.head.hex(),
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="microseconds"),
            "key": self.key_id,
            "signature": base64.b64encode(self.signature).decode(),
        }
        return json.dumps(fields)

    def check(self, trusted: TrustedKeys) -> None:
        """Raises SigningError unless a trusted key signed it."""
        trusted.check(self.digest, signature=self.signature, of=Signed.CHECKPOINT)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Where a chain first is not what it was: at `sequence`, and what is wrong there."""

    sequence: int
    what: str

    def __str__(self) -> str:
        return f"event {self.sequence}: {self.what}"


def first_flaw(
    ledger: bytes,
    entries: Iterable[Entry],
    checkpoints: Iterable[Checkpoint],
    *,
    through: int = 0,
) -> Flaw | None:
    """The first event that was altered, taken out or moved, None where every link holds.

    `entries` are all of the ledger's, in order; `checkpoints` are those whose signature holds;
    `through` is a sequence that was given to an event.
    """
    return first_broken(ledger.hex(), entries, checkpoints, before=genesis(ledger), through=through)


def first_broken(
    name: str,
    links: Iterable[Link],
    checkpoints: Iterable[Checkpoint],
    *,
    before: bytes,
    last: int = 0,
    through: int = 0,
) -> Flaw | None:
    """The same of any chain of this name, from the one after `last` on, whose hash is `before`.

    Checkpoints of what lay earlier say nothing here, but for one of `last` itself.
    """
    heads: dict[int, Checkpoint] = {}
    for each in checkpoints:
        known = heads.setdefault(each.sequence, each)
        if each.ledger != name:
            return Flaw(each.sequence, "a checkpoint is of another ledger")
        if known.head != each.head:
            return Flaw(each.sequence, "two checkpoints differ: the chain was written anew")
    heads = {sequence: mark for sequence, mark in heads.items() if sequence >= last}
    mark = heads.pop(last, None) if last else None
    if mark is not None and mark.head != before:
        return Flaw(last, f"the chain was written anew at or before it, {_seen(mark)}")
    following = iter(links)
    for link in following:
        last += 1
        if link.sequence != last:
            return Flaw(last, _absence(last, link, following))
        if link.after(before, last) != link.hash:
            return Flaw(last, _trouble(before, last, following))
        before = link.hash
        mark = heads.pop(last, None)
        if mark is not None and mark.head != before:
            return Flaw(last, f"the chain was written anew at or before it, {_seen(mark)}")
    if heads:
        mark = heads[min(heads)]
        return Flaw(last + 1, f"missing: the ledger was cut, {_seen(mark)}")
    if last < through:
        return Flaw(last + 1, f"missing: the ledger was cut, it had {through} events")
    return None


def _seen(mark: Checkpoint) -> str:
    at = datetime.fromtimestamp(mark.at, UTC).isoformat(timespec="seconds")
    return f"since the checkpoint of {at} saw another event {mark.sequence}"


def _absence(sequence: int, found: Link, following: Iterator[Link]) -> str:
    """Whether what should be here stands further on, or nowhere near; 0 is what is no link."""
    if not found.sequence:
        return "altered"
    if any(other.sequence == sequence for other in islice(following, LOOK_AHEAD)):
        return f"out of order: it stands after {found.sequence}"
    return f"missing, the next one there is {found.sequence}"


def _trouble(before: bytes, sequence: int, following: Iterator[Link]) -> str:
    """Whether what was here was moved further on, or altered."""
    for other in islice(following, LOOK_AHEAD):
        if other.after(before, sequence) == other.hash:
            return f"out of order: it stands at {other.sequence}"
    return "altered"
