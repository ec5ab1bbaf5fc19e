"""JSON-RPC 2.0 as its specification has it: https://www.jsonrpc.org/specification."""

from collections import Counter
from typing import Any

import orjson
import pytest

from screening.access import UNKNOWN_CLIENT
from screening.jsonrpc import BATCH_LIMIT, INVALID_PARAMS, Method, Request, dispatch


class Peer:
    """Keeps what it is sent and counts what it is told."""

    def __init__(self) -> None:
        self.responses: list[Any] = []
        self.counted: Counter[str] = Counter()

    def send(self, response: bytes) -> None:
        self.responses.append(orjson.loads(response))

    def called(self, method: str) -> None:
        self.counted[method] += 1

    def refused(self, reason: str) -> None:
        self.counted[reason] += 1


def subtract(request: Request) -> None:
    """The specification's example."""
    params = request.params
    if isinstance(params, dict):
        params = [params["minuend"], params["subtrahend"]]
    request.result(orjson.dumps(params[0] - params[1]))


def refuse(request: Request) -> None:
    request.error(INVALID_PARAMS, "no", field="f")


METHODS: dict[str, Method] = {"subtract": subtract, "refuse": refuse, "update": lambda _: None}


def responses(document: bytes) -> tuple[list[Any], Counter[str]]:
    """What a document is answered with, and what is counted."""
    peer = Peer()
    responds = dispatch(document, METHODS, peer=peer, client=UNKNOWN_CLIENT, arrived=0.0)
    assert responds == bool(peer.responses)
    return peer.responses, peer.counted


def result(value: Any, identity: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": value, "id": identity}


def code(number: int, identity: Any = None) -> dict[str, Any]:
    """An error as `shape` leaves it."""
    return {"jsonrpc": "2.0", "error": number, "id": identity}


def shape(response: Any) -> Any:
    """A response, its error by code alone."""
    if isinstance(response, list):
        return [shape(each) for each in response]
    return response | {"error": response["error"]["code"]} if "error" in response else response


CASES: dict[str, tuple[bytes, list[Any]]] = {
    "by position": (
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        [result(19, 1)],
    ),
    "by name": (
        b'{"jsonrpc":"2.0","method":"subtract","params":{"subtrahend":23,"minuend":42},"id":3}',
        [result(19, 3)],
    ),
    "id is a string": (
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [1, 1], "id": "\\"\xc3\xa9"}',
        [result(0, '"é')],
    ),
    "id is null": (
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [1, 1], "id": null}',
        [result(0, None)],
    ),
    "id has a fraction": (
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [1, 1], "id": 1.5}',
        [result(0, 1.5)],
    ),
    "id is negative": (
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [1, 1], "id": -7}',
        [result(0, -7)],
    ),
    "notification": (b'{"jsonrpc": "2.0", "method": "update", "params": [1]}', []),
    "notification of no method": (b'{"jsonrpc": "2.0", "method": "foobar"}', []),
    "notification that is refused": (b'{"jsonrpc": "2.0", "method": "refuse"}', []),
    "no such method": (b'{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', [code(-32601, "1")]),
    "wrong parameters": (b'{"jsonrpc": "2.0", "method": "refuse", "id": 1}', [code(-32602, 1)]),
    "a fault of ours": (
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [], "id": 1}',
        [code(-32603, 1)],
    ),
    "no JSON": (b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', [code(-32700)]),
    "empty": (b"", [code(-32700)]),
    "no UTF-8": (b'"\xff"', [code(-32700)]),
    "method is no string": (b'{"jsonrpc": "2.0", "method": 1, "params": "bar"}', [code(-32600)]),
    "no version": (b'{"method": "subtract", "id": 4}', [code(-32600, 4)]),
    "version 1": (b'{"jsonrpc": "1.0", "method": "subtract", "id": 4}', [code(-32600, 4)]),
    "id is an object": (b'{"jsonrpc": "2.0", "method": "subtract", "id": {}}', [code(-32600)]),
    "id is true": (b'{"jsonrpc": "2.0", "method": "subtract", "id": true}', [code(-32600)]),
    "a text": (b'"text"', [code(-32600)]),
    "empty batch": (b"[]", [code(-32600)]),
    "batch of nonsense": (b"[1,2]", [[code(-32600), code(-32600)]]),
    "batch of notifications": (b'[{"jsonrpc": "2.0", "method": "update"}]', []),
    "batch": (
        b"["
        + b",".join(
            (
                b'{"jsonrpc": "2.0", "method": "subtract", "params": [4, 1], "id": "1"}',
                b'{"foo": "boo"}',
                b'{"jsonrpc": "2.0", "method": "update", "params": [7]}',
                b'{"jsonrpc": "2.0", "method": "foobar", "id": "5"}',
                b"7",
            )
        )
        + b"]",
        [[result(3, "1"), code(-32600), code(-32601, "5"), code(-32600)]],
    ),
    "batch too large": (b"[" + b"1," * BATCH_LIMIT + b"1]", [code(-32600)]),
}


@pytest.mark.parametrize(("document", "expected"), CASES.values(), ids=CASES)
def test_a_document_is_answered_as_specified(document: bytes, expected: list[Any]) -> None:
    """The examples of the specification and what they leave out."""
    assert shape(responses(document)[0]) == expected


def test_an_error_names_the_field() -> None:
    """`data` says which parameter was wrong."""
    (response,), counted = responses(b'{"jsonrpc":"2.0","method":"refuse","id":1}')
    assert response["error"]["data"] == {"field": "f"}
    assert counted == {"refuse": 1, "invalid_params": 1}


def test_a_fault_of_ours_is_logged_without_what_was_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says where, and has no number."""
    responses(b'{"jsonrpc":"2.0","method":"subtract","params":["+12125550142"],"id":1}')
    assert "test_jsonrpc.py" in caplog.text
    assert "2125550142" not in caplog.text


def test_answers_of_a_batch_wait_for_the_last() -> None:
    """Whatever their order, they leave as one, and each names its request."""
    waiting: list[Request] = []
    peer = Peer()
    document = (
        b'[{"jsonrpc":"2.0","method":"later","id":1},{"jsonrpc":"2.0","method":"later","id":2}]'
    )
    methods: dict[str, Method] = {"later": waiting.append}
    assert dispatch(document, methods, peer=peer, client=UNKNOWN_CLIENT, arrived=0.0)
    waiting[1].result(b'"second"')
    assert not peer.responses
    waiting[0].result(b'"first"')
    assert peer.responses == [[result("second", 2), result("first", 1)]]
