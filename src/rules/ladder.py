"""The ladder: notice, restriction, suspension, exposure, by complaints and conduct, as data.

Pure: what is known of a caller goes in with the instant, and the one step that is due comes out.

Invariants: no stage without the one before it; complaints count toward a stage only once the
stage before it has begun, so that who stops after a notice climbs no further; while an appeal is
open nothing is due.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path as FolderPath
from typing import Any, Final, Self

from rules.document import Document, Path, Reader, RuleSetError

DAY: Final = 86_400.0


class StageKind(StrEnum):
    """What a stage does to the calls of who stands on it."""

    NOTICE = "notice"
    """Nothing: the caller is told."""
    RESTRICTED = "restricted"
    """Its calls are warned of."""
    SUSPENDED = "suspended"
    """Its calls are blocked."""
    EXPOSED = "exposed"
    """Its calls are blocked and it is named."""


class StepKind(StrEnum):
    """A change of where a caller stands."""

    RAISED = "raised"
    ENDED = "ended"
    """The term of a stage is over; a further stage is still reached from it."""
    CLEARED = "cleared"
    """Long enough without complaints: back to the ground."""


SIGNALS: Final = {
    "attempts_24h": "calls tried in 24 hours",
    "distinct_called_24h": "numbers called in 24 hours",
    "short_share_24h": "share of the answered calls that were shorter than 6 s",
}
"""The signals that a stage may ask for, each as the least value of it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; times in seconds, 0 for none.

    `complainants` is the least weight of distinct complainants within `window`; `grace` is how
    long the stage before must have lasted; `term` how long this one does; `signals` the least
    values of SIGNALS beside the complaints.
    """

    id: str
    kind: StageKind
    complainants: float
    window: float
    grace: float
    term: float
    signals: tuple[tuple[str, float], ...]
    why: str
    source: str
    notice: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The ladder of one jurisdiction (ISO 3166-1); times in seconds.

    `match_window`: how far back a complaint finds its call. `unmatched_weight`: what a complaint
    counts that found none, where one that did counts 1. `most_of_a_block`: complainants whose
    numbers lie in one block count as so many at most. `decay`: without complaints for so long a
    caller is back on the ground. `appeal`: the time to decide an appeal; `feedback`: the time to
    answer a complaint.
    """

    jurisdiction: str
    revision: str
    match_window: float
    unmatched_weight: float
    most_of_a_block: int
    decay: float
    appeal: float
    feedback: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Complained:
    """One complaint that counts: when, by whom (a token), from which block, matched or not."""

    at: float
    complainant: str
    block: str
    matched: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands: on stage `level` (0: the ground) since `since`; `over` once the
    term of that stage has ended, `paused` while an appeal is open."""

    level: int = 0
    since: float = 0.0
    over: bool = False
    paused: bool = False

    def kind(self, ladder: Ladder) -> StageKind | None:
        """The stage in force, None for none."""
        if self.level == 0 or self.over or self.paused:
            return None
        return ladder.stages[self.level - 1].kind

    def after(self, step: "Step") -> Self:
        """The standing once a step is taken."""
        match step.kind:
            case StepKind.RAISED:
                return type(self)(self.level + 1, step.at)
            case StepKind.ENDED:
                return type(self)(self.level, self.since, over=True)
            case StepKind.CLEARED:
                return type(self)()


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is due: to which stage, and on what it rests."""

    kind: StepKind
    stage: Stage
    at: float
    weight: float = 0.0
    complainants: int = 0


def due(
    ladder: Ladder,
    standing: Standing,
    *,
    complaints: Sequence[Complained],
    signals: Mapping[str, float],
    at: float,
) -> Step | None:
    """The step that is due at an instant (epoch seconds), None for none.

    `signals` are those of the caller now, by the names of SIGNALS; one that is absent is not
    known, and reaches no stage that asks for it.
    """
    if standing.paused:
        return None
    current = ladder.stages[standing.level - 1] if standing.level else None
    running = current is not None and current.term and not standing.over
    if current is not None and running and at >= standing.since + current.term:
        return Step(StepKind.ENDED, current, at)
    heard = [each for each in complaints if each.at <= at]
    if standing.level < len(ladder.stages):
        stage = ladder.stages[standing.level]
        weight, distinct = weigh(
            ladder, heard, after=max(at - stage.window, standing.since if standing.level else 0.0)
        )
        waited = standing.level == 0 or at >= standing.since + stage.grace
        conduct = all(signals.get(name, -1.0) >= least for name, least in stage.signals)
        if waited and weight >= stage.complainants and conduct:
            return Step(StepKind.RAISED, stage, at, weight, distinct)
    if current is not None and not running:
        newest = max((each.at for each in heard), default=0.0)
        begun = standing.since + (current.term if standing.over else 0.0)
        if at >= max(newest, begun) + ladder.decay:
            return Step(StepKind.CLEARED, current, at)
    return None


def weigh(ladder: Ladder, complaints: Sequence[Complained], *, after: float) -> tuple[float, int]:
    """The weight of the distinct complainants beyond an instant, and how many there are.

    Each complainant counts once, at its best; those of one block as `most_of_a_block` at most,
    so that neither one person nor one office can climb the ladder for a caller. Complaints that
    found no call weigh together no more than those that did: the number may have been spoofed.
    """
    best: dict[str, tuple[float, str]] = {}
    for each in complaints:
        if each.at > after:
            weight = 1.0 if each.matched else ladder.unmatched_weight
            if weight > best.get(each.complainant, (0.0, ""))[0]:
                best[each.complainant] = (weight, each.block)
    blocks: dict[str, list[float]] = {}
    for weight, block in best.values():
        blocks.setdefault(block, []).append(weight)
    counted = [
        sorted(weights, reverse=True)[: ladder.most_of_a_block] for weights in blocks.values()
    ]
    matched = sum(weight for weights in counted for weight in weights if weight >= 1.0)
    return matched + min(matched, sum(map(sum, counted)) - matched), sum(map(len, counted))


def load_ladders(folder: FolderPath) -> dict[str, Ladder]:
    """The ladders of a folder by jurisdiction. Raises RuleSetError, and OSError."""
    ladders: dict[str, Ladder] = {}
    for path in sorted(folder.glob("*.toml")):
        document = Document(path.name, path.read_text("utf-8"))
        ladder = read_ladder(document)
        if ladder.jurisdiction in ladders:
            reader = Reader(document)
            reader.wrong(("ladder", "jurisdiction"), "another file has the ladder of this country")
            raise RuleSetError(reader.problems)
        ladders[ladder.jurisdiction] = ladder
    return ladders


# Reading

_NUMBER: Final = (int, float)
_TOP: Final[dict[str, tuple[type, ...]]] = {"ladder": (dict,), "stage": (list,)}
_HEAD: Final[dict[str, tuple[type, ...]]] = {
    "jurisdiction": (str,), "revision": (str,), "match_days": _NUMBER,
    "unmatched_weight": _NUMBER, "most_of_a_block": (int,), "decay_days": _NUMBER,
    "appeal_days": _NUMBER, "feedback_days": _NUMBER, "about": (str,),
}  # fmt: skip
_STAGE: Final[dict[str, tuple[type, ...]]] = {
    "id": (str,), "kind": (str,), "complainants": _NUMBER, "within_days": _NUMBER,
    "grace_days": _NUMBER, "term_days": _NUMBER, "signals": (dict,), "why": (str,),
    "source": (str,), "notice": (dict,),
}  # fmt: skip


def read_ladder(document: Document) -> Ladder:
    """The ladder that a TOML document holds. Raises RuleSetError with every problem."""
    reader = Reader(document)
    top = reader.table(document.data, (), _TOP, required=("ladder", "stage"))
    head = reader.table(
        top.get("ladder", {}), ("ladder",), _HEAD, required=tuple(set(_HEAD) - {"about"})
    )
    for name in ("match_days", "unmatched_weight", "decay_days", "appeal_days", "feedback_days"):
        _least(reader, head, ("ladder",), name)
    _least(reader, head, ("ladder",), "most_of_a_block", least=1)
    stages = tuple(
        _stage(reader, value, ("stage", at), first=at == 0)
        for at, value in enumerate(top.get("stage", []))
    )
    order = list(StageKind)
    for at, (before, stage) in enumerate(pairwise(stages), start=1):
        if before and stage and order.index(stage.kind) < order.index(before.kind):
            reader.wrong(("stage", at, "kind"), f"a {stage.kind} after a {before.kind} is milder")
    ids = [stage.id for stage in stages if stage]
    for at, name in enumerate(ids):
        if name in ids[:at]:
            reader.wrong(("stage", at, "id"), f'a second stage with the id "{name}"')
    if reader.problems:
        raise RuleSetError(reader.problems)
    return Ladder(
        jurisdiction=head["jurisdiction"],
        revision=head["revision"],
        match_window=head["match_days"] * DAY,
        unmatched_weight=float(head["unmatched_weight"]),
        most_of_a_block=head["most_of_a_block"],
        decay=head["decay_days"] * DAY,
        appeal=head["appeal_days"] * DAY,
        feedback=head["feedback_days"] * DAY,
        stages=tuple(stage for stage in stages if stage),
    )


def _stage(reader: Reader, value: object, path: Path, *, first: bool) -> Stage | None:
    required = ("id", "kind", "complainants", "within_days", "why", "source", "notice")
    good = reader.table(value, path, _STAGE, required=required)
    if not first and "grace_days" not in good:
        reader.wrong(path, "grace_days is missing: how long the stage before must have lasted")
    known = "kind" in good and reader.choice(
        good["kind"], (*path, "kind"), list(StageKind), "stage kind"
    )
    for name in ("complainants", "within_days", "grace_days", "term_days"):
        _least(reader, good, path, name)
    signals = good.get("signals", {})
    for name, least in signals.items():
        place = (*path, "signals", name)
        if reader.choice(name, place, SIGNALS, "signal") and type(least) not in _NUMBER:
            reader.wrong(place, "expected the least value, a number")
    texts = good.get("notice", {})
    for language, text in texts.items():
        if not isinstance(text, str) or "{caller}" not in text:
            reader.wrong((*path, "notice", language), 'expected a text that names "{caller}"')
    if not known or any(name not in good for name in required):
        return None
    return Stage(
        id=good["id"],
        kind=StageKind(good["kind"]),
        complainants=float(good["complainants"]),
        window=good["within_days"] * DAY,
        grace=good.get("grace_days", 0) * DAY,
        term=good.get("term_days", 0) * DAY,
        signals=tuple(sorted((name, float(least)) for name, least in signals.items()
                             if type(least) in _NUMBER)),
        why=good["why"],
        source=good["source"],
        notice=dict(texts),
    )  # fmt: skip


def _least(
    reader: Reader, good: dict[str, Any], path: Path, name: str, *, least: float = 0
) -> None:
    if good.get(name, least) < least:
        reader.wrong((*path, name), f"{name} is at least {least:g}")
