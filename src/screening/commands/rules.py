"""`screening rules`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from consent.index import IndexUnavailable
from consent.record import FOLDER, Activation, Record
from consent.signing import SigningKey, TrustedKeys
from rules.coverage import coverage
from rules.document import RuleSetError
from rules.loading import Packs, digest, load_packs, read_folder
from screening import distribution
from screening.blast_radius import Guard
from screening.commands import replay
from screening.commands.actor import actor
from screening.commands.check import check as check_call
from screening.commands.table import table
from screening.distribution import BOUND_SECONDS
from screening.embedded import EmbeddedServer
from screening.settings import Settings
from screening.state import State, open_files

app = typer.Typer(no_args_is_help=True)
app.command("replay")(replay.replay)
app.command("force")(replay.force_rules)
app.command("explain")(check_call)

SHOWN = 12
"""Digits of a digest that name a revision to a person."""

Folder = Annotated[
    Path | None, typer.Argument(help="Folder of the packs; the configured one when left out.")
]
Reason = Annotated[str, typer.Option(help="Why, for the audit.")]


@app.command("check")
def check(
    folder: Folder = None,
    covered: Annotated[
        bool,
        typer.Option(
            "--coverage", help="Show the cases of each rule; exit 1 when one has too few."
        ),
    ] = False,
) -> None:
    """Load packs as the service would and run their cases; exit 1 and say where when one fails."""
    packs = load_packs(folder or Settings().rules_dir)
    for warning in packs.warnings:
        print(warning)
    loaded = table("pack", "revision", "rules", "cases", "default")
    for name, pack in packs.packs.items():
        loaded.add_row(
            name,
            pack.ruleset.revision,
            str(len(pack.ruleset.rules)),
            str(len(pack.cases)),
            pack.ruleset.default.word,
        )
    Console().print(loaded)
    if covered and not _covered(packs):
        raise typer.Exit(1)


def _covered(packs: Packs) -> bool:
    """Print what the cases of each pack try; whether every rule is tried both ways."""
    lacking = []
    print(f"\n{'rule':<28} {'mode':<8} {'matched':>8} {'tried without':>14}")
    for pack in packs.packs.values():
        for each in coverage(pack):
            rule = each.rule
            note = f"  needs {', '.join(rule.needs)}" if rule.needs else ""
            if not each.both_ways:
                lacking.append(rule.id)
                note = f"  no case in which it {'does not match' if each.matched else 'matches'}"
            print(f"{rule.id:<28} {rule.mode.value:<8} {each.matched:>8} {each.passed:>14}{note}")
    if lacking:
        print(f"not covered both ways: {', '.join(lacking)}", file=sys.stderr)
    return not lacking


@app.command("keygen")
def keygen(
    path: Annotated[Path, typer.Argument(help="File for the private key; it must not exist.")],
) -> None:
    """Make a key to sign rules with: the private half to a file, the public half printed.

    The nodes trust the public half once it stands in the file, or a file of the folder, that
    SCREENING_RULE_KEYS names; from then on they run nothing that is not signed.
    """
    key = SigningKey.create(path)
    told = Console(stderr=True, highlight=False)
    told.print(f"private key {key.id} in {escape(str(path))}, mode 0600: keep it off the nodes")
    told.print("the public key, for the file of SCREENING_RULE_KEYS on every node:")
    print(key.line(), key.id)


@app.command("push")
def push(
    folder: Folder = None,
    key: Annotated[
        Path | None, typer.Option(help="Private key to sign with, from `rules keygen`.")
    ] = None,
    note: Annotated[str, typer.Option(help="What is new in it.")] = "",
) -> None:
    """Check packs and keep them in the record as one revision; nothing comes into force yet."""
    out = Console(highlight=False, soft_wrap=True)
    with _rulebook() as (state, record):
        where = folder or state.settings.rules_dir
        with Console(stderr=True).status(f"loading {escape(str(where))} and running its cases"):
            kept, packs = distribution.push(
                record,
                read_folder(where),
                trusted=TrustedKeys.load(state.settings.rule_keys),
                key=SigningKey.load(key) if key else None,
                actor=actor(),
                note=note,
            )
    for warning in packs.warnings:
        print(warning)
    cases = sum(len(pack.cases) for pack in packs.packs.values())
    signed = f"signed with key {kept.key_id}" if kept.signature else "not signed"
    out.print(f"{', '.join(kept.sets)}: {cases} cases passed, {signed}")
    out.print(f"kept as [bold]{kept.digest[:SHOWN]}[/bold]; in force after")
    out.print(f"  screening rules activate {kept.digest[:SHOWN]}")


@app.command("list")
def show(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
) -> None:
    """What is in force, the revisions that were pushed, and what was active when."""
    out = Console(highlight=False, soft_wrap=True)
    with _rulebook() as (state, record):
        active = record.rulebook.active()
        bundles = record.rulebook.bundles(limit)
        activations = record.rulebook.activations(limit)
        folder = state.settings.rules_dir
    out.print(_told(active, folder))
    if active.digest != FOLDER:
        out.print(f"the folder {escape(str(folder))} is not used, until `rules activate --folder`")
    if bundles:
        own = _digest(folder)
        pushed = table("revision", "sets", "pushed", "by", "", whole=("revision", "pushed"))
        for each in bundles:
            about = (
                ("in force" if each.digest == active.digest else ""),
                ("the same as the folder" if each.digest == own else ""),
                (f"signed with {each.key_id}" if each.signature else ""),
                escape(each.note),
            )
            pushed.add_row(
                each.digest[:SHOWN],
                "\n".join(each.sets),
                _instant(each.created_at),
                escape(each.author),
                "\n".join(filter(None, about)),
            )
        out.print(pushed, soft_wrap=False)
    if activations:
        history = table("activation", "revision", "at", "by", "reason", whole=("revision", "at"))
        for done in activations:
            forced = "forced: " if done.forced else ""
            history.add_row(
                str(done.sequence),
                done.digest[:SHOWN] or "folder",
                _instant(done.at),
                escape(done.actor),
                escape(forced + done.reason),
            )
        out.print(history, soft_wrap=False)


@app.command("activate")
def activate(
    revision: Annotated[
        str, typer.Argument(help="A revision of `rules list`, or its first digits.")
    ] = "",
    folder: Annotated[
        bool, typer.Option("--folder", help="Instead of a revision: each node's own folder.")
    ] = False,
    reason: Reason = "",
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also when it would change more verdicts than allowed; needs --reason."
        ),
    ] = False,
) -> None:
    """Put a revision in force on every node, within two seconds; exit 1 if a worker refuses it."""
    if bool(revision) == folder:
        raise typer.BadParameter("give a revision or --folder, one of the two")
    with _rulebook() as (state, record):
        where = state.settings.rules_dir
        trusted = TrustedKeys.load(state.settings.rule_keys)
        guard = Guard(state.folder, limit_percent=state.settings.blast_radius_percent)
        with Console(stderr=True).status("loading the rules and running their cases"):
            current = distribution.active_rules(record, folder=where, trusted=trusted)
            activation = distribution.activate(
                record,
                FOLDER if folder else revision,
                folder=where,
                trusted=trusted,
                guard=lambda packs: guard.against(current, packs),
                actor=actor(),
                reason=reason,
                forced=force,
            )
        _follow(state, activation)


@app.command("rollback")
def rollback(reason: Reason = "") -> None:
    """Put what was in force before in force again, on every node; twice goes back two steps."""
    with _rulebook() as (state, record):
        try:
            with Console(stderr=True).status("loading the rules and running their cases"):
                left, activation = distribution.rollback(
                    record,
                    folder=state.settings.rules_dir,
                    trusted=TrustedKeys.load(state.settings.rule_keys),
                    actor=actor(),
                    reason=reason,
                )
        except distribution.REFUSED:
            told = Console(stderr=True, highlight=False, soft_wrap=True)
            told.print("what was in force before what is cannot be run any more: choose another")
            told.print("of `screening rules list`, or `screening rules activate --folder`")
            raise
        Console(highlight=False, soft_wrap=True).print(
            f"left {_name(left)}, back to {_name(activation)}"
        )
        _follow(state, activation)


@contextmanager
def _rulebook() -> Iterator[tuple[State, Record]]:
    # Not the whole state: an index server that does not start must not stand in the way.
    with open_files(Settings()) as state:
        yield state, state.record()


def _follow(state: State, activation: Activation) -> None:
    """Tell the workers, and tell the person what they made of it. Raises typer.Exit with 1."""
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"activation {activation.sequence} is recorded: {_name(activation)}")
    url = state.redis_url or EmbeddedServer(state.folder).url
    try:
        heard, reports = distribution.announce(url, activation)
    except IndexUnavailable as gone:
        out.print(f"no worker could be told ({escape(str(gone))}): those that run look by")
        out.print(f"themselves within {BOUND_SECONDS:g} s; see /readyz of each")
        return
    if not heard:
        out.print("no worker runs that could be told; those that start begin with it")
        return
    good = [each for each in reports if not each.failure]
    for each in reports:
        if each.failure:
            out.print(f"[red]{escape(each.worker)} stays on the rules it had:[/red]")
            out.print(escape(each.failure))
    for _ in range(heard - len(reports)):
        out.print(f"[red]a worker said nothing within {BOUND_SECONDS:g} s[/red]; see /readyz")
    slowest = f", after {max(each.seconds for each in good):.2f} s at most" if good else ""
    colour = "green" if len(good) == heard else "red"
    out.print(f"[{colour}]in force in {len(good)} of {heard} workers[/{colour}]{slowest}")
    if len(good) < heard:
        raise typer.Exit(1)


def _digest(folder: Path) -> str:
    """That of the folder, "" where it cannot be read: the list is of use all the same."""
    try:
        return digest(folder)
    except RuleSetError:
        return ""


def _name(activation: Activation) -> str:
    return activation.digest[:SHOWN] or "each node's own folder"


def _told(active: Activation, folder: Path) -> str:
    what = _name(active) if active.digest else f"the folder {escape(str(folder))}"
    if active.sequence == 0:
        return f"[bold]{what}[/bold] is in force: nothing was ever activated"
    why = f" ({escape(active.reason)})" if active.reason else ""
    return (
        f"[bold]{what}[/bold] is in force since {_instant(active.at)}, "
        f"activation {active.sequence} by {escape(active.actor)}{why}"
    )


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
