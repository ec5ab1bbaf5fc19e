"""`screening rules replay` and `screening rules force`: what a change of rules would do to the
calls decided lately, and the way past the guard."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from consent.signing import TrustedKeys
from rules.loading import Packs, load_bundle, load_packs
from rules.replay import Comparison, Example, Sample, Tally, compare
from rules.verdict import Action, Verdict
from screening.blast_radius import Judgement, force
from screening.commands.actor import actor
from screening.distribution import load_rules
from screening.in_force import KEPT
from screening.recall import FOLDER, Recalled
from screening.settings import Settings
from screening.state import State, open_files

REFUSED = 3
"""The exit code where the guard would refuse the activation."""

_COLOURS = {Action.ALLOW: "green", Action.WARN: "yellow", Action.BLOCK: "red"}
_MOST_ROWS = 30
_FACTS_SHOWN = 6


def replay(
    new: Annotated[
        str,
        typer.Argument(help="What would come into force: a folder, a bundle, or a revision."),
    ],
    against: Annotated[
        str,
        typer.Option(help="What to compare with, named likewise; what is in force if left out."),
    ] = "",
    log: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Another recall, or one file of it; this node's own if left out.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decide the calls of the last hours under two sets of packs, and say what changes.

    Exit code 0 where the guard would let the new packs pass, 3 where it would refuse them. A
    call whose verdict hangs on a fact that was not read for it is undecided, and not judged.
    """
    settings = Settings()
    errors = Console(stderr=True, highlight=False)
    with open_files(settings) as state:
        before = _rules(state, against) if against else _in_force(state)
        after = _rules(state, new)
        recalled = Recalled(log or state.folder / FOLDER, state.keyring)
        found = compare(before, after, _watched(recalled, errors))
    judgement = Judgement.of(found, limit_percent=settings.blast_radius_percent)
    if as_json:
        print(json.dumps(document(found, judgement, recalled), indent=2, ensure_ascii=False))
    else:
        _show(found, judgement, recalled, Console(highlight=False))
    if judgement.refuses:
        raise typer.Exit(REFUSED)


def force_rules(
    reason: Annotated[str, typer.Option(help="Why; the audit keeps it.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the packs; the configured one if left out.")
    ] = None,
) -> None:
    """Let the guard pass these packs, exactly as they are now, within the next hour."""
    if not reason.strip():
        raise typer.BadParameter("expected a reason, for the audit")
    settings = Settings()
    packs = load_packs(folder or settings.rules_dir)
    with open_files(settings) as state:
        # The audit first: what cannot be kept is not done.
        state.record().audit.append(
            "rules.force", subject=packs.digest, actor=actor(), detail={"reason": reason}
        )
        force(state.folder, digest=packs.digest, at=time.time())
    print(f"{packs.digest[:12]} passes the guard within the next hour")


def _rules(state: State, word: str) -> Packs:
    """The rules of a folder, a bundle's file or a revision. Raises RuleSetError, BundleError."""
    path, settings = Path(word), state.settings
    if path.is_dir():
        return load_packs(path)
    if path.is_file():
        return load_bundle(path.read_bytes())
    trusted = TrustedKeys.load(settings.rule_keys)
    revision = state.record().rulebook.find(word).digest
    return load_rules(state.record(), revision, folder=settings.rules_dir, trusted=trusted)


def _in_force(state: State) -> Packs:
    """What the worker here runs: where the guard refused the folder, not what lies in it."""
    kept = state.folder / KEPT
    if kept.is_file():
        return load_bundle(kept.read_bytes())
    trusted = TrustedKeys.load(state.settings.rule_keys)
    digest = state.record().rulebook.active().digest
    return load_rules(state.record(), digest, folder=state.settings.rules_dir, trusted=trusted)


def _watched(recalled: Recalled, console: Console) -> Iterator[Sample]:
    columns = (
        TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=recalled.calls)
        for sample in recalled.samples():
            yield sample
            bars.advance(task)


def document(found: Comparison, judgement: Judgement, recalled: Recalled) -> dict[str, Any]:
    """The comparison as JSON: counts of calls, shares in percent of those judged."""
    return {
        "samples": found.samples,
        "since": recalled.since,
        "damaged": recalled.damaged,
        "safeguarded": found.safeguarded,
        "undecided": found.undecided,
        "unread": [
            {"fact": fact, "calls": count, "percent": _percent(count, found.samples)}
            for fact, count in found.unread.most_common()
        ],
        "judged": found.judged,
        "changed": found.changed,
        "changed_percent": round(found.changed_percent, 3),
        "causes_changed": found.causes_changed,
        "limit_percent": judgement.limit_percent,
        "enough": judgement.enough,
        "refused": judgement.refuses,
        "total": _counts(found.total),
        "changes": [
            {"before": before.word, "after": after.word, "calls": count}
            for (before, after), count in found.changes.most_common()
        ],
        "packs": {name: _counts(tally) for name, tally in sorted(found.packs.items())},
        "rules": [
            {"pack": pack, "rule": rule, **_counts(tally)}
            for (pack, rule), tally in sorted(found.rules.items())
        ],
        "categories": {name: _counts(tally) for name, tally in sorted(found.categories.items())},
        "shadow": [
            {"pack": pack, "rule": rule, "before": before, "after": after}
            for (pack, rule), (before, after) in sorted(found.shadow.items())
        ],
        "errors": [
            {"pack": pack, "rule": rule, "calls": count}
            for (pack, rule), count in found.errors.most_common()
        ],
        "examples": [
            {
                "calling": each.calling,
                "called": each.called,
                "category": each.category,
                "at": each.at,
                "before": _verdict(each.before),
                "after": _verdict(each.after),
            }
            for each in found.examples
        ],
    }


def _counts(tally: Tally) -> dict[str, Any]:
    return {
        side: {
            **{action.word: counts[action] for action in Action},
            "block_percent": _percent(counts[Action.BLOCK], counts.total()),
        }
        for side, counts in (("before", tally.before), ("after", tally.after))
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "action": verdict.action.word,
        "cause": verdict.cause,
        "rule": verdict.rule,
        "ruleset": verdict.ruleset,
        "trace": list(verdict.trace),
    }


def _percent(count: int, total: int) -> float:
    return round(100 * count / total, 3) if total else 0.0


def _show(found: Comparison, judgement: Judgement, recalled: Recalled, out: Console) -> None:
    hours = max(0.0, time.time() - recalled.since) / 3600
    out.print(f"{found.samples:,} calls of the last {hours:.1f} h, {found.judged:,} judged")
    if recalled.damaged:
        out.print(f"[yellow]{recalled.damaged} files or parts of them could not be read[/yellow]")
    if found.undecided:
        share = _percent(found.undecided, found.samples)
        out.print(f"{found.undecided:,} ({share:.1f} %) hang on facts not read for them:")
        for fact, count in found.unread.most_common():
            out.print(f"  {fact:20} {count:>9,}  {_percent(count, found.samples):5.1f} %")
    rates = Table("action", *_right("before", "%", "after", "%"))
    for action in Action:
        before, after = found.total.before[action], found.total.after[action]
        rates.add_row(
            Text(action.word, _COLOURS[action]),
            f"{before:,}", f"{_percent(before, found.judged):.2f}",
            f"{after:,}", f"{_percent(after, found.judged):.2f}",
        )  # fmt: skip
    out.print(rates)
    if found.changes:
        changes = Table("changes", *_right("calls", "%"))
        for (old, new), count in found.changes.most_common():
            words = Text.assemble((old.word, _COLOURS[old]), " to ", (new.word, _COLOURS[new]))
            changes.add_row(words, f"{count:,}", f"{_percent(count, found.judged):.2f}")
        out.print(changes)
    if found.causes_changed:
        out.print(f"{found.causes_changed:,} of the same action have another cause")
    _show_rules(found, out)
    _show_shares("category", found.categories.items(), out)
    _show_shares("pack", found.packs.items(), out)
    for (pack, rule), (before, after) in sorted(found.shadow.items()):
        out.print(f"shadow {pack}/{rule}: {before:,} before, {after:,} after")
    for (pack, rule), count in found.errors.most_common():
        out.print(f"[yellow]{pack}/{rule} failed on {count:,} calls[/yellow]")
    for example in found.examples:
        out.print(_tree(example))
    colour, word = ("red", "refused") if judgement.refuses else ("green", "passes")
    out.print(Text.assemble((word, colour), f": {judgement}"))


def _right(*names: str) -> list[Any]:
    from rich.table import Column

    return [Column(name, justify="right") for name in names]


def _show_rules(found: Comparison, out: Console) -> None:
    """The rules that decide more calls or fewer, the most changed first."""

    def moved(tally: Tally) -> int:
        return abs(tally.after.total() - tally.before.total())

    changed = {name: tally for name, tally in found.rules.items() if tally.before != tally.after}
    if not changed:
        return
    table = Table("rule", *_right("before", "after", "difference"))
    for (pack, rule), tally in sorted(changed.items(), key=lambda item: -moved(item[1]))[
        :_MOST_ROWS
    ]:
        before, after = tally.before.total(), tally.after.total()
        table.add_row(f"{pack}/{rule}", f"{before:,}", f"{after:,}", f"{after - before:+,}")
    out.print(table)


def _show_shares(what: str, tallies: Iterable[tuple[str, Tally]], out: Console) -> None:
    table = Table(what, *_right("calls", "blocked % before", "after"))
    for name, tally in sorted(tallies):
        table.add_row(
            name or "(none)",
            f"{max(tally.before.total(), tally.after.total()):,}",
            f"{_blocked(tally.before):.2f}",
            f"{_blocked(tally.after):.2f}",
        )
    if table.row_count:
        out.print(table)


def _blocked(counts: Counter[Action]) -> float:
    return _percent(counts[Action.BLOCK], counts.total())


def _tree(example: Example) -> Tree:
    before, after = example.before, example.after
    tree = Tree(
        Text.assemble(
            f"{example.calling} calls {example.called}",
            f", {example.category}: " if example.category else ": ",
            (before.action.word, _COLOURS[before.action]),
            f" by {before.rule}, then ",
            (after.action.word, _COLOURS[after.action]),
            f" by {after.rule}",
        )
    )
    for side, verdict in (("before", before), ("after", after)):
        branch = tree.add(f"{side}, {escape(verdict.ruleset)}")
        for entry in verdict.trace:
            facts = ", ".join(f"{name} = {value}" for name, value in entry["facts"].items())
            branch.add(Text(f"{entry['outcome']:8}{entry['rule']}  {facts}"))
    return tree
