"""Warnings as people, programs and the webhook get them."""

from typing import Any

import orjson

from consent.record import Warned


def body_of(warned: Warned) -> bytes:
    """What is sent: the warning as `GET /v1/warnings` has it."""
    return orjson.dumps(shown(warned), option=orjson.OPT_SORT_KEYS)


def shown(warned: Warned) -> dict[str, Any]:
    """A warning for people and programs, without any number."""
    return {
        "id": warned.id,
        "kind": warned.kind,
        "party": warned.party,
        "since": warned.since,
        "at": warned.at,
        "about": dict(warned.about),
        "rule": warned.rule,
        "state": warned.state,
        "reason": warned.reason,
        "decided": warned.decided,
        "decided_by": warned.decided_by,
    }
