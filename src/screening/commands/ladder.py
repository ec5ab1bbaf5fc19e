"""`screening ladder`: who stands where, what it was told, and how a step is undone."""

from typing import Annotated

import typer
from rich.console import Console

from rules.ladder import load_ladders
from screening.commands.actor import actor
from screening.commands.table import table
from screening.conduct import Conduct
from screening.notices import texts
from screening.settings import Settings
from screening.state import open_files
from screening.statement import instant

app = typer.Typer(no_args_is_help=True)

Entity = Annotated[str, typer.Argument(help="One entity; all when left out.")]


@app.command("show")
def show(entity: Entity = "") -> None:
    """The steps of the ladder, oldest first: each an event of the ledger; numbers by token."""
    rows = table(
        "event", "at", "party", "country", "step", "stage", "in force", "undoes", "why",
        whole=("event", "step", "stage"),
    )  # fmt: skip
    with open_files(Settings()) as state:
        record = state.record()
        names = {each.id: each.name for each in record.entities.all(status=None)}
        steps = record.steps_of(entity)
        for each in steps:
            rows.add_row(
                str(each.sequence),
                f"{instant(each.at):%Y-%m-%d %H:%M:%SZ}",
                names.get(each.party.entity) or state.keyring.token(each.party.number),
                each.jurisdiction,
                each.step,
                each.stage,
                each.in_force or "nothing",
                str(each.reverses or ""),
                each.reason,
            )
    Console(highlight=False).print(rows)


@app.command("notices")
def notices(entity: Entity = "") -> None:
    """What callers are told of each step up, by language, and what became of it."""
    say = Console(highlight=False, soft_wrap=True).print
    with open_files(Settings()) as state:
        record = state.record()
        steps = record.steps_of(entity)
        told = {
            each.step.sequence: each
            for each in record.notices.of([step.sequence for step in steps if step.notice])
        }
        for each in steps:
            for language, text in texts(each).items():
                say(f"{each.reference} {language}: {text}")
            if found := told.get(each.sequence):
                times = "try" if found.attempts == 1 else "tries"
                tries = f", {found.attempts} {times}" if found.attempts else ""
                failure = f": {found.failure}" if found.failure else ""
                say(f"{each.reference} {found.state}{tries}{failure}")


@app.command("resend")
def resend(
    event: Annotated[int, typer.Argument(help="The step: its event, the number of its reference.")],
) -> None:
    """Send the notice of a step to the webhook again, whatever became of it."""
    with open_files(Settings()) as state:
        again = state.record().notices.resend(event, actor=actor())
    Console(highlight=False).print(f"{again.step.reference} is to be sent again as {again.key}")


@app.command("reverse")
def reverse(
    event: Annotated[int, typer.Argument(help="The step: its event.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")],
) -> None:
    """Undo a step with everything that it caused; its complaints count no more."""
    settings = Settings()
    with open_files(settings) as state:
        conduct = Conduct(state, load_ladders(settings.ladder_dir))
        step = conduct.reverse(event, reason=reason, actor=actor())
    Console(highlight=False).print(
        f"event {step.sequence} undoes {event}; in force: {step.in_force or 'nothing'}"
    )
