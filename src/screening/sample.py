"""The sample registry: what a first look needs to see allow, warn and block."""

import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from consent.event import Event, EventKind
from consent.listing import Form
from consent.loading import load_list, prepare_calling
from consent.number import parse_e164, parse_number
from consent.projection import catch_up
from consent.record import ListKind, Record
from screening.settings import shipped
from screening.state import State

ACTOR: Final = "sample"

EXAMPLES: Final = {
    "allow": {
        "calling": "+12125550123",
        "called": "+12125550101",
        "attestation": "A",
        "verstat": "TN-Validation-Passed",
    },
    "warn": {"calling": "4001234567", "called": "+8613123456789", "region": "CN"},
    "block": {"calling": "+861012345678", "called": "+8613123456789"},
}
"""A question about the sample registry for each action."""


def load_sample(state: State) -> None:
    """Load the shipped sample into the state; what is already there is left as it is.

    Raises what loading lists and writing to the record and the index raise.
    """
    folder = shipped("sample")
    manifest = tomllib.loads((folder / "sample.toml").read_text("utf-8"))
    record = state.record()
    with state.index() as store:
        for each in manifest["list"]:
            kind = ListKind(each["kind"])
            load_list(
                record,
                store,
                state.folder,
                name=each["name"],
                path=folder / each["file"],
                kind=kind,
                form=Form(
                    each["format"], region=each.get("region", ""), called=kind is ListKind.DNC
                ),
                category=each.get("category", ""),
                actor=ACTOR,
            )
        _register(record, manifest["entity"], state.folder)
        _decide(record, manifest)
        catch_up(record, store)


def _register(record: Record, entities: Iterable[dict[str, Any]], folder: Path) -> None:
    known = {each.name for each in record.entities.all()}
    for each in entities:
        if each["name"] not in known:
            record.entities.put(
                each["name"],
                title=each["title"],
                categories=each["categories"],
                numbers=[parse_number(number).value for number in each["numbers"]],
                actor=ACTOR,
            )
    prepare_calling(record, folder)


def _decide(record: Record, manifest: dict[str, Any]) -> None:
    """The consents and preferences of subscribers of whom nothing is known yet."""
    entities = {each.name: each.id for each in record.entities.all()}
    decisions: list[tuple[str, EventKind, dict[str, Any]]] = [
        (
            each["called"],
            EventKind.CONSENT_GRANTED,
            {
                "entity": entities[each["entity"]],
                "categories": each["categories"],
                "expires": 0,
                **({"terms": each["terms"]} if "terms" in each else {}),
            },
        )
        for each in manifest["consent"]
    ]
    decisions += [
        (
            each["called"],
            EventKind.PREFERENCES_SET,
            {"refused": each["refused"], "zone": each["zone"]},
        )
        for each in manifest["preferences"]
    ]
    for called, kind, body in decisions:
        number = parse_e164(called)
        if not record.ledger.events_of(number):
            record.ledger.append([Event(0, time.time(), kind, number, body)], actor=ACTOR)
