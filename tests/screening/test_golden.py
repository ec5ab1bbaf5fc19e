"""The golden set: whole answers to known questions, the same whichever way they are asked.

`pytest --rewrite-golden tests/screening/test_golden.py` writes them anew; read the difference.
"""

import json
from typing import Any

import httpx
import pytest
from tests.rpc import RpcSocket, request
from tests.running import ROOT, Running

from screening.contract import FIELDS

FOLDER = ROOT / "tests" / "golden"
QUESTIONS: list[dict[str, Any]] = json.loads((FOLDER / "questions.json").read_text("utf-8"))
NOON = "2026-11-23T17:00:00Z"
CAUSES = {
    "consented", "subscriber_refusal", "no_consent", "time_band", "network_list", "dno", "spoofed",
    "emergency", "safeguard", "default",
}  # fmt: skip


def asked(each: dict[str, Any]) -> dict[str, Any]:
    """A question with what makes its answer the same every time: a call id and an instant."""
    return {"at": NOON, "call_id": each["name"], **each["question"]}


def answers(service: Running, way: str) -> dict[str, Any]:
    """The answers by name, latency aside."""
    found = {"jsonrpc": over_jsonrpc}.get(way, over_http)(service, way)
    for answer in found.values():
        assert answer.pop("latency_us") >= 0
    return found


def over_jsonrpc(service: Running, way: str) -> dict[str, Any]:
    """All questions in the pipeline at once, answers told apart by id."""
    with RpcSocket(service.port("rpc")) as switch:
        for each in QUESTIONS:
            switch.send(request("screen", asked(each), identity=each["name"]))
        responses = [switch.receive() for _ in QUESTIONS]
    return {response["id"]: response["result"] for response in responses}


def over_http(service: Running, way: str) -> dict[str, Any]:
    """One question after the other."""
    found = {}
    with httpx.Client(base_url=service.url, timeout=5) as client:
        client.headers["Authorization"] = f"Bearer {service.first_key}"
        for each in QUESTIONS:
            question = asked(each)
            if way == "post":
                answer = client.post("/v1/screen", json=question)
            else:
                answer = client.get("/v1/screen", params=question)
            assert answer.status_code == 200, (each["name"], answer.text)
            found[each["name"]] = answer.json()
    return found


@pytest.mark.parametrize("way", ["post", "get", "jsonrpc"])
def test_every_answer_is_the_golden_one(
    golden_service: Running, way: str, pytestconfig: pytest.Config
) -> None:
    """Field by field: verdict, cause, rule, revision, id, SIP answer, label, redress, shadow."""
    path = FOLDER / "answers.json"
    found = answers(golden_service, way)
    if pytestconfig.getoption("--rewrite-golden"):
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert found == json.loads(path.read_text("utf-8"))


def test_the_description_s_examples_are_answered(golden_service: Running) -> None:
    """Each example of /openapi.json is a golden question, and gets that whole answer."""
    golden = json.loads((FOLDER / "answers.json").read_text("utf-8"))
    api = httpx.get(golden_service.url + "/openapi.json", timeout=5).json()
    body = api["paths"]["/v1/screen"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["examples"]) == {"allow", "warn", "block"}
    for action, example in body["examples"].items():
        (each,) = (each for each in QUESTIONS if each["question"] == example["value"])
        answer = golden_service.screen(**asked(each))
        del answer["latency_us"]
        assert answer == golden[each["name"]]
        assert answer["action"] == action


def test_the_golden_questions_ask_every_field_of_the_contract() -> None:
    """And the answers show every cause that the sample registry can bring about."""
    asked_for = {name for each in QUESTIONS for name in asked(each)}
    assert asked_for == {field.name for field in FIELDS} - {"explain"}
    golden = json.loads((FOLDER / "answers.json").read_text("utf-8"))
    assert {answer["cause"] for answer in golden.values()} == CAUSES
