"""`screening appeals`: list appeals, decide them."""

import time
from typing import Annotated

import typer
from rich.console import Console

from consent.record.appeals import REJECTED, UPHELD
from rules.ladder import load_ladders
from screening.appeals import Appellate
from screening.commands.actor import actor
from screening.commands.table import table
from screening.conduct import Conduct
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import open_state
from screening.statement import called_number, instant, shown_number

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def show(
    every: Annotated[bool, typer.Option("--all", help="Those that were decided, too.")] = False,
) -> None:
    """The appeals that wait to be decided, newest first."""
    rows = table("id", "due", "country", "about", "rule", "cause", "outcome", whole=("about",))
    now = time.time()
    with open_state(Settings()) as state:
        for each in state.record().appeals.latest(1000, open_only=not every):
            against = each.against
            rows.add_row(
                str(each.id),
                instant(each.due).isoformat(timespec="seconds") + (" late" * each.late(now)),
                against.jurisdiction,
                against.decision_id or f"step {against.step}",
                against.rule,
                against.cause,
                each.outcome or "open",
            )
    Console(highlight=False).print(rows)


@app.command("decide")
def decide(
    appeal: Annotated[int, typer.Argument(help="Its id.")],
    reason: Annotated[str, typer.Option(help="Why; kept.")],
    uphold: Annotated[bool, typer.Option("--uphold/--reject", help="How it ends.")],
    calling: Annotated[
        str, typer.Option(help="Upheld: except this caller from the lists that block it, or")
    ] = "",
    called: Annotated[str, typer.Option(help="allow it to this called party alone.")] = "",
) -> None:
    """Close an appeal: upheld, a step is undone, or the caller allowed; rejected, it goes on."""
    settings = Settings()
    region = settings.region
    with open_state(settings) as state:
        registrar = Registrar(state)
        try:
            done = Appellate(Conduct(state, load_ladders(settings.ladder_dir)), registrar).decide(
                appeal,
                outcome=UPHELD if uphold else REJECTED,
                reason=reason,
                calling=shown_number(calling, region=region, field="calling") if calling else 0,
                called=called_number(called, region=region) if called else 0,
                actor=actor(),
            )
        finally:
            registrar.close()
    Console(highlight=False).print(f"appeal {done.id}: {done.outcome}, {done.effect}")
