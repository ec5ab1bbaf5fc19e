"""The guard by itself: what it says where it is not asked for a count of changes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.running import ROOT

from consent.keyring import Keyring
from rules.loading import Packs, load_packs
from rules.replay import Comparison
from rules.verdict import Action
from screening.blast_radius import FORCE_SECONDS, Guard, Judgement, force

NOW = 1_795_435_200.0


@pytest.fixture(scope="module")
def packs() -> Packs:
    """What is in force."""
    return load_packs(ROOT / "deploy" / "rules")


@pytest.mark.parametrize(
    ("changed", "judged", "limit", "refuses"),
    [
        (50, 1000, 5.0, False),
        (51, 1000, 5.0, True),
        (999, 999, 5.0, False),
        (1000, 1000, 100.0, False),
        (1, 1000, 0.0, True),
        (0, 1000, 0.0, False),
    ],
)
def test_the_limit_is_of_the_judged(changed: int, judged: int, limit: float, refuses: bool) -> None:
    """More than the share is refused, the share itself is not, nor anything of too few calls;
    undecided calls make the share neither smaller nor greater."""
    for undecided in (0, 5000):
        found = Comparison(
            samples=judged + undecided,
            undecided=undecided,
            changes=Counter({(Action.ALLOW, Action.BLOCK): changed}),
        )
        assert Judgement.of(found, limit_percent=limit).refuses == refuses


def test_what_changes_nothing_or_comes_first_is_not_compared(packs: Packs, tmp_path: Path) -> None:
    """No process is started for it: the folder has no key file, with which it would be told."""
    guard = Guard(tmp_path, limit_percent=0)
    assert guard.against(None, packs) == ""
    assert guard.against(packs, packs) == ""
    assert Guard(tmp_path, limit_percent=100).against(packs, replace(packs, digest="x")) == ""


def test_before_the_first_call_it_lets_pass_and_says_so(
    packs: Packs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A ring that has kept no call has no folder either."""
    Keyring.load_or_create(tmp_path / "secrets.json")
    assert Guard(tmp_path, limit_percent=0).against(packs, replace(packs, digest="x")) == ""
    assert "it cannot judge them: 0 of 0 sampled verdicts" in caplog.text


def test_a_guard_that_cannot_judge_refuses(packs: Packs, tmp_path: Path) -> None:
    """A comparison that fails is no consent; a person can force it."""
    Keyring.load_or_create(tmp_path / "secrets.json")
    (tmp_path / "secrets.json").chmod(0o644)
    other = replace(packs, digest="x")
    guard = Guard(tmp_path, limit_percent=5, clock=lambda: NOW)
    assert "cannot be told: the replay: it ended with 1" in guard.against(packs, other)
    force(tmp_path, digest="x", at=NOW - FORCE_SECONDS + 1)
    assert guard.against(packs, other) == ""
    guard.stop()
    assert "the service stops" in guard.against(packs, replace(packs, digest="y"))


@pytest.mark.parametrize("at", [NOW - FORCE_SECONDS, NOW + 1], ids=["too old", "to come"])
def test_a_force_does_not_last(at: float, packs: Packs, tmp_path: Path) -> None:
    """An hour later the same rules are judged again."""
    guard = Guard(tmp_path, limit_percent=5, clock=lambda: NOW)
    guard.stop()
    force(tmp_path, digest="x", at=at)
    assert "the service stops" in guard.against(packs, replace(packs, digest="x"))
