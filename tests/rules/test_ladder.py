"""The ladder: who climbs it, when, and who does not."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.document import Document, RuleSetError
from rules.ladder import (
    DAY,
    Complained,
    Ladder,
    StageKind,
    Standing,
    Step,
    StepKind,
    due,
    read_ladder,
    weigh,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "ladder"
RULES = DEPLOY / "rules"
LANGUAGE = {"cn": "zh-Hans", "fr": "fr", "gb": "cy", "in": "hi", "us": "es"}
"""The language of a country's notices beside English."""
NOW = 1_790_000_000.0


def shipped(name: str) -> Ladder:
    path = FOLDER / f"{name}.toml"
    return read_ladder(Document(path.name, path.read_text()))


def complaints(count: int, *, at: float = NOW, matched: bool = True) -> list[Complained]:
    return [Complained(at, f"who{n}", f"block{n}", matched) for n in range(count)]


def step(
    ladder: Ladder, standing: Standing, heard: list[Complained], *, at: float = NOW + 1
) -> Step | None:
    return due(ladder, standing, complaints=heard, signals={}, at=at)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped(path: Path) -> None:
    """Each shipped ladder loads, and begins with a notice; its sources are marked, its notices in
    one and the same two languages."""
    ladder = shipped(path.stem)
    assert ladder.jurisdiction == path.stem.upper()
    assert ladder.stages[0].kind is StageKind.NOTICE
    languages = {frozenset(stage.notice) for stage in ladder.stages}
    assert languages == {frozenset({"en", LANGUAGE[path.stem]})}
    for stage in ladder.stages:
        assert stage.source.startswith(("[s] ", "[k] "))
        for text in stage.notice.values():
            told = text.format(caller="CALLER", since="SINCE", complainants=7, appeal="APPEAL")
            assert {"CALLER", "SINCE", "7", "APPEAL"} <= set(re.findall(r"[A-Z]{5,}|\d", told))


def test_every_pack_has_its_ladder() -> None:
    """Who ships rules for a country ships its ladder, and the rules block and warn by it."""
    packs = {path.parent.name: path for path in RULES.glob("*/rules.toml")}
    ladders = {path.stem for path in FOLDER.glob("*.toml")}
    assert set(LANGUAGE) == set(packs) - {"default"} == ladders
    for country in LANGUAGE:
        rules = {rule["id"]: rule for rule in tomllib.loads(packs[country].read_text())["rule"]}
        for stage, action in (("suspended", "block"), ("restricted", "warn")):
            rule = rules[f"{country}.entity.{stage}"]
            assert (rule["then"], rule["cause"]) == (action, "escalation")
            assert "call.authenticated" in rule["when"]


@pytest.mark.parametrize("country", sorted(LANGUAGE))
def test_from_the_notice_to_the_ground(country: str) -> None:
    """Who is complained of every day climbs every stage in order, none before its grace; who is
    left in peace then is back on the ground after the last term and the decay."""
    ladder = shipped(country)
    standing, at, kinds = Standing(), NOW, []
    while len(kinds) < len(ladder.stages):
        at += DAY / 2
        found = step(ladder, standing, complaints(6, at=at - 1), at=at)
        if found is None:
            continue
        if found.kind is StepKind.RAISED:
            assert not standing.level or at >= standing.since + found.stage.grace
            kinds.append(found.stage.kind)
        standing = standing.after(found)
    assert kinds == [stage.kind for stage in ladder.stages]
    last = complaints(6, at=at - 1)
    cleared = None
    while standing.level:
        at += DAY
        cleared = step(ladder, standing, last, at=at)
        standing = standing.after(cleared) if cleared else standing
    assert cleared is not None
    assert cleared.kind is StepKind.CLEARED
    assert at >= last[0].at + ladder.decay


def test_climbs_stage_by_stage() -> None:
    """Notice, restriction, suspension, exposure: each after the one before, on new complaints."""
    ladder = shipped("cn")
    standing, at, kinds = Standing(), NOW, []
    for _ in range(40):
        at += DAY
        found = step(ladder, standing, complaints(6, at=at - 1), at=at)
        if found is not None and found.kind is StepKind.RAISED:
            kinds.append(found.stage.kind)
        if found is not None:
            standing = standing.after(found)
    assert kinds == list(StageKind)


def test_who_stops_climbs_no_further() -> None:
    """Complaints from before the notice do not count toward what follows it."""
    ladder = shipped("cn")
    heard = complaints(50)
    raised = step(ladder, Standing(), heard)
    assert raised is not None
    assert raised.stage.kind is StageKind.NOTICE
    standing = Standing().after(raised)
    assert step(ladder, standing, heard, at=NOW + 5 * DAY) is None
    cleared = step(ladder, standing, heard, at=NOW + 91 * DAY)
    assert cleared is not None
    assert cleared.kind is StepKind.CLEARED
    assert standing.after(cleared) == Standing()


def test_grace_after_the_notice() -> None:
    """Complaints right after the notice wait for its grace."""
    ladder = shipped("cn")
    standing = Standing(1, NOW)
    heard = complaints(9, at=NOW + 10)
    assert step(ladder, standing, heard, at=NOW + 2.9 * DAY) is None
    raised = step(ladder, standing, heard, at=NOW + 3 * DAY)
    assert raised is not None
    assert raised.stage.kind is StageKind.RESTRICTED


def test_term() -> None:
    """A suspension ends by itself, and the next one is longer (TCCCPR)."""
    ladder = shipped("in")
    standing = Standing(2, NOW)
    assert standing.kind(ladder) is StageKind.SUSPENDED
    assert step(ladder, standing, [], at=NOW + 15 * DAY - 1) is None
    ended = step(ladder, standing, [], at=NOW + 15 * DAY)
    assert ended is not None
    standing = standing.after(ended)
    assert standing.kind(ladder) is None
    raised = step(ladder, standing, complaints(5, at=NOW + 20 * DAY), at=NOW + 21 * DAY)
    assert raised is not None
    assert (raised.stage.kind, raised.stage.term) == (StageKind.EXPOSED, 365 * DAY)


def test_an_appeal_pauses() -> None:
    """While an appeal is open nothing is due and no stage is in force."""
    ladder = shipped("in")
    standing = Standing(2, NOW, paused=True)
    assert standing.kind(ladder) is None
    assert step(ladder, standing, complaints(99), at=NOW + 400 * DAY) is None


def test_signals_beside_complaints() -> None:
    """A stage that asks for conduct is not reached by complaints alone, nor by what is unknown."""
    text = (FOLDER / "cn.toml").read_text()
    text = text.replace("[stage.notice]", "[stage.signals]\nattempts_24h = 100\n[stage.notice]", 1)
    ladder = read_ladder(Document("cn.toml", text))
    for signals, reached in (({}, False), ({"attempts_24h": 99.0}, False),
                             ({"attempts_24h": 100.0}, True)):  # fmt: skip
        found = due(ladder, Standing(), complaints=complaints(5), signals=signals, at=NOW + 1)
        assert (found is not None) is reached


@pytest.mark.parametrize(
    ("heard", "weight"),
    [
        pytest.param(complaints(1) * 100, 1.0, id="one complainant, a hundred times"),
        pytest.param([Complained(NOW, f"w{n}", "one", True) for n in range(50)], 3.0, id="a block"),
        pytest.param(complaints(10, matched=False), 0.0, id="unmatched"),
        pytest.param(
            complaints(2) + [Complained(NOW, f"u{n}", f"u{n}", False) for n in range(9)],
            4.0,
            id="unmatched beside matched",
        ),
        pytest.param([*complaints(1, matched=False), *complaints(1)], 1.0, id="matched at last"),
        pytest.param(complaints(4), 4.0, id="four people"),
    ],
)
def test_bombing(heard: list[Complained], weight: float) -> None:
    """Neither one person nor one office climbs the ladder for a caller."""
    assert weigh(shipped("cn"), heard, after=0)[0] == pytest.approx(weight)


@given(
    heard=st.lists(
        st.builds(
            Complained,
            st.floats(NOW - 30 * DAY, NOW + 60 * DAY),
            st.sampled_from([f"w{n}" for n in range(12)]),
            st.sampled_from([f"b{n}" for n in range(6)]),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_never_two_stages_at_once(heard: list[Complained]) -> None:
    """Whatever is complained of, a stage follows the one before it, after its grace."""
    ladder = shipped("cn")
    standing, at = Standing(), NOW
    for _ in range(90):
        at += DAY
        found = step(ladder, standing, heard, at=at)
        if found is None:
            continue
        after = standing.after(found)
        assert after.level <= standing.level + 1
        if found.kind is StepKind.RAISED and standing.level:
            assert at >= standing.since + found.stage.grace
            counted = [each for each in heard if each.at > standing.since]
            assert weigh(ladder, counted, after=0)[0] >= found.stage.complainants
        standing = after


BROKEN = {
    "kind": ('kind = "notice"', 'kind = "notise"', '"notise" is no stage kind', "notise"),
    "milder": ('kind = "exposed"', 'kind = "notice"', "a notice after a suspended", "notice"),
    "twice": ('id = "restricted"', 'id = "notice"', 'a second stage with the id', "notice"),
    "negative": ("decay_days = 90", "decay_days = -1", "decay_days is at least 0", "-1"),
    "key": ("match_days = 3", "match_dais = 3", 'unknown key "match_dais"', "match_dais"),
    "grace": ("grace_days = 3\n", "", "grace_days is missing", "[[stage]]"),
    "notice": ('en = "{caller}: since', 'en = "Since', 'a text that names "{caller}"', "Since"),
    "signal": ("[stage.notice]", "[stage.signals]\nattempts = 1\n[stage.notice]",
               '"attempts" is no signal', "attempts"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message", "shown"), BROKEN.values(), ids=BROKEN)
def test_broken(old: str, new: str, message: str, shown: str) -> None:
    """A mistake is told with its place."""
    text = (FOLDER / "cn.toml").read_text()
    assert old in text
    with pytest.raises(RuleSetError) as refused:
        read_ladder(Document("cn.toml", text.replace(old, new, 1)))
    problem = next(each for each in refused.value.problems if message in str(each))
    assert shown in problem.excerpt
