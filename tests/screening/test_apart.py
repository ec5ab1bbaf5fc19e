"""Packs loaded in a process of their own, against packs loaded here."""

import os
import signal
import threading
from pathlib import Path

import pytest
from benchmarks.rule_sets import write_packs
from tests.running import ROOT, Running, children, command_of, running_service, wait_for
from tests.servers import eventually

from consent.facts import UNKNOWN
from rules.bundle import BundleError
from rules.cases import decide
from rules.document import RuleSetError
from rules.explanation import explain
from rules.handover import NotReady
from rules.loading import load_bundle, load_packs
from screening.apart import Apart

SHIPPED = ROOT / "deploy" / "rules"


def test_a_folder_and_its_bundle_are_what_they_are_here() -> None:
    """Content, table and warnings; each case of each pack comes to the same, explained as well."""
    here = load_packs(SHIPPED)
    for packs in (Apart().folder(SHIPPED), Apart().bundle(here.content)):
        assert (packs.content, packs.digest, packs.rows) == (here.content, here.digest, here.rows)
        assert packs.warnings == here.warnings
        assert list(packs.packs) == list(here.packs)
        for name, pack in here.packs.items():
            other = packs.packs[name].ruleset
            assert (other.label, other.plan, other.sip) == (
                pack.ruleset.label,
                pack.ruleset.plan,
                pack.ruleset.sip,
            )
            for case in pack.cases:
                for facts in (case.facts, UNKNOWN):
                    found = decide(other, case.call, facts)
                    assert found == decide(pack.ruleset, case.call, facts)
                explained = explain(other, case.call, case.facts)
                assert explained == explain(pack.ruleset, case.call, case.facts)


def test_what_is_wrong_is_told_as_here(tmp_path: Path) -> None:
    """The same problems of the same places; a bundle that is none is told likewise."""
    packs = write_packs(tmp_path / "packs", 5, seed=1)
    file = packs / "default" / "rules.toml"
    file.write_text(file.read_text().replace("calling.dno", "calling.dnoo"), "utf-8")
    problems = []
    for load in (load_packs, Apart().folder):
        with pytest.raises(RuleSetError) as refused:
            load(packs)
        problems.append(refused.value.problems)
    assert problems[0] == problems[1]
    assert "did you mean" in str(problems[0][0])
    for content in (b"no bundle", b'{"a":1}'):
        for load_content in (load_bundle, Apart().bundle):
            with pytest.raises(BundleError):
                load_content(content)


def test_a_process_that_is_ended_is_told(tmp_path: Path) -> None:
    """Whoever loads is told, at once; nothing is begun after a stop."""
    packs = write_packs(tmp_path / "packs", 3000, seed=1)
    apart, told = Apart(), []

    def load() -> None:
        try:
            apart.folder(packs)
        except NotReady as reason:
            told.append(str(reason))

    thread = threading.Thread(target=load)
    thread.start()
    eventually(lambda: apart._aside._process is not None)
    apart.stop()
    thread.join(timeout=30)
    assert told == ["making the rules ready: it ended with -9: no message"]
    with pytest.raises(NotReady, match="the service stops"):
        apart.folder(packs)


def loads(service: Running) -> list[int]:
    """The processes of a service that load rules for it."""
    below = [each for worker in service.workers() for each in children(worker)]
    return [each for each in below if "screening.apart" in command_of(each)]


def test_a_service_whose_loading_is_killed_keeps_its_rules(tmp_path: Path) -> None:
    """It says so, and takes the rules in when they change again."""
    packs = write_packs(tmp_path / "rules", 10, seed=1)
    with running_service(tmp_path / "state", rules_dir=str(packs)) as service:
        larger = write_packs(tmp_path / "larger", 3000, seed=1, revision="larger.1")
        for name in ("cases.toml", "rules.toml"):
            (larger / "default" / name).replace(packs / "default" / name)
        loading: list[int] = []

        def kills() -> bool:
            loading.extend(loads(service))
            for pid in loading:
                os.kill(pid, signal.SIGKILL)
            return bool(loading)

        wait_for(kills, seconds=20, what="the rules to be loaded apart")
        wait_for(
            lambda: "ended with -9" in str(service.ready()["failures"]),
            seconds=20,
            what="the failure to be told",
        )
        assert service.ready()["rules"] == {"default": "default@bench.1"}
        (packs / "default" / "rules.toml").touch()
        wait_for(
            lambda: service.ready()["rules"] == {"default": "default@larger.1"},
            seconds=60,
            what="the rules in force",
        )
        assert service.ready()["failures"] == {}
