"""The lookup contract over HTTP, on the running service with the sample registry."""

import re
from typing import Any

import httpx
import pytest
from tests.running import Running

from screening.contract import FIELDS, Answer, Kind

US = "+12125550142"
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\Z")


def ask(service: Running, **fields: Any) -> httpx.Response:
    """One POST without a key."""
    return httpx.post(service.url + "/v1/screen", json=fields, timeout=5)


def test_an_answer_has_the_contract_s_shape(service: Running) -> None:
    """Every field of an answer is there, typed as described, and no other."""
    answer = ask(service, calling="+12125550123", called=US).json()
    Answer.model_validate(answer, strict=False)
    assert set(answer) == set(Answer.model_fields) - {"trace", "evidence"}


def test_every_field_is_accepted(service: Running) -> None:
    """A question with every field of the contract at once gets a verdict."""
    samples = {Kind.NUMBER: US, Kind.TEXT: "GB", Kind.FLAG: True, Kind.COUNT: 1}
    question = {
        field.name: field.values[0]
        if field.values
        else samples.get(field.kind, "2026-11-23T12:00:00Z")
        for field in FIELDS
    }
    before = service.metric("screening_unknown_fields_total")
    answer = ask(service, **question)
    assert answer.status_code == 200
    assert service.metric("screening_unknown_fields_total") == before


def test_get_and_post_agree(service: Running) -> None:
    """The same question by either method has the same answer, latency aside."""
    question = {"calling": "+12125550123", "called": US, "call_id": "same", "attestation": "A"}
    posted = ask(service, **question).json()
    got = httpx.get(service.url + "/v1/screen", params=question, timeout=5).json()
    assert posted | {"latency_us": 0} == got | {"latency_us": 0}


def test_a_leading_space_in_a_query_is_a_plus(service: Running) -> None:
    """A switch that does not escape the plus means the same number."""
    base = service.url + "/v1/screen?call_id=plus&calling="
    escaped = httpx.get(base + "%2B12125550123&called=%2B12125550142", timeout=5).json()
    bare = httpx.get(base + "+12125550123&called=+12125550142", timeout=5).json()
    assert escaped | {"latency_us": 0} == bare | {"latency_us": 0}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", ""),
        (b"nonsense", ""),
        (b"[1]", ""),
        (b'"text"', ""),
        (b"null", ""),
        (b'{"calling": "+12125550123"}', "called"),
        (b'{"called": ""}', "called"),
        (b'{"called": null}', "called"),
        (b'{"called": 12125550142}', "called"),
        (b'{"called": "+12125550142", "calling": 5}', "calling"),
        (b'{"called": "+12125550142", "roaming": "yes"}', "roaming"),
        (b'{"called": "+12125550142", "redirect_count": "1"}', "redirect_count"),
        (b'{"called": "+12125550142", "redirect_count": true}', "redirect_count"),
        (b'{"called": "+12125550142", "display_name": "a\\u0000b"}', "display_name"),
        (b'{"called": "+12125550142\\r\\n"}', "called"),
        (b'{"called": "+12125550142", "trunk": {}}', "trunk"),
    ],
)
def test_a_broken_question_is_refused_by_field(service: Running, body: bytes, field: str) -> None:
    """400 as a problem document that names the field, for a broken question and nothing else."""
    answer = httpx.post(service.url + "/v1/screen", content=body, timeout=5)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (document["status"], document["field"]) == (400, field)
    assert "12125550142" not in document["detail"]


@pytest.mark.parametrize(
    "calling",
    ["CallCentre", "", "anonymous", "9" * 400, "+", "sip:bob@example.invalid", "\u202e123", "%%%"],
)
def test_what_a_caller_can_influence_gets_a_verdict(service: Running, calling: str) -> None:
    """A garbage CLI must not be a way past the service, nor one to take it out of the path."""
    answer = ask(service, calling=calling, called=US)
    assert answer.status_code == 200
    assert answer.json()["cause"] != "internal_error"


@pytest.mark.parametrize("called", ["abc", "sip:alice@example.invalid", "9" * 40, "   "])
def test_a_called_that_is_no_number_is_allowed(service: Running, called: str) -> None:
    """What cannot be normalised is not ours to judge."""
    assert ask(service, calling="+12125550123", called=called).json()["action"] == "allow"


@pytest.mark.parametrize(
    "fields",
    [
        {"called": "112"},
        {"called": "urn:service:sos"},
        {"called": "urn:service:sos.police"},
        {"called": "911", "region": "US"},
        {"called": "+12125550142", "dialled": "999", "region": "GB"},
        {"called": "110", "region": "CN", "calling": 7, "trunk": [], "display_name": "\x00"},
        {"dialled": "112"},
    ],
)
def test_an_emergency_call_passes_whatever_else_is_sent(
    service: Running, fields: dict[str, Any]
) -> None:
    """The check comes before any other field is looked at."""
    answer = ask(service, **fields)
    assert answer.status_code == 200
    verdict = answer.json()
    assert (verdict["action"], verdict["cause"]) == ("allow", "emergency")
    assert verdict["degraded"] is False


def test_unknown_fields_and_values_are_ignored_and_counted(service: Running) -> None:
    """Switches are upgraded at other times than we are."""

    def counts() -> tuple[float, float]:
        name = "screening_unknown_fields_total"
        return service.metric(name, field="other"), service.metric(name, field="attestation")

    before = counts()
    answer = ask(service, calling="+12125550123", called=US, attestation="Z", new_field=1)
    assert answer.status_code == 200
    assert counts() == (before[0] + 1, before[1] + 1)


def test_a_repeat_keeps_its_id_and_is_counted_once(service: Running) -> None:
    """Forks and retransmissions ask again; the counters count the call once."""
    question = {"calling": "+12125550123", "called": US, "call_id": "fork-1"}
    before = service.metric("screening_decisions_total")
    ids = {ask(service, **question).json()["decision_id"] for _ in range(3)}
    assert len(ids) == 1
    assert ID.match(ids.pop())
    assert service.metric("screening_decisions_total") == before + 1


def test_without_a_call_id_every_question_is_a_call(service: Running) -> None:
    """The id is then random and nothing is deduplicated."""
    question = {"calling": "+12125550123", "called": US}
    assert len({ask(service, **question).json()["decision_id"] for _ in range(3)}) == 3


def test_explain_needs_a_key_with_the_right(service: Running) -> None:
    """The trace shows what is known of a subscriber, so it is not for everyone."""
    question = {"calling": "+12125550123", "called": US, "explain": True}
    assert "trace" not in ask(service, **question).json()
    trace = service.screen(**question)["trace"]
    assert isinstance(trace, list)
    assert {"rule", "mode", "outcome", "stopped_by", "facts"} <= set(trace[0])


def test_an_explanation_names_lists_and_consent(service: Running) -> None:
    """The lists that were asked with their generation, those that name the caller, and the
    ledger's event of the consent; of what a safeguard passed there is nothing to name."""
    consented = {"calling": "+12125550123", "called": "+12125550101", "explain": True}
    evidence = Answer.model_validate(service.screen(**consented)).evidence
    assert evidence is not None
    assert set(evidence.lists) == {"sample-us-dnc", "sample-block", "sample-dno"}
    assert all(generation >= 1 for generation in evidence.lists.values())
    assert evidence.consent_id is not None
    assert evidence.named_by == []

    blocked = service.screen(calling="+441632960077", called="+447700900001", explain=True)
    assert Answer.model_validate(blocked).evidence.named_by == ["sample-block"]  # type: ignore[union-attr]
    passed = service.screen(calling="+12125550123", called="112", explain=True)
    assert "evidence" not in passed


def test_assertions_count_only_from_clients_that_may(service: Running) -> None:
    """A priority that anyone can send is a bypass."""
    answer = ask(service, calling="+12125550123", called=US, priority="emergency", cpc="emergency")
    assert answer.json()["cause"] != "emergency"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
def test_other_methods_are_refused(service: Running, method: str) -> None:
    """405 with what is allowed."""
    answer = httpx.request(method, service.url + "/v1/screen", timeout=5)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"


def test_the_description_lists_every_field(service: Running) -> None:
    """/openapi.json names each field of the contract for both methods, and /docs shows them."""
    api = httpx.get(service.url + "/openapi.json", timeout=5).json()
    names = {field.name for field in FIELDS}
    lookup = api["paths"]["/v1/screen"]
    assert {p["name"] for p in lookup["get"]["parameters"]} == names
    assert set(api["components"]["schemas"]["Question"]["properties"]) == names
    assert set(api["components"]["schemas"]["Answer"]["properties"]) == set(Answer.model_fields)
    page = httpx.get(service.url + "/docs", timeout=5).text
    assert all(f"<code>{name}</code>" in page for name in names)
    assert "http" not in re.sub(r"application/[a-z+]+", "", page).replace("http", "", 0) or (
        "<script" not in page and "<link" not in page
    )


@pytest.mark.parametrize(
    ("path", "status"), [("/nothing", 404), ("/v1/screen/", 404), ("/v1/lists", 401)]
)
def test_every_refusal_is_a_problem_document(service: Running, path: str, status: int) -> None:
    """RFC 9457 for what is not there and for whom may not."""
    answer = httpx.get(service.url + path, timeout=5)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
