"""Everything that is held about one subscriber, with its place in the chain as proof.

For who asks what is known of it (GDPR art. 15, PIPL art. 45). What is told apart from decisions:
lists that name the number, and who looked it up or wrote.
"""

import asyncio
import base64
from collections.abc import Iterable
from typing import Any, Final

from consent.category import BIT
from consent.event import Event
from consent.held import Held
from consent.index import IndexReader, Question
from consent.keyring import Keyring
from consent.number import format_e164
from consent.record import Entry, Record
from screening.snapshot import ListInForce
from screening.statement import (
    Preferences,
    consent_out,
    evidence_out,
    instant,
    names_of,
    personal_out,
)

FACTS_SECONDS: Final = 1.0
AUDIT_LIMIT: Final = 10_000


async def naming(
    reader: IndexReader, lists: Iterable[ListInForce], called: int, *, country: str
) -> list[dict[str, Any]]:
    """The do-not-call lists in force, and whether each names the number; None: not known now."""
    asked = [each for each in lists if each.kind == "dnc" and each.region in ("", country)]
    deadline = asyncio.get_running_loop().time() + FACTS_SECONDS
    found = await asyncio.gather(
        *(
            reader.facts(
                Question(
                    called,
                    categories=(BIT[each.category],),
                    lists=((each.list_id, each.generation),),
                ),
                deadline=deadline,
            )
            for each in asked
        )
    )
    return [
        {
            "list": each.name,
            "generation": each.generation,
            "category": each.category,
            "listed": bool(facts.listed) if facts.known else None,
        }
        for each, facts in zip(asked, found, strict=True)
    ]


def export(
    record: Record, keyring: Keyring, called: int, *, lists: list[dict[str, Any]], now: float
) -> dict[str, Any]:
    """What the record holds about the present subscription of a number."""
    entries = record.ledger.entries_of(called)
    held = Held.of([each for each, _ in entries])
    names = names_of(record.entities.all(status=None))
    before = record.ledger.links({entry.sequence - 1 for _, entry in entries})
    return {
        "number": format_e164(called),
        "token": keyring.token(called),
        "made_at": instant(now).isoformat(),
        "consents": [
            consent_out(each, entity=names[each.entity], now=now).model_dump(mode="json")
            for each in held.consents.values()
        ],
        "preferences": Preferences.of(held.preferences).model_dump(mode="json"),
        "personal": personal_out(held),
        "lists": lists,
        "events": [
            {**_event(each, names), "entry": _entry(entry, before[entry.sequence - 1])}
            for each, entry in entries
        ],
        "ledger": {
            "genesis": before[0].hex(),
            "checkpoints": [
                each.line()
                for each in record.ledger.checkpoints(entries[0][1].sequence - 1)[:1]
                + record.ledger.checkpoints(entries[-1][1].sequence - 1)[:1]
            ]
            if entries
            else [],
        },
        "audit": [
            {"at": instant(each.at).isoformat(), "actor": each.actor, "action": each.action}
            for each in record.audit.of(keyring.token(called), AUDIT_LIMIT)
        ],
    }


def _event(each: Event, names: dict[int, str]) -> dict[str, Any]:
    body = dict(each.body)
    if "entity" in body:
        body["entity"] = names[body["entity"]]
    if "evidence" in body:
        body["evidence"] = evidence_out(body["evidence"])
    return {
        "sequence": each.sequence,
        "at": instant(each.at).isoformat(),
        "event": each.kind,
        "says": body,
    }


def _entry(entry: Entry, before: bytes) -> dict[str, Any]:
    """The row as the chain has it: `consent.record.chain.entry_hash` gives `hash` from the rest."""
    return {
        "at_us": entry.at_us,
        "recorded_us": entry.recorded_us,
        "subject": entry.subject_id.hex(),
        "entity_id": entry.entity_id,
        "sealed": base64.b64encode(entry.body).decode(),
        "actor": entry.actor,
        "before": before.hex(),
        "hash": entry.hash.hex(),
    }
