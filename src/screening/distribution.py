"""Rule sets on their way to every worker: pushed, activated and rolled back by a person.

The record keeps them; workers follow it (`screening.in_force`). What does not hold is refused
here, before the record has it, and again by each worker, which believes the database nothing.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from consent.index import IndexStore, IndexUnavailable
from consent.record import FOLDER, Activation, Bundle, Record, RecordError
from consent.signing import SigningError, SigningKey, TrustedKeys
from rules import bundle
from rules.bundle import BundleError
from rules.document import RuleSetError
from rules.handover import NotReady
from rules.loading import HERE, Loader, Packs, load_files

CHANNEL: Final = "screening:rules"
"""Where activations are announced, by sequence; workers answer on it with `:sequence` added."""

BOUND_SECONDS: Final = 2.0
"""Within it every worker runs what was activated, by reading the record alone."""

REFUSED: Final = (BundleError, SigningError, RuleSetError, NotReady)
"""How a bundle is refused."""

Guard = Callable[[Packs], str]
"""Says why rules must not come into force, "" where they may."""


class ActivationRefused(Exception):
    """The guard is against it; the message is its reason. To be forced, or not."""


def check_bundle(content: bytes, *, digest: str, signature: bytes, trusted: TrustedKeys) -> None:
    """Whether bytes, which may be anything, are the bundle. Raises BundleError, SigningError."""
    if bundle.digest(content) != digest:
        raise BundleError(f"bundle {digest[:12]} was altered: its content has another SHA-256")
    trusted.check(digest, signature=signature)


def push(
    record: Record,
    files: Mapping[str, bytes],
    *,
    trusted: TrustedKeys,
    key: SigningKey | None = None,
    actor: str,
    note: str = "",
) -> tuple[Bundle, Packs]:
    """Keep rules in the record, signed with `key`; nothing comes into force. Raises REFUSED."""
    packs = load_files(files)
    content = bundle.pack(files)
    signature = key.sign(packs.digest) if key else b""
    trusted.check(packs.digest, signature=signature)
    kept = record.rulebook.push(
        content,
        sets=[pack.ruleset.label for pack in packs.packs.values()],
        actor=actor,
        note=note,
        signature=signature,
        key_id=key.id if key else "",
    )
    return kept, packs


def activate(
    record: Record,
    revision: str,
    *,
    folder: Path,
    trusted: TrustedKeys,
    guard: Guard | None = None,
    actor: str,
    reason: str = "",
    forced: bool = False,
    loader: Loader = HERE,
) -> Activation:
    """Put the bundle whose digest begins with `revision` in force, with FOLDER each node's own.

    Raises REFUSED where its rules do not hold here, RecordError where there is no such bundle,
    and ActivationRefused where the guard is against it and it is not `forced` with a reason.
    """
    digest = record.rulebook.find(revision).digest if revision != FOLDER else FOLDER
    packs = load_rules(record, digest, folder=folder, trusted=trusted, loader=loader)
    against = guard(packs) if guard else ""
    if against and not (forced and reason.strip()):
        raise ActivationRefused(f"{against}; with force and a reason it comes into force")
    return record.rulebook.activate(digest, actor=actor, reason=reason, forced=bool(against))


def rollback(
    record: Record,
    *,
    folder: Path,
    trusted: TrustedKeys,
    actor: str,
    reason: str = "",
    loader: Loader = HERE,
) -> tuple[Activation, Activation]:
    """Put what was in force before in force again: what was left, and what is now.

    No guard is asked: this is the way out of a bad activation, to rules that have run here.
    Raises REFUSED where those do not hold any more, RecordError where there are none.
    """
    left = record.rulebook.active()
    earlier = record.rulebook.before(left)
    load_rules(record, earlier.digest, folder=folder, trusted=trusted, loader=loader)
    return left, record.rulebook.rollback(left, actor=actor, reason=reason)


def active_rules(record: Record, *, folder: Path, trusted: TrustedKeys) -> Packs | None:
    """The rules that the record says are in force; None where they cannot be had."""
    with contextlib.suppress(*REFUSED, RecordError):
        return load_rules(record, record.rulebook.active().digest, folder=folder, trusted=trusted)
    return None


def load_rules(
    record: Record, digest: str, *, folder: Path, trusted: TrustedKeys, loader: Loader = HERE
) -> Packs:
    """The rules of a bundle in the record, or with FOLDER of this node's own. Raises REFUSED."""
    if digest == FOLDER:
        return loader.folder(folder)
    kept = record.rulebook.find(digest)
    content = record.rulebook.content(digest)
    check_bundle(content, digest=digest, signature=kept.signature, trusted=trusted)
    return loader.bundle(content)


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker says of an activation: `failure` is why it stays on the rules it had."""

    worker: str
    seconds: float
    failure: str


def announce(url: str, activation: Activation) -> tuple[int, list[Report]]:
    """Tell every worker at once: how many heard it, and what they said within the bound.

    Raises IndexUnavailable where the index server is gone; workers then find the activation in
    the record. What is answered is shown to a person and trusted with nothing else.
    """
    store = IndexStore(url, connect_timeout_s=0.5, timeout_s=1.0)
    try:
        heard, answers = store.call(CHANNEL, str(activation.sequence), within_seconds=BOUND_SECONDS)
    finally:
        store.close()
    reports = []
    for said in answers:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            words = json.loads(said)
            reports.append(
                Report(str(words["worker"]), float(words["seconds"]), str(words["failure"]))
            )
    return heard, reports


def answer(url: str, sequence: str, report: Report) -> None:
    """Tell who announced an activation what came of it here, if they can be reached."""
    with contextlib.suppress(IndexUnavailable):
        store = IndexStore(url, connect_timeout_s=0.5, timeout_s=1.0)
        try:
            store.publish(f"{CHANNEL}:{sequence}", json.dumps(asdict(report)).encode())
        finally:
            store.close()
