"""Packs made ready in a process of their own, against packs loaded here."""

import gc
import marshal
import weakref
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from benchmarks.rule_sets import write_packs
from hypothesis import given, settings
from tests.rules.test_ruleset import calls, known_facts, rule_sets, unknowns
from tests.running import ROOT

from consent.facts import UNKNOWN, Facts
from rules.call import Call
from rules.handover import NotReady, frames, let_go, take_in
from rules.loading import Packs, load_packs
from rules.pack import Pack
from rules.ruleset import RuleSet, evaluate
from rules.walk import CompiledRules, compile_walk
from rules.walker import Test

SHIPPED = ROOT / "deploy" / "rules"


def handed_over(packs: Packs) -> Packs:
    """The packs through the bytes that go from one process to the other."""
    return take_in([marshal.loads(marshal.dumps(frame)) for frame in frames(packs)])  # noqa: S302


@given(rule_sets(despite=True), calls(), known_facts, unknowns)
@settings(max_examples=60, deadline=None)
def test_any_set_decides_as_before(
    ruleset: RuleSet, call: Call, facts: Facts, unknown: frozenset[str]
) -> None:
    """Whatever is unknown, combinations that were not made ready included."""
    packs = Packs(MappingProxyType({"default": Pack(ruleset, ())}), (), b"", "")
    other = handed_over(packs).packs["default"].ruleset
    assert evaluate(other, call) == evaluate(ruleset, call)
    for given_ in (facts, Facts(unknown=unknown), UNKNOWN):
        assert evaluate(other, call, given_) == evaluate(ruleset, call, given_)


def test_a_large_set_comes_in_small_pieces(tmp_path: Path) -> None:
    """No frame grows with the set, and the worker rests after each, and within the last."""
    packs = load_packs(write_packs(tmp_path / "packs", 1500, seed=1))
    sizes = [len(marshal.dumps(frame)) for frame in frames(packs)]
    assert max(sizes) < 400_000
    rests: list[None] = []
    take_in(frames(packs), between=lambda: rests.append(None))
    assert len(rests) > len(sizes) + 1500 // 256


def test_walks_are_put_together_a_few_rules_at_a_time(tmp_path: Path) -> None:
    """Whoever takes a large set in looks up no more tests between two rests than a slice has."""
    ruleset = load_packs(write_packs(tmp_path / "packs", 1500, seed=1)).packs["default"].ruleset
    made, turns = Looked(ruleset.compiled.made), [0]

    def rest() -> None:
        turns.append(made.count - sum(turns))

    ready = CompiledRules.ready(
        ruleset.compiled.rules,
        keys=ruleset.compiled.keys,
        plan=ruleset.plan,
        called_uses=ruleset.called_uses,
        made=made,
        between=rest,
    )
    compile_walk(ready, default=ruleset.default, label="t@1", unknown=frozenset())
    assert made.count >= 1500
    assert max(turns) <= 256
    assert len(turns) > 10


def test_replaced_packs_go_a_few_rules_at_a_time(tmp_path: Path) -> None:
    """Freeing a large set rests in between as well, and leaves nothing of it."""
    loaded = load_packs(write_packs(tmp_path / "packs", 1500, seed=1))
    held = [take_in(frames(loaded))]
    tests = [weakref.ref(test) for test in held[0].packs["default"].ruleset.compiled.made.values()]
    del loaded
    alive = [len(tests)]
    let_go(held, between=lambda: alive.append(sum(test() is not None for test in tests)))
    assert held == []
    assert alive[0] > 1500
    assert alive[-1] == 0
    assert max(before - after for before, after in pairwise(alive)) <= 256


class Looked(dict[tuple[int, frozenset[str], bool], Test]):
    """Tests that count how often one is looked up."""

    count = 0

    def get(self, *asked: Any) -> Any:
        self.count += 1
        return super().get(*asked)

    def __getitem__(self, key: Any) -> Test:
        self.count += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.count += 1
        return super().__contains__(key)


def test_frames_that_end_early_are_no_packs() -> None:
    """Half of a set is none."""
    whole = list(frames(load_packs(SHIPPED)))
    with pytest.raises(NotReady, match="stopped before its end"):
        take_in(whole[:-1])


def test_replaced_packs_are_freed_at_once(tmp_path: Path) -> None:
    """Without a collection of garbage, which would not look at them."""
    given_ = list(frames(load_packs(write_packs(tmp_path / "packs", 40, seed=1))))
    gc.disable()
    try:
        packs = take_in(given_)
        rules = weakref.ref(packs.packs["default"].ruleset.compiled)
        evaluate(packs.packs["default"].ruleset, Call(), UNKNOWN)
        del packs
        assert rules() is None
    finally:
        gc.enable()
