"""Whatever comes in, the service answers: no 5xx, no exception, no emergency call refused."""

import re
import socket
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.running import Running

from consent.emergency import is_emergency
from screening.contract import FIELDS
from screening.wire import is_no_emergency

HOSTILE = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = [field.name for field in FIELDS]
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
FORBIDDEN = re.compile(r"Traceback|ERROR|Exception")

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=60)
)
nasty = st.sampled_from(
    [
        "", " ", "+", "++", "tel:", "sip:", "sip:@", "tel:+", "sip:+44;phone-context=",
        "tel:911;phone-context=\u202e", "%00", "' OR 1=1", "\r\nX: y", "\u0660\u0661", "+" * 5000,
        "9" * 5000, "sip:" + "a" * 3000 + "@b", "urn:service:", "<sip:+441632960001@h>", "\ud7ff",
    ]
)  # fmt: skip
values = st.one_of(scalars, nasty, st.lists(scalars, max_size=3))
questions = st.dictionaries(
    st.one_of(st.sampled_from(NAMES), st.text(max_size=12)), values, max_size=12
)


@pytest.fixture(scope="module")
def client(service: Running) -> Any:
    """One connection pool for the whole module."""
    with httpx.Client(base_url=service.url, timeout=5) as client:
        yield client


def holds(answer: httpx.Response) -> None:
    """A verdict, or a problem document that says what was wrong; never a failure of ours."""
    assert answer.status_code in (200, 400, 413), answer.text
    document = answer.json()
    if answer.status_code == 200:
        assert document["action"] in ("allow", "warn", "block")
        assert document["cause"] != "internal_error"
        sip = document["sip"] or {"reason": None, "headers": []}
        values = [sip["reason"] or "", *(value for _, value in sip["headers"])]
        assert not any(CONTROL.search(value) for value in values)
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert document["detail"]


@HOSTILE
@given(body=st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode)))
def test_any_bytes_as_a_body(client: httpx.Client, body: bytes) -> None:
    """A body of any bytes gets a verdict or a 400."""
    holds(client.post("/v1/screen", content=body))


@HOSTILE
@given(question=questions)
def test_any_json_object(client: httpx.Client, question: dict[str, Any]) -> None:
    """A question of any names and values gets a verdict or a 400."""
    try:
        body = orjson.dumps(question)
    except TypeError:  # an integer that JSON of 64 bits has no form for
        body = repr(question).encode("utf-8", "replace")
    holds(client.post("/v1/screen", content=body))


@HOSTILE
@given(pairs=st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=40)), max_size=8))
def test_any_query(client: httpx.Client, pairs: list[tuple[str, bytes]]) -> None:
    """A query of any percent-encoded bytes gets a verdict or a 400."""
    query = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in pairs)
    holds(client.get(f"/v1/screen?{query}"))


@HOSTILE
@given(number=st.text(max_size=64))
def test_any_calling_number_gets_a_verdict(client: httpx.Client, number: str) -> None:
    """What a caller can influence is never a reason for anything but 200."""
    number = "".join(c for c in number if ord(c) >= 32 and ord(c) != 127)
    question = {"calling": number, "called": "+441632960001", "display_name": number}
    answer = client.post("/v1/screen", content=orjson.dumps(question))
    assert answer.status_code == 200, answer.text
    holds(answer)


@HOSTILE
@given(
    emergency=st.sampled_from(["112", "911", "urn:service:sos", "urn:service:sos.fire", "tel:112"]),
    where=st.sampled_from(["called", "dialled"]),
    rest=questions,
)
def test_no_emergency_call_is_refused(
    client: httpx.Client, emergency: str, where: str, rest: dict[str, Any]
) -> None:
    """With an emergency number in `called` or `dialled`, nothing else can spoil the call."""
    rest = {k: v for k, v in rest.items() if k not in ("called", "dialled")}
    try:
        body = orjson.dumps({**rest, where: emergency})
    except TypeError:
        body = orjson.dumps({where: emergency})
    answer = client.post("/v1/screen", content=body)
    assert answer.status_code == 200, answer.text
    verdict = answer.json()
    assert (verdict["action"], verdict["cause"]) == ("allow", "emergency")


SPOILT = {
    "a name in Latin-1": b"M\xfcller",
    "half of a surrogate pair": b"\\ud83d",
    "a control character": b"a\x01b",
    "a tabulator": b"a\tb",
    "an overlong form": b"\xc0\xaf",
    "every byte": bytes(n for n in range(256) if n not in b'"\\'),
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_what_a_caller_wrote_spoils_no_question(client: httpx.Client, spoilt: bytes) -> None:
    """Text that is no Unicode is a verdict all the same, and an emergency call passes."""
    ask = b'{"called": "%b", "calling": "%b", "display_name": "%b"}'
    answer = client.post("/v1/screen", content=ask % (b"112", spoilt, spoilt))
    assert answer.status_code == 200, answer.text
    assert answer.json()["cause"] == "emergency"
    answer = client.post("/v1/screen", content=ask % (b"+12125550142", spoilt, spoilt))
    holds(answer)
    if not CONTROL.search(spoilt.decode("latin-1")):
        assert answer.status_code == 200, answer.text


@HOSTILE
@given(name=st.binary(max_size=60).filter(lambda raw: b'"' not in raw and b"\\" not in raw))
def test_no_bytes_in_a_name_refuse_an_emergency_call(client: httpx.Client, name: bytes) -> None:
    """Whatever a switch pastes into its JSON for the caller's name."""
    answer = client.post("/v1/screen", content=b'{"display_name": "%b", "called": "112"}' % name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["cause"] == "emergency"


@pytest.mark.parametrize(
    "body",
    [
        b'{"called": "112"',
        b'{"called": "112", "n": NaN}',
        b"\xff",
        b"[" * 60_000,
        b'{"called": "+12125550142", "n": ' + b"9" * 5000 + b"}",
    ],
    ids=["cut off", "no number of JSON", "no JSON", "too deep", "a number of 5,000 digits"],
)
def test_what_is_no_json_in_any_reading_is_refused(client: httpx.Client, body: bytes) -> None:
    """400, and no failure of ours."""
    answer = client.post("/v1/screen", content=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00" * 200,
        b"GET\r\n\r\n",
        b"POST /v1/screen HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/screen HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST /v1/screen HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /v1/screen?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/screen HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
    ],
    ids=["zeros", "no-target", "negative", "huge-length", "bad-chunk", "long-target", "cut-short"],
)
def test_broken_http_leaves_the_service_whole(service: Running, request_bytes: bytes) -> None:
    """A broken request breaks its own connection and nothing else."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    assert not received.startswith(b"HTTP/1.1 5")
    assert service.screen(called="112")["cause"] == "emergency"


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    """64 KiB is the limit, with a length declared or chunked."""
    body = orjson.dumps({"called": "+441632960001", "display_name": "a" * 70_000})
    for content in (body, iter([body[:40_000], body[40_000:]])):
        answer = client.post("/v1/screen", content=content)
        assert answer.status_code == 413
        assert answer.json()["status"] == 413


def test_the_log_is_clean(service: Running) -> None:
    """After all of the above the log holds no exception and no number."""
    log = service.log
    assert not FORBIDDEN.search(log), log[-3000:]
    assert "441632960001" not in log


EMERGENCY_FORMS = st.sampled_from(
    ["112", "911", "+86110", "0086119", "+8610110", "010110", "+861011012", "urn:service:sos",
     "sip:112@example.org", "tel:+49112", "00112", "1" * 40, "+1", ""]
)  # fmt: skip


@given(
    st.one_of(EMERGENCY_FORMS, st.text("+0123456789", max_size=18), st.text(max_size=20)),
    st.dictionaries(st.sampled_from(NAMES), st.none() | st.text(max_size=60), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_what_is_shed_at_a_glance_is_no_emergency(called: str, more: dict[str, Any]) -> None:
    """A body that shows a long called number and no dialled one asks for none in any region."""
    fields = {**more, "called": called}
    region = fields.get("region")
    if is_no_emergency(orjson.dumps(fields)):
        assert "dialled" not in fields
        for where in ("", "CN", "US", region if isinstance(region, str) else "DE"):
            assert not is_emergency(called, region=where)


def test_most_calls_are_seen_to_be_no_emergency_at_a_glance() -> None:
    """Whether with a plus or without, and however it is laid out."""
    assert is_no_emergency(b'{"calling":"+8613800138000","called":"+8613800138001"}')
    assert is_no_emergency(b'{ "called" : "008613800138001" }')


@pytest.mark.parametrize(
    "body",
    [
        orjson.dumps({"display_name": '"called":"+8613800138001"', "called": "110"}),
        b'{"called":"+8613800138001 <tel:112>"}',
        b'{"called":"+8613800138001","called":"112"}',
        b'{"x":{"called":"+8613800138001"},"called":"112"}',
        b'{"called":"+8613800138001","dialled":"110"}',
        b'{"called":"+8613800138001","\\u0064ialled":"110"}',
        b'{"called":"+8613800138001"',
        b'["called":"+8613800138001"]',
        b'{"called":8613800138001}',
        b"",
    ],
)
def test_what_could_be_an_emergency_is_read_whole(body: bytes) -> None:
    """A called number that is not the one that is read, a dialled one, and what is no question."""
    assert not is_no_emergency(body)
