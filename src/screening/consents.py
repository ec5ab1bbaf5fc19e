"""The consents there are: of a subscriber, and of an entity page by page."""

import time

from consent.held import Held
from consent.number import format_e164
from consent.record import Record
from screening.statement import ConsentOut, consent_out, names_of


def of_subscriber(record: Record, called: int) -> tuple[list[ConsentOut], int]:
    """A subscriber's consents, and the sequence of the newest event of its number."""
    held = record.ledger.held(called)
    names, now = names_of(record.entities.all(status=None)), time.time()
    found = [
        consent_out(each, entity=names[each.entity], now=now) for each in held.consents.values()
    ]
    return found, held.sequence


def of_entity(
    record: Record, name: str, after: int, limit: int
) -> tuple[list[ConsentOut], int | None]:
    """A page of an entity's consents, and the cursor of the next one, None after the last."""
    entity = record.entities.id_of(name)
    events = record.ledger.events_of_entity(entity, after, limit)
    by_number = record.ledger.events_of_each({each.called for each in events})
    now = time.time()
    page = []
    for each in events:
        own = [one for one in by_number[each.called] if one.body.get("entity") == entity]
        # Each subscriber once, at its newest word; those of an ended subscription not at all.
        if own and own[-1].sequence == each.sequence:
            held = Held.of(by_number[each.called]).consents[entity]
            listed = consent_out(held, entity=name, now=now)
            page.append(listed.model_copy(update={"called": format_e164(each.called)}))
    return page, events[-1].sequence if len(events) == limit else None
