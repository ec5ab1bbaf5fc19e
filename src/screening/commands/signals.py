"""`screening signals`: how one party conducts itself, and a fresh start for it."""

import json
from typing import Annotated

import orjson
import typer
from rich.console import Console

from consent.conduct import COUNTS, MEASURES, NAMES, NOTHING, SCALE, WINDOW_NAMES, combined, unpack
from consent.index import ConductStore
from consent.number import parse_number
from screening.commands.actor import actor
from screening.commands.table import table
from screening.recording.outbox import connect
from screening.settings import Settings
from screening.signals.tally import BLOCK, CALLING, ENTITY, TRUNK
from screening.signals.view import ConductView, place
from screening.state import State, open_state

app = typer.Typer(no_args_is_help=True)

Who = Annotated[
    str, typer.Argument(help='A number, "entity:7", "trunk:ic-1" or "block:441632960".')
]


@app.command("show")
def show(
    who: Who, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """The signals of a party as the rules of this node see them."""
    settings = Settings()
    kind, key = _party(who, settings.region)
    with open_state(settings) as state:
        values = _values(state, kind, key)
    shown = {
        name: value if name.rpartition("_")[0] in COUNTS else value / SCALE
        for name, value in zip(NAMES, values, strict=True)
    }
    if as_json:
        print(json.dumps(shown))
        return
    rows = table("", *WINDOW_NAMES)
    for measure in MEASURES:
        cells = [f"{shown[f'{measure}_{window}']:,}" for window in WINDOW_NAMES]
        rows.add_row(measure, *cells)
    Console().print(rows)


def _values(state: State, kind: str, key: int | str) -> tuple[int, ...]:
    if kind != CALLING:
        view = ConductView(state.folder)
        if not view.known:
            raise typer.BadParameter("no recorder keeps signals on this node now")
        return view.find(kind, place(key))
    store = ConductStore(state.redis_url, node="")
    try:
        found = [unpack(each) for each in store.read_signals(int(key))]
    finally:
        store.close()
    return combined(found) if found else NOTHING


@app.command("reset")
def reset(
    who: Who, reason: Annotated[str, typer.Option(help="Why; the audit keeps it.")] = ""
) -> None:
    """Forget what this node has counted of a party; it begins anew."""
    if not reason.strip():
        raise typer.BadParameter("expected --reason, for the audit")
    settings = Settings()
    kind, key = _party(who, settings.region)
    with open_state(settings) as state:
        shown = state.keyring.token(int(key)) if kind in (CALLING, BLOCK) else str(key)
        # The audit first: what cannot be kept is not done.
        state.record().audit.append(
            "signals.reset",
            subject=f"{kind}:{shown}",
            actor=actor(),
            detail={"reason": reason},
        )
        link = connect(state.folder)
        if link is None:
            raise typer.BadParameter("no recorder runs on this node: it holds the counters")
        with link:
            told = [("reset", {"party": kind, "key": key})]
            batch = {"instance": "", "rules": "", "lost": 0, "verdicts": [], "lists": []}
            link.send(orjson.dumps({**batch, "calls": [], "told": told}))
    print("begins anew")


def _party(who: str, region: str) -> tuple[str, int | str]:
    kind, colon, name = who.partition(":")
    if colon and kind == TRUNK:
        return kind, name
    if colon and kind in (ENTITY, BLOCK) and name.isdecimal():
        return kind, int(name)
    number = parse_number(who, region=region)
    if not number.value:
        raise typer.BadParameter(f"{who!r} is no number, entity:ID, trunk:NAME or block:DIGITS")
    return CALLING, number.value
