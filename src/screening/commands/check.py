"""`screening check`: one question, decided here and now, with its trace."""

import asyncio
import json
import time
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from screening.access import Assertion, Client, Right
from screening.contract import FIELDS
from screening.logs import log_to_stderr
from screening.screener import Decision
from screening.service import Service
from screening.settings import Settings
from screening.state import open_state
from screening.wire import MalformedCall, read_json, write_answer

OPERATOR = Client(
    name="command line",
    asserts=frozenset(Assertion),
    may=frozenset(Right),
)
_COLOURS = {"allow": "green", "warn": "yellow", "block": "red"}
_OUTCOMES = {"true": "bold", "false": "dim", "unknown": "yellow", "error": "red"}


def check(
    calling: Annotated[str, typer.Option(help="Calling number; empty: withheld.")],
    called: Annotated[str, typer.Option(help="Called number.")],
    field: Annotated[
        list[str] | None,
        typer.Option("--field", "-f", metavar="NAME=VALUE", help="Another field of the contract."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Decide one call with the rules, lists and index in force, and say why.

    Exit code 0 for every verdict, 1 when the question is malformed.
    """
    question = {"calling": calling, "called": called, "explain": True, **_fields(field or [])}
    log_to_stderr("ERROR")
    answer = asyncio.run(_decide(question))
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _show(answer, Console(highlight=False))


def _fields(words: list[str]) -> dict[str, Any]:
    known = {each.name for each in FIELDS}
    fields: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            expected = ", ".join(sorted(known))
            raise typer.BadParameter(f"{word!r}: expected NAME=VALUE with a NAME of {expected}")
        fields[name] = (
            value == "true"
            if name == "roaming"
            else int(value)
            if name == "redirect_count"
            else value
        )
    return fields


async def _decide(fields: dict[str, Any]) -> dict[str, Any]:
    settings = Settings()
    with open_state(settings) as state:
        service = Service(state)
        await service.take_in()
        try:
            question = read_json(
                orjson.dumps(fields), client=OPERATOR, region=settings.region, now=time.time()
            )
            arrived = time.monotonic()
            decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
            service.screener.screen(question, arrived=arrived, done=decided.set_result)
            decision = await decided
            elapsed = time.monotonic() - arrived
        except MalformedCall as malformed:
            raise typer.BadParameter(str(malformed)) from None
        finally:
            await service.stop()
    return dict(orjson.loads(write_answer(decision, latency_us=int(elapsed * 1e6))))


def _show(answer: dict[str, Any], console: Console) -> None:
    colour = _COLOURS[answer["action"]]
    console.print(
        Text.assemble(
            (answer["action"].upper(), f"bold {colour}"),
            f"  {answer['cause']}  by {answer['rule']} of {answer['ruleset']}",
            ("  degraded", "yellow") if answer["degraded"] else "",
        )
    )
    facts = Table.grid(padding=(0, 2))
    sip = answer["sip"]
    if sip:
        facts.add_row("SIP", f"{sip['code']} {sip['phrase']}, Q.850 {answer['q850']}")
        if sip["reason"]:
            facts.add_row("Reason", escape(sip["reason"]))
    if answer["label"]:
        facts.add_row("label", ", ".join(f"{tag}: {text}" for tag, text in answer["label"].items()))
    if answer["redress"]:
        facts.add_row("redress", answer["redress"])
    for hit in answer["shadow"]:
        facts.add_row("shadow", f"{hit['rule']} would {hit['action']}")
    facts.add_row("decision", answer["decision_id"])
    facts.add_row("took", f"{answer['latency_us']} µs")
    _add_evidence(answer.get("evidence"), facts)
    console.print(facts)
    trace = answer.get("trace")
    if trace:
        tree = Tree("rules tried, in their order")
        for entry in trace:
            style = _OUTCOMES.get(entry["outcome"], "")
            branch = tree.add(Text(f"{entry['outcome']:8}{entry['rule']}", style=style))
            if entry["mode"] != "enforce":
                branch.add(f"mode {entry['mode']}")
            if entry["outcome"] == "true" and entry.get("why"):
                branch.add(Text(entry["why"], style="italic"))
            reason = branch
            if entry.get("stopped_by"):
                reason = branch.add(Text(f"stopped by  {entry['stopped_by']}"))
            for name, value in entry["facts"].items():
                reason.add(Text(f"{name} = {json.dumps(value, ensure_ascii=False)}"))
        console.print(tree)


def _add_evidence(evidence: dict[str, Any] | None, rows: Table) -> None:
    if evidence is None:
        return
    lists = ", ".join(f"{name} {generation}" for name, generation in evidence["lists"].items())
    rows.add_row("lists", f"{escape(lists)} (name and generation)" if lists else "none asked")
    if evidence["named_by"]:
        rows.add_row("named by", escape(", ".join(evidence["named_by"])))
    if evidence["consent_id"] is not None:
        rows.add_row("consent", f"event {evidence['consent_id']} of the ledger")
