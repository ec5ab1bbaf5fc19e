"""The packs as shipped, their folder, and what a reload does."""

import re
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from consent.facts import UNKNOWN
from rules.call import Call
from rules.cases import call_from, run
from rules.coverage import coverage
from rules.document import RuleSetError
from rules.explanation import explain
from rules.loading import Packs, digest, load_packs
from rules.pack import Pack
from rules.ruleset import Mode, ReadPlan, evaluate
from rules.verdict import Action, Cause

SHIPPED = Path(__file__).parents[2] / "deploy" / "rules"
NAMES = ("cn", "default", "fr", "gb", "in", "us")


@pytest.fixture(scope="module")
def packs() -> Packs:
    return load_packs(SHIPPED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped packs, to break."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "rules"))


def test_the_shipped_packs_load_and_pass_their_cases(packs: Packs) -> None:
    """Every pack, without a warning."""
    assert tuple(sorted(packs.packs)) == NAMES
    assert packs.warnings == ()
    for pack in packs.packs.values():
        assert pack.cases
        assert run(pack.ruleset, pack.cases) == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_rule_is_covered_both_ways(packs: Packs, name: str) -> None:
    """Some case has it match, some other has it tried and not match; each says why and whence."""
    for each in coverage(packs.packs[name]):
        rule = each.rule
        assert each.both_ways, f"{rule.id}: {each.matched} cases match, {each.passed} do not"
        assert rule.why.endswith(".")
        assert rule.source
        assert rule.id.startswith(f"{name}.")
        guessed = "[k]" in rule.source.split("[s]")[0]
        enforced = rule.mode is Mode.ENFORCE and rule.action is Action.BLOCK
        assert not (guessed and enforced), rule.id


def test_rules_whose_facts_come_later_are_off_and_say_so(packs: Packs) -> None:
    """Complaints and the day of a refusal are named by the packs and not guessed at."""
    waiting = {
        rule.id: rule.needs
        for pack in packs.packs.values()
        for rule in pack.ruleset.rules
        if rule.mode is Mode.OFF
    }
    assert waiting == {
        "fr.pause": ("consent.refused_at",),
    }


def test_no_case_that_knows_everything_fails_in_an_outage_by_being_harsher(packs: Packs) -> None:
    """The law, on the shipped rules and their own cases."""
    for pack in packs.packs.values():
        for case in pack.cases:
            known = explain(pack.ruleset, case.call, case.facts)
            outage = explain(pack.ruleset, case.call, UNKNOWN)
            assert outage.action <= known.action or known.degraded


@pytest.mark.parametrize(
    ("name", "cause", "code", "phrase"),
    [
        ("us", Cause.ANALYTICS, 603, "Network Blocked"),
        ("us", Cause.NETWORK_LIST, 603, "Network Blocked"),
        ("us", Cause.SUBSCRIBER_REFUSAL, 607, "Unwanted"),
        ("us", Cause.DNO, 403, "Forbidden"),
        ("us", Cause.ANONYMOUS_REJECTED, 433, "Anonymity Disallowed"),
        ("cn", Cause.SUBSCRIBER_REFUSAL, 607, "Unwanted"),
        ("cn", Cause.DNO, 403, "Forbidden"),
        ("in", Cause.TIME_BAND, 603, "Decline"),
        ("in", Cause.NO_CONSENT, 607, "Unwanted"),
        ("gb", Cause.SUBSCRIBER_REFUSAL, 607, "Unwanted"),
        ("gb", Cause.SPOOFED, 403, "Forbidden"),
        ("fr", Cause.NO_CONSENT, 607, "Unwanted"),
        ("fr", Cause.ANONYMOUS_REJECTED, 433, "Anonymity Disallowed"),
        ("default", Cause.NETWORK_LIST, 603, "Decline"),
        ("default", Cause.FREQUENCY, 603, "Decline"),
    ],
)
def test_each_cause_has_its_answer(
    packs: Packs, name: str, cause: Cause, code: int, phrase: str
) -> None:
    """By cause and jurisdiction, 603 Decline where a pack says nothing."""
    answer = packs.packs[name].ruleset.answer(cause)
    assert (answer.code, answer.phrase, answer.q850) == (code, phrase, 21)


def test_an_analytics_block_reads_as_switches_test_it(packs: Packs) -> None:
    """The phrase, a text that begins with the version, an https URL, a short id, a location."""
    ruleset = packs.packs["us"].ruleset
    answer = ruleset.answer(Cause.ANALYTICS)
    filled = answer.filled(decision_id="7ZK3ABCDEFGHJKMNPQRSTVWXYZ", redress=ruleset.redress)
    assert filled.reason == (
        'SIP;cause=603;text="v=analytics1;url=https://redress.example/us;'
        'id=7ZK3ABCDEFGHJKMNPQRSTVWXYZ";location=RLN'
    )


def test_every_label_is_told_in_english_too(packs: Packs) -> None:
    """Labels are in the country's language and in English."""
    own = {"cn": "zh-Hans", "fr": "fr", "gb": "en", "in": "hi", "us": "es"}
    for name, pack in packs.packs.items():
        labelled = [rule for rule in pack.ruleset.rules if rule.action is Action.WARN]
        assert all(rule.label and {"en", own[name]} <= rule.label.keys() for rule in labelled)


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("+8613123456789", "cn"),
        ("+12125550101", "us"),
        ("+14165550101", "default"),
        ("+447700900001", "gb"),
        ("+441534456789", "default"),
        ("+33612345678", "fr"),
        ("+918123456789", "in"),
        ("+4930123456", "default"),
        ("nonsense", "default"),
    ],
    ids=[
        *("china", "united states", "canada, which shares +1", "united kingdom"),
        *("jersey, which shares +44", "france", "india", "elsewhere", "no number"),
    ],
)
def test_the_table_gives_each_country_its_pack(packs: Packs, called: str, name: str) -> None:
    """By the country of the number, not by its code."""
    call = call_from({"calling": "+441632960001", "called": called})
    assert packs.select(call) is packs.packs[name].ruleset


def test_the_first_row_that_matches_wins(folder: Path) -> None:
    """Side and trunk narrow a row; what it leaves out matches everything."""
    table = folder / "packs.toml"
    rows = '[[pack]]\nside = "originating"\ntrunk = "t1"\npack = "us"\n'
    table.write_text(rows + table.read_text(encoding="utf-8"), encoding="utf-8")
    packs = load_packs(folder)
    call = call_from({"calling": "+441632960001", "called": "+8613123456789", "trunk": "t1"})
    assert packs.select(call).name == "cn"
    call.side = "originating"
    assert packs.select(call).name == "us"
    call.trunk = "t2"
    assert packs.select(call).name == "cn"


def test_the_default_pack_reads_nothing(packs: Packs) -> None:
    """A country without a pack costs no read, and is decided without facts."""
    ruleset = packs.packs["default"].ruleset
    assert ruleset.plan == ReadPlan()
    call = call_from({"calling": "+441632960001", "called": "+447700900001"})
    assert evaluate(ruleset, call).rule == "default"


BREAKS = [
    ("packs.toml", 'pack = "cn"', 'pack = "cnn"',
     'packs.toml:8:8: "cnn" is no pack of this folder; did you mean "cn"?'),
    ("packs.toml", 'called_country = "CN"', 'called_country = "china"',
     "called_country is ISO 3166-1"),
    ("packs.toml", 'pack = "cn"', "", "packs.toml:6:1: pack is missing"),
    ("cn/rules.toml", 'name = "cn"', 'name = "us"', 'the set "us" lies in the folder "cn"'),
    ("cn/rules.toml", 'default = "allow"', "default = allow", "cn/rules.toml:24:11: not TOML"),
    ("default/cases.toml", 'rule = "default.dno"', 'rule = "default.dmo"',
     'did you mean "default.dno"?'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    BREAKS,
    ids=[after or file for file, _, after, _ in BREAKS],
)
def test_a_folder_with_a_mistake_is_refused(
    folder: Path, file: str, before: str, after: str, message: str
) -> None:
    """The message begins with the file, as the operator sees it."""
    text = (folder / file).read_text(encoding="utf-8")
    assert before in text
    (folder / file).write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(RuleSetError, match=re.escape(message)):
        load_packs(folder)


def test_the_mistakes_of_all_packs_are_told_together(folder: Path) -> None:
    """Two packs broken, a third missing, and no table."""
    (folder / "cn" / "rules.toml").write_text("[", encoding="utf-8")
    (folder / "us" / "rules.toml").write_bytes(b"\xff")
    shutil.rmtree(folder / "default")
    (folder / "packs.toml").unlink()
    with pytest.raises(RuleSetError) as refused:
        load_packs(folder)
    assert [problem.file for problem in refused.value.problems] == [
        "cn/rules.toml",
        "us/rules.toml",
        "default",
        "packs.toml",
    ]


def test_a_reload_leaves_the_old_packs_as_they_were(folder: Path) -> None:
    """A call that took the old packs keeps them; the new ones differ in revision and digest."""
    old = load_packs(folder)
    call = call_from({"calling": "+441632960001", "called": "+4930123456"})
    call.network = 2
    before = evaluate(old.select(call), call)
    rules = folder / "default" / "rules.toml"
    text = rules.read_text(encoding="utf-8").replace("2026-11-23.1", "2026-11-23.2")
    rules.write_text(text.replace('then = "block"', 'then = "warn"'), encoding="utf-8")
    cases = folder / "default" / "cases.toml"
    text = cases.read_text(encoding="utf-8").replace('action = "block"', 'action = "warn"')
    cases.write_text(text, encoding="utf-8")
    new = load_packs(folder)
    after = evaluate(new.select(call), call)
    assert evaluate(old.select(call), call) == before
    assert (before.action, before.ruleset) == (Action.BLOCK, "default@2026-11-23.1")
    assert (after.action, after.ruleset) == (Action.WARN, "default@2026-11-23.2")
    assert old.digest != new.digest == digest(folder)


def test_packs_cannot_be_changed(packs: Packs) -> None:
    """Nothing that a call holds can be swapped under it."""
    with pytest.raises(FrozenInstanceError):
        packs.rows = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        packs.packs["cn"] = packs.packs["us"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        packs.packs["cn"].ruleset.rules = ()  # type: ignore[misc]


def test_a_verdict_names_the_revision(packs: Packs) -> None:
    """As the contract shows it."""
    pack: Pack = packs.packs["cn"]
    verdict = evaluate(pack.ruleset, Call(), UNKNOWN)
    assert verdict.ruleset == "cn@2026-11-25.1"
