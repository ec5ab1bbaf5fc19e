"""The command line: `screening --help`."""

import sys
from typing import Final

import typer
from pydantic import ValidationError
from rich.console import Console

from consent.calling import CallingSideError
from consent.index import IndexUnavailable
from consent.keyring import KeyringError
from consent.listing import ListingError
from consent.loading import LoadError
from consent.record import RecordError, RecordUnavailable
from consent.signing import SigningError
from rules.bundle import BundleError
from rules.document import RuleSetError
from screening import __version__
from screening.access import AccessError
from screening.commands import (
    audit,
    chain,
    check,
    comparison,
    consent,
    entity,
    erasure,
    index,
    keys,
    lists,
    log,
    rotation,
    rules,
    serve,
    subscriber,
    wash,
)
from screening.distribution import ActivationRefused
from screening.embedded import EmbeddedServerError
from screening.recording.segments import LogError

REFUSALS: Final = (
    AccessError,
    ActivationRefused,
    BundleError,
    CallingSideError,
    EmbeddedServerError,
    IndexUnavailable,
    KeyringError,
    ListingError,
    LoadError,
    LogError,
    OSError,
    RecordError,
    RecordUnavailable,
    SigningError,
)
"""What a person can mend: told in one line, without a traceback."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Call screening: allow, warn or block for a call being set up.\n\n"
    "Settings are environment variables that begin with SCREENING_; see docs/operations.md.",
)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.command("audit")(audit.audit)
app.command("wash")(wash.wash_file)
consent.app.command("verify")(chain.verify)
consent.app.command("checkpoint-key")(chain.checkpoint_key)
subscriber.app.command("erase")(erasure.erase)
index.app.command("verify")(comparison.verify)
keys.app.command("rotate")(rotation.rotate)
app.add_typer(lists.app, name="lists", help="Load, show and roll back lists.")
app.add_typer(rules.app, name="rules", help="Check, push, activate and roll back rule packs.")
app.add_typer(
    consent.app, name="consent", help="Grant, revoke, list and export consents; verify the ledger."
)
app.add_typer(entity.app, name="entity", help="Register who calls, and who calls for whom.")
app.add_typer(subscriber.app, name="subscriber", help="What subscribers set for themselves.")
app.add_typer(index.app, name="index", help="Look at the index, verify and rebuild it.")
app.add_typer(log.app, name="log", help="Verify, search and export the decision record.")
app.add_typer(keys.app, name="keys", help="Make, list and revoke keys; rotate those of the ledger.")


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    _version_wanted: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run a command: exit 0 when it did what was asked, 1 when not, 2 for a wrong call."""
    errors = Console(stderr=True, highlight=False)
    try:
        app()
    except RuleSetError as refused:
        for problem in refused.problems:
            print(problem, file=sys.stderr)
        raise SystemExit(1) from None
    except ValidationError as refused:
        for each in refused.errors():
            name = "SCREENING_" + "_".join(str(part) for part in each["loc"]).upper()
            errors.print(f"[red]error:[/red] {name}: {each['msg']}, not {each['input']!r}")
        raise SystemExit(2) from None
    except REFUSALS as refused:
        errors.print("[red]error:[/red]", str(refused), markup=True)
        raise SystemExit(1) from None
