"""The command line: `screening --help`."""

from functools import cache
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from screening import __version__
from screening.commands import serve
from screening.refusals import told

FUNCTIONS: Final = {"check": "check", "audit": "audit", "wash": "wash_file", "report": "report"}
"""Commands by their name, a function of the module of that name in `screening.commands`."""

GROUPS: Final = {
    "lists": "Load, show and roll back lists.",
    "rules": "Check, push, activate and roll back rule packs.",
    "consent": "Grant, revoke, list and export consents; verify the ledger.",
    "entity": "Register who calls, and who calls for whom.",
    "subscriber": "What subscribers set for themselves.",
    "index": "Look at the index, verify and rebuild it.",
    "log": "Verify, search and export the decision record.",
    "calls": "Tell what became of calls.",
    "complaints": "Import complaints, list them, their shares of a month.",
    "ladder": "The steps of the ladder and their notices; undo one.",
    "appeals": "List appeals, decide them.",
    "signals": "Show and reset how a party conducts itself.",
    "watch": "Find campaigns as they start; list, judge and try what was found.",
    "keys": "Make, list and revoke keys; rotate those of the ledger.",
}
"""Groups of commands, `app` of the module of that name, with their help.

Loaded when they are asked for: loading all takes longer than the service takes to start.
"""

ADDED: Final = {
    "consent": {"verify": "chain", "checkpoint-key": "chain"},
    "index": {"verify": "comparison"},
    "keys": {"rotate": "rotation"},
    "subscriber": {"erase": "erasure"},
}
"""Commands of a group that lie in other modules, functions of their name."""


class Commands(TyperGroup):
    """The group of all commands, each loaded on first use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the help."""
        return [*super().list_commands(ctx), *FUNCTIONS, *GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command by its name."""
        known = cmd_name in FUNCTIONS or cmd_name in GROUPS
        if known and cmd_name not in self.commands:
            self.add_command(_load(cmd_name), cmd_name)
        return super().get_command(ctx, cmd_name)


@cache
def _load(name: str) -> Any:
    module = import_module(f"screening.commands.{name}")
    # Typer makes commands of whole applications only, and of one command a group of one.
    around = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    around.callback()(lambda: None)
    if name in GROUPS:
        for command, where in ADDED.get(name, {}).items():
            added = import_module(f"screening.commands.{where}")
            module.app.command(command)(getattr(added, command.replace("-", "_")))
        around.add_typer(module.app, name=name, help=GROUPS[name])
    else:
        around.command(name)(getattr(module, FUNCTIONS[name]))
    group: Any = typer.main.get_command(around)
    return group.commands[name]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Call screening: allow, warn or block for a call being set up.\n\n"
    "Settings are environment variables that begin with SCREENING_; see docs/operations.md.",
)
app.command("serve")(serve.serve)


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
    with told():
        app()
