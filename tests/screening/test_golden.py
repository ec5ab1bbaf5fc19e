"""The golden set: whole answers to known questions, the same whichever way they are asked.

`pytest --rewrite-golden tests/screening/test_golden.py` writes them anew; read the difference.
"""

import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from tests.rpc import RpcSocket, request
from tests.running import ROOT, Running

from screening.contract import FIELDS
from screening.v1 import screening_pb2 as v1
from screening.v1.screening_pb2_grpc import ScreeningStub

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
    found = WAYS[way](service, way)
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


def message_of(each: dict[str, Any]) -> v1.Question:
    return v1.Question(**asked(each))


def document_of(answer: v1.Answer) -> dict[str, Any]:
    """A message as the JSON of the contract, null where it has nothing."""
    document = {
        field.name: getattr(answer, field.name)
        for field in answer.DESCRIPTOR.fields
        if not field.has_presence or answer.HasField(field.name)
    }
    document |= {"label": dict(answer.label) or None}
    document["shadow"] = [{"rule": each.rule, "action": each.action} for each in answer.shadow]
    document |= {name: document.get(name) for name in ("sip", "q850", "redress")}
    if (sip := document["sip"]) is not None:
        document["sip"] = {
            "code": sip.code,
            "phrase": sip.phrase,
            "reason": sip.reason if sip.HasField("reason") else None,
            "headers": [[each.name, each.value] for each in sip.headers],
        }
    trace = [MessageToDict(each) for each in document.pop("trace")]
    return document | ({"trace": trace} if trace else {})


def over_grpc(service: Running, way: str) -> dict[str, Any]:
    """One call after the other, or all in one message of a stream; known by a key."""
    key = (("authorization", f"Bearer {service.first_key}"),)
    with grpc.insecure_channel(f"127.0.0.1:{service.port('grpc')}") as channel:
        stub = ScreeningStub(channel)
        if way == "grpc":
            requests = {each["name"]: v1.ScreenRequest(question=message_of(each))
                        for each in QUESTIONS}  # fmt: skip
            return {
                name: document_of(stub.Screen(request, metadata=key, timeout=5).answer)
                for name, request in requests.items()
            }
        streamed = [
            v1.StreamedQuestion(id=at, question=message_of(each))
            for at, each in enumerate(QUESTIONS)
        ]
        messages = stub.ScreenStream(
            iter([v1.ScreenStreamRequest(questions=streamed)]), metadata=key, timeout=20
        )
        found = {each.id: document_of(each.answer) for each in chain.from_iterable(
            message.answers for message in messages)}  # fmt: skip
    return {each["name"]: found[at] for at, each in enumerate(QUESTIONS)}


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


WAYS: dict[str, Callable[[Running, str], dict[str, Any]]] = {
    "post": over_http,
    "get": over_http,
    "jsonrpc": over_jsonrpc,
    "grpc": over_grpc,
    "grpc stream": over_grpc,
}


@pytest.mark.parametrize("way", WAYS)
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
