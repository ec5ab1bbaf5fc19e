"""The fast lane against uvicorn's own protocol: the same bytes in, the same bytes out."""

import contextlib
import itertools
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.conftest import server_program
from tests.running import Running, wait_for
from tests.screening.conftest import known_service
from tests.servers import IndexServer

from rules.ruleset import RuleSet, SipAnswer
from rules.verdict import Action, Cause, Shadow, Verdict
from screening.answer import Answers
from screening.fast_lane import HEAD_LIMIT_BYTES, MOST_WAITING, NOT_PLAIN, read_head
from screening.screener import Decision
from screening.wire import write_answer

US = "+12125550142"
NOON = "2026-11-23T17:00:00Z"
"""In New York: outside the permitted hours, another rule refuses the call."""

MOST_UNREAD_BYTES = 16 * 2**20
"""More than all that may lie between a client that does not read and the service."""

CLOSING = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
VARIES = re.compile(rb"(?<=date: )[^\r]*|(?<=content-length: )\d+|(?<=\"latency_us\":)\d+")
BYTE_STREAMS = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Both:
    """The same service twice: with the fast lane, and without."""

    def __init__(self, fast: Running, stock: Running) -> None:
        self.fast = fast
        self.stock = stock


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Two services of the same keys, lists and consents."""
    with contextlib.ExitStack() as stack:
        running = []
        for lane in ("on", "off"):
            folder = tmp_path_factory.mktemp(f"lane-{lane}")
            server = IndexServer(server_program("valkey"), folder)
            server.start()
            stack.callback(server.kill)
            service = known_service(folder / "state", redis_url=server.url, fast_lane=lane)
            running.append(stack.enter_context(service))
        yield Both(*running)


def connected(service: Running, *, buffer_bytes: int = 0) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    connection = socket.socket()
    if buffer_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.settimeout(10)
    connection.connect((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def said(service: Running, pieces: list[bytes]) -> bytes:
    """All that the service answers to these pieces, up to its closing of the connection."""
    with connected(service) as connection:
        received = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionError:
            pass  # closed while we were still sending
        except TimeoutError:
            received += b"<open>"
    return VARIES.sub(b"-", received)


def in_pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(at) if a < b]


def post(body: bytes, *fields: bytes, version: bytes = b"1.1", length: bool = True) -> bytes:
    lines = [b"POST /v1/screen HTTP/" + version, b"Host: x", *fields]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def question(calling: str, called: str, **more: str) -> bytes:
    return orjson.dumps({"calling": calling, "called": called, "call_id": "the-call", **more})


BODIES = [
    question("+12125550123", US),
    question("+12125550123", "+12125550101", attestation="A", verstat="TN-Validation-Passed"),
    question("+441632960077", "+447700900001"),
    question("anonymous", US),
    question("+12125550123", "911"),
    question("", "nonsense"),
    b"{",
    b"[]",
    b"",
    b'{"calling":"+12125550123"}',
    b'{"called":"+12125550142\\u0000"}',
]
QUERIES = [
    b"calling=%2B12125550123&called=%2B12125550142&call_id=q",
    b"calling=+12125550123&called=+12125550142&call_id=q",
    b"called=911&call_id=q",
    b"calling=1&calling=2&call_id=%00",
    b"",
    b"a?b=c&/&called=112&call_id=%F0%9F",
]


def get(query: bytes) -> bytes:
    return b"GET /v1/screen?" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def chunked(body: bytes) -> bytes:
    head = post(b"", b"Transfer-Encoding: chunked", length=False)
    half = len(body) // 2
    parts = [part for part in (body[:half], body[half:]) if part]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


plain = st.one_of(st.sampled_from(BODIES).map(post), st.sampled_from(QUERIES).map(get))
odd = st.sampled_from(
    [
        chunked(BODIES[0]),
        chunked(b""),
        post(BODIES[0], b"Expect: 100-continue"),
        post(BODIES[0], b"Expect: something"),
        post(BODIES[0], b"CONTENT-TYPE: text/plain", b"Connection: Keep-Alive"),
        post(BODIES[0], b"Connection: keep-alive, x", b"X: \t a\tb "),
        post(BODIES[0], b"Authorization: Bearer nobody", b"authorization: Basic x"),
        post(b"x" * 70_000),
        post(BODIES[0]).replace(b"/v1/screen", b"/v1/screen?called=112"),
        post(BODIES[0]).replace(b"/v1/screen", b"/v1/scree%6E"),
        post(BODIES[0]).replace(b"/v1/screen", b"http://x/v1/screen"),
        post(BODIES[0]).replace(b"POST", b"PUT"),
        b"GET /v1/screen HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/screen?called=112&call_id=b HTTP/1.1\r\nContent-Length: 2\r\n\r\nxx",
        b"HEAD /v1/screen HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n",
        get(b"called=%2B12125550142&call_id=q#fragment"),
    ]
)
last = st.sampled_from(
    [
        CLOSING,
        CLOSING,
        post(BODIES[0], b"Connection: close"),
        post(BODIES[0], version=b"1.0"),
        post(BODIES[0], b"Connection: keep-alive", version=b"1.0"),
    ]
)
broken = st.sampled_from(
    [
        post(BODIES[0], b"X-Fold: a\r\n b"),
        get(b"called=112&call_id=\xc3\xa9"),
        post(BODIES[0], version=b"9.9"),
        post(BODIES[0]).replace(b"Content-Length: ", b"Content-Length: 1\r\nContent-Length: "),
        post(BODIES[0], b"Transfer-Encoding: chunked"),
        post(BODIES[0]).replace(b"\r\n", b"\n"),
        post(BODIES[0], b"X: a\x00b"),
        post(BODIES[0], b"X : b"),
        post(BODIES[0], b": b"),
        b"\x00\x01\x02",
        b"NONSENSE\r\n\r\n",
        b"GET /v1/screen?\x01 HTTP/1.1\r\n\r\n",
        b"POST /v1/screen HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/screen HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST /v1/screen HTTP/1.1\r\nContent-Length: +5\r\n\r\n12345",
        b"POST /v1/screen HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ]
)


@BYTE_STREAMS
@example(requests=[post(each) for each in BODIES], end=CLOSING, cuts=[])
@example(requests=[get(each) for each in QUERIES], end=CLOSING, cuts=[])
@given(
    requests=st.lists(st.one_of(plain, plain, odd), max_size=6),
    end=last,
    cuts=st.lists(st.integers(min_value=0), max_size=8),
)
def test_any_mix_in_any_pieces(
    both: Both, requests: list[bytes], end: bytes, cuts: list[int]
) -> None:
    """Pipelined, cut anywhere, ours and the rest mixed: byte for byte what uvicorn answers."""
    pieces = in_pieces(b"".join([*requests, end]), cuts)
    assert said(both.fast, pieces) == said(both.stock, pieces)


@BYTE_STREAMS
@given(requests=st.lists(plain, max_size=4), end=broken, cuts=st.lists(st.integers(0), max_size=4))
def test_what_is_broken_is_refused_after_what_is_not(
    both: Both, requests: list[bytes], end: bytes, cuts: list[int]
) -> None:
    """The refusal is uvicorn's; it does not take the place of the answers before it."""
    whole = said(both.stock, [*requests, CLOSING]).removesuffix(said(both.stock, [CLOSING]))
    # The end in one piece: who sends on after a refusal has his connection reset.
    pieces = [*in_pieces(b"".join(requests), cuts), end]
    assert said(both.fast, pieces) == whole + said(both.stock, [end])


@pytest.mark.parametrize("end", [post(BODIES[0]), chunked(BODIES[0]), get(QUERIES[0])])
def test_cut_at_every_byte(both: Both, end: bytes) -> None:
    """A request between two others, in two pieces at each place, and one byte at a time."""
    stream = post(BODIES[1]) + end + post(BODIES[2]) + CLOSING
    expected = said(both.stock, [stream])
    assert expected.count(b"HTTP/1.1 200") == 4
    first = len(post(BODIES[1]))
    for cut in range(first - 3, first + len(end) + 3):
        assert said(both.fast, [stream[:cut], stream[cut:]]) == expected, cut
    assert said(both.fast, [stream[n : n + 1] for n in range(len(stream))]) == expected


@BYTE_STREAMS
@given(
    fields=st.lists(
        st.sampled_from(
            [
                b"Host: x", b"content-length: 5", b"Content-Length:  5 ", b"Content-Length: 5, 5",
                b"Content-Length: 0x5", b"Connection: close", b"Connection: keep-alive",
                b"Connection: upgrade", b"Upgrade: websocket", b"Expect: 100-continue",
                b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b" folded",
                b"X: a\rb", b"X: a\nb", b"X:", b"X", b": y", b"X\t: y", b"\xff: \xff",
                b"Authorization: Bearer  k ", b"Content-Length: ", b"Content-Length: 65537",
            ]
        ),
        max_size=4,
    )
)  # fmt: skip
def test_a_plain_head_has_no_two_readings(fields: list[bytes]) -> None:
    """What is answered in the fast lane has one length, no framing and keeps the connection."""
    head = read_head(b"".join(field + b"\r\n" for field in fields) + b"\r\n")
    if head is NOT_PLAIN:
        return
    text = b"\n".join(fields).lower()
    assert text.count(b"content-length") == (head.length > 0)
    assert head.length in (0, 5)
    for word in (b"transfer", b"expect", b"upgrade", b"close", b"folded", b"a\rb", b"a\nb"):
        assert word not in text
    assert head.bearer == (b"k" if b"bearer" in text else None)


def test_a_head_too_large_is_refused(both: Both) -> None:
    """431, whether it comes at once or never ends."""
    whole = b"GET /v1/screen?called=" + b"1" * HEAD_LIMIT_BYTES + b" HTTP/1.1\r\n\r\n"
    endless = post(b"", b"X: " + b"y" * HEAD_LIMIT_BYTES)[:-4]
    for stream in (whole, endless):
        answer = said(both.fast, [stream[:2000], stream[2000:]])
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"connection: close" in answer


def test_answers_leave_in_the_order_of_their_questions(both: Both) -> None:
    """A call that needs no facts does not overtake one that does."""
    bodies = [
        question("+12125550123", called, call_id=f"{n}", at=NOON)
        for n, called in enumerate([US, "911"] * MOST_WAITING)
    ]
    stream = b"".join(map(post, bodies)) + CLOSING
    answer = said(both.fast, [stream])
    assert answer == said(both.stock, [stream])
    causes = re.findall(rb'"cause":"(\w+)"', answer)
    assert causes[::2] == [b"subscriber_refusal"] * (len(bodies) // 2)
    assert causes[1::2] == [b"emergency"] * (len(bodies) // 2)


def test_who_does_not_read_is_not_read_from(both: Both) -> None:
    """A client that only sends fills its own socket, not the memory of the service; others are
    answered meanwhile, and it gets all of its answers once it reads."""
    body = post(question("+12125550123", "911"))
    service = both.fast
    with connected(service, buffer_bytes=65_536) as greedy:
        greedy.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < MOST_UNREAD_BYTES:
                sent += greedy.send(body * 64)
        assert sent < MOST_UNREAD_BYTES
        print("SENT", sent / len(body))
        assert service.screen(called="112")["cause"] == "emergency"
        # What it had begun to send must be ended for the last answer to come.
        rest = body[sent % len(body) :] if sent % len(body) else b""
        wanted = (sent + len(rest)) // len(body)
        received, tail = 0, b""
        while received < wanted:
            if rest:
                with contextlib.suppress(BlockingIOError):
                    rest = rest[greedy.send(rest, socket.MSG_DONTWAIT) :]
            greedy.settimeout(10)
            tail += greedy.recv(2**20)
            *whole, tail = tail.split(b'"latency_us":')
            received += len(whole)
        assert received == wanted


def test_who_goes_away_in_a_call_harms_nobody(both: Both) -> None:
    """Connections that end while their calls are decided leave nothing behind."""
    service = both.fast
    before = service.metric("screening_decision_seconds_count")
    for n in range(20):
        with connected(service) as connection:
            stream = b"".join(
                post(orjson.dumps({"called": US, "call_id": f"gone-{n}-{k}"})) for k in range(8)
            )
            connection.sendall(stream)
            linger = (1).to_bytes(4, "little") + bytes(4)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # reset, not closed
    wait_for(lambda: descriptors(service) <= 40, seconds=10, what="the connections to be gone")
    assert service.screen(called="112")["cause"] == "emergency"
    assert service.metric("screening_decision_seconds_count") >= before
    assert "Traceback" not in service.log
    assert "could not" not in service.log


def descriptors(service: Running) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def test_who_sends_too_slowly_is_cut_off(both: Both) -> None:
    """A request that does not come to its end does not keep its connection."""
    started = (b"POST /v1/scr", post(BODIES[0])[:-3], post(b"{", b"Expect: 100-continue")[:-1])
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(both.fast)) for _ in started]
        for connection, request in zip(slow, started, strict=True):
            connection.sendall(post(BODIES[4]) + request)
        for connection in slow:
            connection.settimeout(30)
            received = b""
            while chunk := connection.recv(65_536):
                received += chunk
            assert received.startswith(b"HTTP/1.1 200 OK")
            assert b"HTTP/1.1 408 Request Timeout" in received


actions = st.sampled_from(Action)
texts = st.text(max_size=20)
verdicts = st.builds(
    Verdict,
    actions,
    st.sampled_from(Cause),
    texts,
    texts,
    st.booleans(),
    st.none() | st.dictionaries(texts, texts, max_size=2),
    st.lists(st.builds(Shadow, texts, actions), max_size=2).map(tuple),
)
sip_answers = st.builds(
    SipAnswer,
    st.just(607),
    texts,
    st.sampled_from(["", "{id}", "100% {id} {redress} {id}", '"latency_us":0']),
    st.integers(1, 127),
    st.lists(st.tuples(texts, st.sampled_from(["{id}", "%b%d", ""])), max_size=2).map(tuple),
)


@settings(deadline=None)
@given(
    verdict=verdicts,
    sip=sip_answers,
    redress=st.sampled_from(["", "https://redress.example/%41"]),
    latency_us=st.integers(0, 10**9),
)
def test_answers_made_ahead_are_those_of_the_wire(
    verdict: Verdict, sip: SipAnswer, redress: str, latency_us: int
) -> None:
    """Whatever is in a verdict, filling its form gives the bytes that writing it would."""
    ruleset = RuleSet("s", "1", Action.ALLOW, (), redress=redress, sip={Cause.DEFAULT: sip})
    made = Answers()
    for decision_id in ("7ZK3" * 6 + "AB", "0" * 26):
        for of in (ruleset, None):
            decision = Decision(verdict, of, decision_id)
            assert made.body(decision, latency_us) == write_answer(decision, latency_us=latency_us)
