"""`screening watch`: find campaigns as they start, list and judge them, try a rule."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from consent.conduct import BLOCK as BLOCK_NUMBERS
from consent.number import parse_number
from screening.commands.actor import actor
from screening.commands.table import table
from screening.logs import log_to_stderr
from screening.settings import Settings
from screening.state import open_files
from screening.watching.counts import watch_status
from screening.watching.detector import Finding
from screening.watching.events import number_of
from screening.watching.party import BLOCK, NUMBER
from screening.watching.proposal import rule as proposed
from screening.watching.warned import shown
from screening.watching.watch import HISTORY_DAYS, WatchRuns, run

app = typer.Typer(no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The warning, W-…")]
Reason = Annotated[str, typer.Option(help="Why; the audit keeps it.")]


@app.command("run")
def watch(
    days: Annotated[
        float, typer.Option(min=0, help="At a first start: learn from so many days of the record.")
    ] = HISTORY_DAYS,
    once: Annotated[bool, typer.Option("--once", help="End at the record's end.")] = False,
) -> None:
    """Follow this node's decision record and warn of campaigns, until Ctrl-C or SIGTERM."""
    settings = Settings()
    log_to_stderr(settings.log_level)
    with open_files(settings) as state:
        try:
            run(state, days=days, once=once)
        except (WatchRuns, ValueError) as refused:
            raise typer.BadParameter(str(refused)) from None


@app.command("list")
def list_(
    state: Annotated[str, typer.Option(help='"open", "acknowledged" or "dismissed".')] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one a line.")] = False,
) -> None:
    """Warnings, newest first; numbers by their tokens."""
    with open_files(Settings()) as opened:
        found = opened.record().warnings.latest(limit, state=state)
    if as_json:
        for each in found:
            print(json.dumps(shown(each)))
        return
    for each in found:
        about = each.about
        print(
            f"{each.id} {_instant(each.at)} {each.state}: {each.kind} {each.party} since"
            f" {_instant(each.since)}, {about['hourly']:g} an hour where"
            f" {about['expected_hourly']:g} were expected, {about['sure']:.0%} sure"
        )


@app.command("acknowledge")
def acknowledge(warning: Id, reason: Reason) -> None:
    """Somebody sees to it."""
    _decide(warning, "acknowledged", reason)


@app.command("dismiss")
def dismiss(warning: Id, reason: Reason) -> None:
    """It is no campaign: for a week the watch is quiet of this party, and learns its ways."""
    _decide(warning, "dismissed", reason)


def _decide(warning: str, state: str, reason: str) -> None:
    with open_files(Settings()) as opened:
        judged = opened.record().warnings.decide(warning, state, reason=reason, actor=actor())
    print(f"{judged.id} is {judged.state}")


@app.command("rule")
def rule(
    warning: Id,
    number: Annotated[
        str, typer.Option(help="The calling number, where it is known: the rule then names it.")
    ] = "",
    reason: Annotated[str, typer.Option(help="With --number: why; the audit keeps it.")] = "",
) -> None:
    """The shadow rule to try, as TOML: add it to a pack and see what it would do."""
    settings = Settings()
    with open_files(settings) as state:
        found = state.record().warnings.get(warning)
        if not number:
            print(found.rule, end="")
            return
        if found.kind not in (NUMBER, BLOCK):
            raise typer.BadParameter(f"{warning} is about a {found.kind}, not about a number")
        if not reason.strip():
            raise typer.BadParameter("naming a number needs --reason, for the audit")
        value = parse_number(number, region=settings.region).value
        named = value if found.kind == NUMBER else value // BLOCK_NUMBERS
        # The audit first: what cannot be kept is not done.
        state.record().audit.append(
            "watch.rule",
            subject=state.keyring.token(value),
            actor=actor(),
            detail={"reason": reason, "warning": warning},
        )
        if not value or found.party not in state.keyring.tokens(named):
            raise typer.BadParameter(f"this is not who {warning} is about")
    about = found.about
    finding = Finding(
        kind=found.kind, key=number_of(found.party), since=found.since, at=found.at,
        score=about["score"], sure=about["sure"], hourly=about["hourly"],
        expected_hourly=about["expected_hourly"], evidence=about["evidence"],
        examples=tuple(about["examples"]),
    )  # fmt: skip
    print(proposed(finding, found.id, number=value), end="")


@app.command("heavy")
def heavy() -> None:
    """The numbers that called most in the last hours, by their tokens: least and most calls."""
    status = watch_status(Settings().state_dir)
    if status is None:
        raise typer.BadParameter("no watch runs on this node")
    rows = table("party", "least", "most")
    for each in status["heavy"]:
        rows.add_row(each["party"], str(each["least"]), str(each["most"]))
    Console(highlight=False).print(rows)


def _instant(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}Z"
