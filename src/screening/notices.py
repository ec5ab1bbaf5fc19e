"""Notices of the ladder on their way to callers: what they say, and what a webhook gets of them."""

import orjson

from consent.number import format_e164
from consent.record import Notice, Record, Stepped
from screening.statement import instant


def body_of(notice: Notice, record: Record) -> bytes:
    """What is sent. It names the number where the caller is one: who delivers has to reach it."""
    step = notice.step
    named = {each.id: each for each in record.entities.all(status=None)}
    entity = named.get(step.party.entity)
    said = {
        "type": "ladder.notice",
        "reference": step.reference,
        "at": instant(step.at).isoformat(),
        "jurisdiction": step.jurisdiction,
        "stage": step.stage,
        "in_force": step.in_force,
        "entity": entity.name if entity else "",
        "title": entity.title if entity else "",
        "number": format_e164(step.party.number) if step.party.number else "",
        "complainants": step.complainants,
        "text": texts(step),
    }
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)


def texts(step: Stepped) -> dict[str, str]:
    """What the caller is told, by language (BCP 47)."""
    return {
        language: text.replace("{appeal}", step.reference) for language, text in step.notice.items()
    }
