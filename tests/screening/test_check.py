"""`screening check` and `screening consent`: what a person at a terminal sees."""

import json
from concurrent.futures import ThreadPoolExecutor

from tests.running import Running, wait_for

CALL = ("--calling", "+12125550123", "--called", "+12125550142")
NOON = "2026-11-23T17:00:00Z"  # in New York, so that the hours for calls play no part
SIGNED = ("-f", "attestation=A", "-f", "verstat=TN-Validation-Passed", "-f", f"at={NOON}")


def test_check_prints_the_verdict_and_why(service: Running) -> None:
    """The verdict, the SIP answer, and every rule tried with the values it looked at."""
    out = service.cli("check", *CALL, *SIGNED).stdout
    assert out.startswith("BLOCK")
    assert "subscriber_refusal" in out
    assert "607" in out
    assert "called.refuses" in out
    assert "stopped by  calling.dno" in out
    assert "sample-us-dnc 1" in out
    tree = service.cli("rules", "explain", *CALL, *SIGNED).stdout
    assert tree.split("rules tried")[1] == out.split("rules tried")[1]


def test_check_as_json_is_the_contract_s_answer(service: Running) -> None:
    """The same as the service answers, with the trace."""
    answer = json.loads(service.cli("check", *CALL, *SIGNED, "--json").stdout)
    asked = service.screen(
        calling=CALL[1],
        called=CALL[3],
        attestation="A",
        verstat="TN-Validation-Passed",
        at=NOON,
    )
    for name in ("action", "cause", "rule", "ruleset", "degraded", "sip", "q850", "label"):
        assert answer[name] == asked[name], name
    assert [entry["rule"] for entry in answer["trace"]]


def test_check_names_a_field_that_is_none(service: Running) -> None:
    """A misspelt field is refused with those that there are."""
    done = service.cli("check", *CALL, "-f", "atestation=A", check=False)
    assert done.returncode == 2
    assert "attestation" in done.stderr


def test_a_consent_is_in_force_when_the_command_returns(own_service: Running) -> None:
    """Granted, the call rings; revoked, it does not: from the next call on."""
    question = {"calling": CALL[1], "called": CALL[3], "attestation": "A",
                "verstat": "TN-Validation-Passed"}  # fmt: skip
    entity = own_service.screen(**question, explain=True)
    assert entity["action"] == "block"
    words = ("--called", CALL[3], "--entity", "sample-loans")
    out = own_service.cli("consent", "grant", *words).stdout
    assert "in force" in out
    assert own_service.screen(**question)["cause"] == "consented"
    own_service.cli("consent", "revoke", *words)
    assert own_service.screen(**question)["cause"] == "no_consent"


def test_consents_survive_an_emptied_index(own_service: Running) -> None:
    """The ledger is the record: the index is made again from it, by one at a time."""
    question = {"calling": CALL[1], "called": CALL[3], "attestation": "A",
                "verstat": "TN-Validation-Passed"}  # fmt: skip
    own_service.cli("consent", "grant", "--called", CALL[3], "--entity", "sample-loans")
    assert own_service.screen(**question)["cause"] == "consented"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(own_service.cli, ["index"] * 2, ["rebuild"] * 2))
    wait_for(
        lambda: own_service.screen(**question)["cause"] == "consented",
        seconds=15,
        what="the index to be whole",
    )
    assert "applied" in own_service.cli("index", "status").stdout


def test_consent_names_an_entity_that_is_none(service: Running) -> None:
    """The message lists the entities that there are."""
    done = service.cli("consent", "grant", "--called", CALL[3], "--entity", "nobody", check=False)
    assert done.returncode == 2
    assert "sample-loans" in done.stderr
