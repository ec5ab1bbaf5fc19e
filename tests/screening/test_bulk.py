"""Bulks and the commands: many statements, what became of each line, and what a person types."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.running import Running
from typer.testing import CliRunner

from consent.keyring import Keyring
from consent.record import Record
from consent.signing import SigningKey
from screening import bulk as module
from screening import cli
from screening.bulk import Bulk, batches
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State
from screening.statement import Preferences

ENTITY = "sample-loans"
FIRST = 12125550170


def line(n: int, do: str = "grant", **more: Any) -> bytes:
    fields = {"categories": ["loans"]} if do == "grant" else {}
    said = {"do": do, "called": f"+{FIRST + n}", "entity": ENTITY, **fields, **more}
    return json.dumps(said).encode() + b"\n"


BAD = [
    (b"{\n", ""),
    (b'{"do": "perhaps"}\n', "do"),
    (line(1, called="12"), "called"),
    (line(1, entity="nobody"), "entity"),
    (line(1, categories=[]), "categories"),
    (line(1, "renew"), "expires_at"),
    (line(8, "narrow", withdrawn=["loans"]), "entity"),
    (line(1, evidence={"basis": "hope"}), "evidence.basis"),
    (line(1, "revoke", categories=["loans"]), "categories"),
    (b"x" * 20_000 + b"\n", ""),
]
GOOD = [line(0), line(1), line(0, "narrow", withdrawn=["banking"]), line(1, "revoke"), line(2)]


@pytest.fixture
def bulk(record_url: str, tmp_path: Path) -> Iterator[Bulk]:
    """A bulk on each kind of database, the index gone."""
    url = record_url if "://" in record_url else f"sqlite:///{record_url}"
    setting = Settings(state_dir=tmp_path, database_url=url, redis_url="unix:///nowhere/s")
    keyring = Keyring.load_or_create(tmp_path / "secrets.json")
    signer = SigningKey.load_or_create(tmp_path / "checkpoint.pem")
    state = State(setting, keyring, signer, setting.redis_url)
    state.record().entities.put(ENTITY, title="Loans", categories=["loans"], actor="test")
    registrar = Registrar(state)
    yield Bulk(state, registrar, "test")
    registrar.close()
    state.close()


def record_of(bulk: Bulk) -> Record:
    return bulk.state.record()


def test_a_bad_line_stops_no_other(bulk: Bulk) -> None:
    """Each good line is recorded in its order, each bad one named with its field."""
    lines = [*GOOD[:2], *(bad for bad, _ in BAD), *GOOD[2:]]
    outcomes = bulk.take(list(enumerate(lines, 1)))
    assert [each.line for each in outcomes] == list(range(1, len(lines) + 1))
    refused = outcomes[2 : 2 + len(BAD)]
    assert [(each.state, each.field) for each in refused] == [("refused", at) for _, at in BAD]
    assert all(each.error and str(FIRST + 1) not in each.error for each in refused)
    good = [*outcomes[:2], *outcomes[2 + len(BAD) :]]
    assert [each.state for each in good] == [
        "pending",
        "pending",
        "unchanged",
        "pending",
        "pending",
    ]
    held = record_of(bulk).ledger.held(FIRST + 1)
    assert held.consents[1].revoked_at
    assert bulk.summary()["refused"] == len(BAD)


def test_sent_again_it_adds_nothing(bulk: Bulk) -> None:
    """What a bulk did is found done by the next one, whatever its batches were."""
    evidence = {"channel": "web", "confirmed": "2026-11-20T10:00:00Z"}
    lines = [line(n, evidence=evidence) for n in range(8)]
    lines += [line(n, "revoke") for n in range(4)]
    lines += [line(5, "renew", expires_at="2099-01-01T00:00:00Z", evidence=evidence)]
    first = bulk.take(list(enumerate(lines[:5], 1)))
    last = record_of(bulk).ledger.last_sequence()
    assert last == 5
    again = bulk.take(list(enumerate(lines, 1)))
    assert [each.state for each in again[:5]] == ["unchanged"] * 5
    assert [each.sequence for each in again[:5]] == [each.sequence for each in first]
    assert record_of(bulk).ledger.last_sequence() == len(lines)
    # What a later line of the same bulk changed is granted, then changed, again: as it is written.
    third = bulk.take(list(enumerate(lines[4:5] + lines[8:], 1)))
    assert {each.state for each in third} == {"unchanged"}
    assert record_of(bulk).ledger.last_sequence() == len(lines)


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_the_record_gone_leaves_lines_undone(bulk: Bulk, tmp_path: Path) -> None:
    """They are told, and the bulk is broken off there."""
    bulk.take([(1, line(0))])
    record = tmp_path / "record.db"
    record.rename(tmp_path / "away")
    outcomes = bulk.take([(2, line(1)), (3, b"{")])
    assert [each.state for each in outcomes] == ["undone", "refused"]
    assert bulk.broken
    assert bulk.summary()["complete"] is False


@given(st.lists(st.sampled_from([b"a\n", b"\n", b"  \n"]), max_size=40))
def test_batches_number_every_line(lines: list[bytes]) -> None:
    """Each line but the empty ones once, under its own number, few at a time."""
    found = [each for batch in batches(lines) for each in batch]
    assert found == [(n, text) for n, text in enumerate(lines, 1) if text.strip()]
    assert all(len(batch) <= module.BATCH_LINES for batch in batches(lines * 40))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 23)))
def test_bands_are_the_hours_they_came_from(hours: set[int]) -> None:
    """Hours written as bands are those hours again."""
    assert Preferences.of({"bands": sorted(hours)}).body()["bands"] == sorted(hours)


def test_over_http_and_at_the_terminal(own_service: Running, tmp_path: Path) -> None:
    """A report of each line and a summary; the same file by command finds all done."""
    service = own_service
    text = b"".join([*(line(n) for n in range(1200)), line(3, "revoke"), b"{\n", b"\n", line(7)])
    answer = httpx.post(
        service.url + "/v1/consents/bulk",
        content=text,
        headers={"Authorization": f"Bearer {service.first_key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    *report, summary = (json.loads(each) for each in answer.text.splitlines())
    assert [each["line"] for each in report] == [*range(1, 1203), 1204]
    assert {each["state"] for each in report[:1201]} == {"in_force"}
    assert (report[1201]["state"], report[1202]["state"]) == ("refused", "unchanged")
    assert summary == {
        "lines": 1203, "in_force": 1201, "pending": 0, "unchanged": 1, "refused": 1, "undone": 0,
        "complete": True,
    }  # fmt: skip
    question = {"calling": "+12125550123", "attestation": "A", "verstat": "TN-Validation-Passed"}
    asked = [service.screen(called=f"+{FIRST + n}", **question)["cause"] for n in (5, 3)]
    assert asked == ["consented", "no_consent"]
    file, said = tmp_path / "grants.ndjson", tmp_path / "report.ndjson"
    file.write_bytes(b"".join(line(n) for n in range(4, 1200)))
    done = service.cli("consent", "bulk", str(file), "--report", str(said))
    assert "1,196 unchanged" in done.stdout
    assert len(said.read_text().splitlines()) == 1196
    file.write_bytes(line(4) + b"{\n")
    done = service.cli("consent", "bulk", str(file), check=False)
    assert done.returncode == 1
    assert "line 2" in done.stdout


def test_a_person_at_a_terminal(own_service: Running) -> None:
    """What is typed is in force at once, shown, and refused by name where it is wrong."""
    service, called = own_service, f"+{FIRST}"
    to = ("--called", called, "--entity", ENTITY)
    question = {"calling": "+12125550123", "attestation": "A", "verstat": "TN-Validation-Passed"}

    def run(*words: str, code: int = 0) -> str:
        # In this process: a dozen commands would each load everything anew.
        done = CliRunner().invoke(cli.app, words, env=service.environment)
        assert done.exit_code == code, f"{words}: {done.output}{done.exception!r}"
        return str(done.output)

    def cause() -> object:
        return service.screen(called=called, **question)["cause"]

    proof = ("--evidence", "channel=shop")
    assert "in force" in run("consent", "grant", *to, "--days", "30", *proof)
    assert cause() == "consented"
    run("consent", "renew", *to, "--days", "60")
    run("consent", "narrow", *to, "--withdraw", "banking")
    run("consent", "narrow", *to, "--mode", "voice", "--calls", "9", "--per-days", "30")
    run("consent", "revoke", *to, "--scope", "food", "--effective", "2099-01-01T00:00:00Z")
    assert cause() == "consented"
    terms = json.loads(run("consent", "list", "--called", called, "--json"))["terms"]
    assert terms == {"modes": ["voice"], "calls": 9, "per_days": 30}
    assert json.loads(run("consent", "list", "--called", called, "--json"))["entity"] == ENTITY
    assert called in run("consent", "list", "--entity", ENTITY)
    assert "color" in run("consent", "grant", *to, "--evidence", "color=red", code=2)
    run("subscriber", "put", called, "block", "+12125550123")
    assert cause() == "subscriber_refusal"
    run("subscriber", "clear", called, "+12125550123")
    words = ("--refuse", "food", "--band", "21:00-09:00", "--zone", "America/New_York")
    run("subscriber", "preferences", called, *words)
    assert {"21:00-09:00", "America/New_York"} <= set(run("subscriber", "show", called).split())
    run("subscriber", "refuse-all", called)
    assert cause() == "no_consent"
    document = json.loads(service.cli("consent", "export", "--called", called).stdout)
    assert document["events"][-1]["event"] == "all.refused"
    assert document["consents"][0]["state"] == "revoked"
    run("subscriber", "reassign", called, "--since", "2026-11-01T00:00:00Z")
    assert run("consent", "list", "--called", called, "--json") == ""
    run("consent", "grant", *to)
    file = service.state / "reassigned.txt"
    file.write_text(f"{called},{datetime.now(UTC):%Y-%m-%d}\n")
    assert "1 known here, 1 ended" in run("subscriber", "reassigned", str(file))
    assert run("consent", "list", "--called", called, "--json") == ""
    run("consent", "revoke", "--called", "12", "--entity", ENTITY, code=2)
    run("consent", "list", code=2)
