"""Replay and guard, on a service that has answered calls."""

import asyncio
import json
import re
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.running import ROOT, Running, running_service, wait_for
from tests.switch import ask

RELOAD = "/v1/admin/rules/reload"
ENOUGH = 1_000
BLOCK_ALL = 'called.number != "" || called.refuses("all")'
"""Blocks whatever is not known of a call, and so is judged on every sample."""


def asked(service: Running, questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to some questions, asked over a few connections at once."""
    parts = urlsplit(service.url)
    answers: list[dict[str, Any]] = [{} for _ in questions]

    async def switch(first: int, step: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for index in range(first, len(questions), step):
            answers[index] = (await ask(reader, writer, questions[index])).verdict
        writer.close()
        await writer.wait_closed()

    async def switches() -> None:
        await asyncio.gather(*(switch(first, 4) for first in range(4)))

    asyncio.run(switches())
    return answers


def national(count: int, *, name: str = "ca") -> list[dict[str, Any]]:
    """Calls within Canada: the default pack decides them, without reading the index."""
    return [
        {
            "calling": f"+141655501{index % 50:02}",
            "called": f"+143755501{index % 100:02}",
            "call_id": f"{name}-{index}",
        }
        for index in range(count)
    ]


def american(count: int) -> list[dict[str, Any]]:
    """Calls that the pack "us" decides, by reading the index."""
    return [
        {
            "calling": "+12125550123",
            "called": f"+1212555{100 + index % 100:04}",
            "call_id": f"us-{index}",
        }
        for index in range(count)
    ]


def kept(service: Running, count: int) -> None:
    """Wait until so many calls are kept."""
    wait_for(
        lambda: service.metric("screening_recall_calls") >= count,
        seconds=20,
        what=f"{count} calls to be kept",
    )


def packs_with(folder: Path, when: str, *, pack: str = "default", then: str = "block") -> Path:
    """The shipped packs with one rule before the others, blocking unless said otherwise."""
    packs = folder if folder.exists() else Path(shutil.copytree(ROOT / "deploy" / "rules", folder))
    file = packs / pack / "rules.toml"
    rule = (
        f'[[rule]]\nid = "{pack}.added"\nwhen = \'{when}\'\nthen = "{then}"\n'
        'cause = "analytics"\nwhy = "Added."\nsource = "test"\n\n'
    )
    # Its own cases expect what the shipped rules say.
    (packs / pack / "cases.toml").unlink(missing_ok=True)
    text = (ROOT / "deploy" / "rules" / pack / "rules.toml").read_text()
    text = re.sub('revision = ".*"', f'revision = "{then}.added"', text)
    beside = file.with_suffix(".new")
    beside.write_text(text.replace("[[rule]]", rule + "[[rule]]", 1))
    beside.replace(file)
    return packs


def replayed(service: Running, *words: str, code: int = 0) -> dict[str, Any]:
    """What `rules replay --json` prints."""
    done = service.cli("rules", "replay", *words, "--json", check=False)
    assert done.returncode == code, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def answered(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Running, list[dict[str, Any]], list[dict[str, Any]]]]:
    """A service, 600 questions of which it has answered each, and the answers."""
    questions = [*national(400), *american(200)]
    folder = tmp_path_factory.mktemp("answered")
    packs = shutil.copytree(ROOT / "deploy" / "rules", folder / "rules")
    with running_service(folder / "state", "--sample", rules_dir=str(packs)) as service:
        answers = asked(service, questions)
        # Asked again they are the same calls.
        asked(service, questions[:100])
        kept(service, len(questions))
        yield service, questions, answers


Answered = tuple[Running, list[dict[str, Any]], list[dict[str, Any]]]


def test_every_call_is_kept_once_and_in_private(answered: Answered) -> None:
    """As many samples as calls, in files of mode 0600 that show no number."""
    service, questions, _ = answered
    assert service.metric("screening_recall_calls") == len(questions)
    assert service.metric("screening_recall_dropped_total") == 0
    files = list((service.state / "recall").iterdir())
    assert service.metric("screening_recall_bytes") == sum(f.stat().st_size for f in files)
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        content = file.read_bytes()
        assert not re.search(rb"4165550|4375550|2125550|ca-\d|us-\d", content)


def test_the_sets_in_force_against_themselves(answered: Answered) -> None:
    """A replay of what is in force gives every answer that was given, and no change."""
    service, questions, answers = answered
    found = replayed(service, str(ROOT / "deploy" / "rules"))
    actions = Counter(answer["action"] for answer in answers)
    assert len(actions) > 1, "the questions shall have answers of more than one kind"
    assert (found["samples"], found["judged"]) == (len(questions), len(questions))
    for side in ("before", "after"):
        counts = found["total"][side]
        assert {action: counts[action] for action in actions} == actions
    rules = Counter((answer["ruleset"].split("@")[0], answer["rule"]) for answer in answers)
    assert {
        (row["pack"], row["rule"]): sum(
            row["after"][action] for action in ("allow", "block", "warn")
        )
        for row in found["rules"]
    } == rules
    assert (found["changed"], found["refused"], found["enough"]) == (0, False, False)


def test_a_changed_set_changes_what_a_second_count_says(answered: Answered, tmp_path: Path) -> None:
    """Counts by action, rule and category are those of the questions that the rule names."""
    service, questions, answers = answered
    new = packs_with(tmp_path / "rules", 'calling.number.endsWith("7")')
    found = replayed(service, str(new))
    pairs = [
        (answer["action"], "block" if hit else answer["action"])
        for question, answer in zip(questions, answers, strict=True)
        for hit in [question["calling"].endswith("7") and question["call_id"].startswith("ca")]
    ]
    changes = Counter(pair for pair in pairs if pair[0] != pair[1])
    assert changes.total() == 40
    assert found["changed"] == 40
    assert {(c["before"], c["after"]): c["calls"] for c in found["changes"]} == changes
    for side, place in (("before", 0), ("after", 1)):
        expected = Counter(pair[place] for pair in pairs)
        counts = found["total"][side]
        assert {action: counts[action] for action in expected} == expected
        percent = 100 * expected["block"] / len(pairs)
        assert counts["block_percent"] == pytest.approx(percent, abs=0.001)
    (added,) = [row for row in found["rules"] if row["rule"] == "default.added"]
    assert (added["before"]["block"], added["after"]["block"]) == (0, 40)
    assert found["categories"][""]["after"]["block"] >= 40
    example = found["examples"][0]
    assert re.fullmatch(r"\+1\*+\d7", example["calling"])
    assert not re.search(r"1632960|7700900|2125550", json.dumps(found["examples"]))


def test_facts_that_were_not_read_are_unknown(answered: Answered, tmp_path: Path) -> None:
    """The default pack reads nothing; a rule that asks the index leaves its calls undecided."""
    service, questions, _ = answered
    new = packs_with(tmp_path / "rules", 'called.refuses("all")')
    found = replayed(service, str(new))
    unread = sum(question["call_id"].startswith("ca") for question in questions)
    assert (found["undecided"], found["changed"]) == (unread, 0)
    share = pytest.approx(100 * unread / len(questions), abs=0.001)
    assert found["unread"] == [{"fact": "called.refuses", "calls": unread, "percent": share}]


def test_a_replay_is_told_in_tables(answered: Answered, tmp_path: Path) -> None:
    """The share that hangs on unread facts, rates, rules, categories, an example with its trace,
    and what the guard would say; of a log that was taken elsewhere."""
    service, _, _ = answered
    log = str(shutil.copytree(service.state / "recall", tmp_path / "log"))
    new = packs_with(tmp_path / "rules", 'calling.number.endsWith("7") || called.refuses("all")')
    shipped = str(ROOT / "deploy" / "rules")
    told = service.cli("rules", "replay", str(new), "--against", shipped, "--log", log).stdout
    assert "360 (60.0 %) hang on facts not read for them" in told
    for words in ("called.refuses", "default/default.added", "allow to block", "(none)"):
        assert words in told
    assert re.search(r"\+1\*+\d7", told)
    assert "too few to judge by" in " ".join(told.split())
    assert not re.search(r"1632960|7700900", told)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A service that follows a folder of packs and has answered enough calls to judge by."""
    folder = tmp_path_factory.mktemp("guarded")
    packs = Path(shutil.copytree(ROOT / "deploy" / "rules", folder / "rules"))
    with running_service(folder / "state", "--sample", rules_dir=str(packs)) as service:
        asked(service, national(ENOUGH + 50))
        kept(service, ENOUGH + 50)
        yield service, packs


def refused(service: Running) -> str:
    """Wait for the guard's refusal; its words."""
    wait_for(lambda: "rules" in service.ready()["failures"], seconds=40, what="a refusal")  # type: ignore[operator]
    return str(service.ready()["failures"]["rules"])  # type: ignore[index]


def in_force(service: Running, then: str = "block") -> None:
    """Wait until the packs of `packs_with` run. Asks no call, for it would be kept too."""
    wait_for(
        lambda: service.ready()["rules"]["default"] == f"default@{then}.added",  # type: ignore[index]
        seconds=40,
        what="the new rules",
    )


def reload(service: Running, **query: str) -> httpx.Response:
    """POST reload."""
    headers = {"Authorization": f"Bearer {service.first_key}"}
    return httpx.post(service.url + RELOAD, headers=headers, params=query, timeout=60)


CANADA = {"calling": "+14165550101", "called": "+14375550101"}


def events(service: Running) -> str:
    """The audit."""
    headers = {"Authorization": f"Bearer {service.first_key}"}
    return httpx.get(service.url + "/v1/admin/audit", headers=headers, timeout=5).text


def test_an_activation_is_guarded_where_it_is_made(
    guarded: tuple[Running, Path], tmp_path: Path
) -> None:
    """A bundle that blocks everything is not activated, by command or by request; and a revision
    can be replayed before."""
    service, _ = guarded
    wider = packs_with(tmp_path / "wider", BLOCK_ALL)
    pushed = service.cli("rules", "push", str(wider)).stdout
    revision = re.findall(r"activate ([0-9a-f]+)", pushed)[0]
    assert replayed(service, revision, code=3)["changed"] == ENOUGH + 50
    done = service.cli("rules", "activate", revision, check=False)
    assert done.returncode == 1
    assert "1050 of 1050 sampled verdicts" in " ".join(done.stderr.split())
    headers = {"Authorization": f"Bearer {service.first_key}"}
    url = service.url + "/v1/admin/rules/activate"
    answer = httpx.post(url, headers=headers, json={"revision": revision}, timeout=60)
    assert answer.status_code == 409
    assert "1050 of 1050" in answer.json()["detail"]
    assert "force and a reason" in answer.json()["detail"]
    assert service.cli("rules", "activate", revision, "--force", check=False).returncode == 1
    wish = {"revision": revision, "force": True, "reason": " "}
    assert httpx.post(url, headers=headers, json=wish, timeout=60).status_code == 409
    assert "default@block.added" not in service.ready()["rules"].values()  # type: ignore[attr-defined]

    # Forced with a reason, and rolled back, which no guard stands in the way of.
    forced = service.cli("rules", "activate", revision, "--force", "--reason", "Fraud by night.")
    assert "in force in 1 of 1 workers" in forced.stdout
    assert service.ready()["rules"]["default"] == "default@block.added"  # type: ignore[index]
    assert "forced: Fraud by night." in " ".join(service.cli("rules", "list").stdout.split())
    service.cli("rules", "rollback")
    assert service.ready()["rules"]["default"] != "default@block.added"  # type: ignore[index]


def test_a_folder_is_guarded_while_it_changes(guarded: tuple[Running, Path]) -> None:
    """What changes little comes into force. What blocks everything does not: the last good rules
    stay and the numbers are told, until a person forces exactly that, with a reason."""
    service, packs = guarded
    packs_with(packs, 'calling.number.endsWith("01")')
    in_force(service)
    assert "the guard lets rules pass: 21 of 1050 sampled verdicts (2.0 %)" in service.log

    packs_with(packs, BLOCK_ALL, then="warn")
    failure = refused(service)
    told = "1050 of 1050 sampled verdicts (100.0 %) would change, the limit is 5 %"
    assert f"{told}: 1029 allow to warn, 21 block to warn" in failure
    assert "default/default.added" in failure
    assert "rules force" in failure
    assert failure in service.log
    assert service.ready()["ready"] is True
    assert service.metric("screening_reload_failed", kind="rules") == 1
    # What runs is known although the folder holds other rules by now.
    found = replayed(service, str(packs), code=3)
    assert (found["refused"], found["changed"]) == (True, ENOUGH + 50)

    answer = reload(service)
    assert answer.status_code == 409
    assert told in answer.json()["detail"]
    assert reload(service, force="true").status_code == 422
    assert service.ready()["rules"]["default"] == "default@block.added"  # type: ignore[index]
    assert reload(service, force="true", reason="Fraud wave.").status_code == 200
    assert service.ready()["rules"]["default"] == "default@warn.added"  # type: ignore[index]
    assert service.metric("screening_reload_failed", kind="rules") == 0
    assert "Fraud wave." in events(service)

    packs_with(packs, BLOCK_ALL)
    assert "1050 warn to block" in refused(service)
    assert service.screen(**CANADA)["action"] == "warn"
    service.cli("rules", "force", "--reason", "Agreed with the regulator.")
    in_force(service)
    assert service.screen(**CANADA)["action"] == "block"
    assert "Agreed with the regulator." in events(service)
    assert not re.search(r"4165550|4375550", service.log)


def test_with_too_few_calls_it_lets_pass_and_says_so(answered: Answered) -> None:
    """Below a thousand calls a share says nothing."""
    service, questions, _ = answered
    packs = service.state.parent / "rules"
    try:
        packs_with(packs, BLOCK_ALL)
        in_force(service)
        count = len(questions)
        # The calls of the pack "us" stay as they were.
        assert f"it cannot judge them: 400 of {count} sampled verdicts" in service.log
        assert "fewer than 1000 are too few to judge by" in service.log
    finally:
        shutil.copytree(ROOT / "deploy" / "rules", packs, dirs_exist_ok=True)
        wait_for(
            lambda: "added" not in service.ready()["rules"]["default"],  # type: ignore[index]
            seconds=40,
            what="the shipped rules",
        )


def test_the_recall_is_bounded_by_its_setting(tmp_path: Path) -> None:
    """Of more calls than it may keep it keeps no more."""
    with running_service(tmp_path / "state", recall_calls="100") as service:
        asked(service, national(400))
        wait_for(
            lambda: service.metric("screening_recall_chosen_total") >= 100, seconds=20, what="calls"
        )
        wait_for(lambda: service.metric("screening_recall_calls") > 0, seconds=20, what="calls")
        assert service.metric("screening_recall_calls") <= 100
