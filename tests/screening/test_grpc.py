"""The gRPC listener, asked with the official client on the running service."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tests.conftest import server_program
from tests.running import ROOT, Running, running_service, wait_for
from tests.servers import IndexServer

from screening.contract import FIELDS, Answer, Kind
from screening.grpc_port import MESSAGE_LIMIT_BYTES, QUESTIONS_LIMIT, SERVICE, address_of
from screening.v1 import screening_pb2 as v1
from screening.v1.screening_pb2_grpc import ScreeningStub

US = "+12125550142"
QUESTION = v1.Question(calling="+12125550123", called=US, call_id="grpc")
EMERGENCY = v1.Question(calling="+12125550123", called="112")


def one(question: v1.Question) -> v1.ScreenRequest:
    return v1.ScreenRequest(question=question)


def many(*questions: v1.Question, first: int = 0) -> v1.ScreenStreamRequest:
    """Questions with ids from `first`."""
    numbered = enumerate(questions, first)
    return v1.ScreenStreamRequest(
        questions=[v1.StreamedQuestion(id=at, question=each) for at, each in numbered]
    )


PING, GOAWAY = 6, 7
ACK = 1


class Frames:
    """A connection of HTTP/2 frames (RFC 9113), as their type, flags and payload."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._read = self._socket.makefile("rb")
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._frame(4, b""))

    @staticmethod
    def _frame(kind: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3) + bytes([kind, 0, 0, 0, 0, 0]) + payload

    def ping(self, number: int) -> None:
        self._socket.sendall(self._frame(PING, number.to_bytes(8)))

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        while len(head := self._read.read(9)) == 9:
            yield head[3], head[4], self._read.read(int.from_bytes(head[:3]))

    def close(self) -> None:
        self._read.close()
        self._socket.close()


@pytest.fixture
def channel(service: Running) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{service.port('grpc')}") as channel:
        yield channel


def test_the_messages_have_the_contract_s_fields() -> None:
    """Question and Answer name what the contract names, in its order and of its kinds."""
    kinds = {Kind.FLAG: "bool", Kind.COUNT: "uint32"}
    text = (ROOT / "deploy/proto/screening/v1/screening.proto").read_text("utf-8")
    lines = [
        line.strip() for line in text.split("message Question {")[1].split("\n}")[0].split("\n")
    ]
    declared = [line.rsplit(" = ", 1)[0] for line in lines if line and not line.startswith("//")]
    assert declared == [f"{kinds.get(each.kind, 'string')} {each.name}" for each in FIELDS]
    assert [field.name for field in v1.Answer.DESCRIPTOR.fields] == [*Answer.model_fields]


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (v1.Question(calling="+12125550123"), "called"),
        (v1.Question(called=US, display_name="a\u0000b"), "display_name"),
        (v1.Question(called=US + "\r\n"), "called"),
    ],
)
def test_a_malformed_question_is_an_invalid_argument(
    channel: Any, service: Running, question: v1.Question, field: str
) -> None:
    """With its field in the trailing metadata; on a stream a refusal, and the stream goes on."""
    before = service.metric("screening_malformed_questions_total", field=field)
    stub = ScreeningStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Screen(one(question), timeout=5)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ("field", field) in refused.value.trailing_metadata()
    answers = [
        each
        for message in stub.ScreenStream(iter([many(question), many(EMERGENCY, first=1)]))
        for each in message.answers
    ]
    outcomes = {each.id: each for each in answers}
    assert outcomes[0].refusal.field == field
    assert outcomes[1].answer.cause == "emergency"
    assert service.metric("screening_malformed_questions_total", field=field) == before + 2


def test_what_is_no_message_is_an_invalid_argument(channel: Any) -> None:
    """Bytes that are no protobuf, to either method."""
    for call, arguments in (
        (channel.unary_unary(f"/{SERVICE}/Screen"), b"\xff"),
        (channel.stream_stream(f"/{SERVICE}/ScreenStream"), iter([b"\xff"])),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            list(call(arguments, timeout=5))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_key_in_the_metadata_counts(channel: Any, service: Running) -> None:
    """`explain` is answered with a trace for the holder of the right, and only for that."""
    stub = ScreeningStub(channel)
    asked = one(v1.Question(calling="+12125550123", called=US, explain=True))
    assert not stub.Screen(asked, timeout=5).answer.trace
    key = (("authorization", f"Bearer {service.first_key}"),)
    answer = stub.Screen(asked, timeout=5, metadata=key).answer
    assert {entry["rule"] for entry in answer.trace} >= {"us.dno"}
    assert answer.HasField("evidence")


def test_a_stream_answers_every_question_once(channel: Any) -> None:
    """More than may wait at once, in messages of many and of one, each with its own answer."""
    count = QUESTIONS_LIMIT + 1000
    questions = [EMERGENCY if at % 7 == 0 else QUESTION for at in range(count)]
    messages = [many(*questions[at : at + 250], first=at) for at in range(0, count - 100, 250)]
    sent = sum(len(message.questions) for message in messages)
    messages += [many(questions[at], first=at) for at in range(sent, count)]
    seen: dict[int, str] = {}
    for message in ScreeningStub(channel).ScreenStream(iter(messages), timeout=60):
        for each in message.answers:
            assert each.id not in seen
            seen[each.id] = each.answer.cause
    assert set(seen) == set(range(count))
    assert {at for at, cause in seen.items() if cause == "emergency"} == set(range(0, count, 7))


def test_bounds_of_a_message_and_of_metadata(channel: Any) -> None:
    """Metadata of 8 KB is taken; more than the bounds is refused, and the next call is served."""
    stub = ScreeningStub(channel)
    assert stub.Screen(one(EMERGENCY), timeout=5, metadata=(("x-trace", "x" * 8000),)).answer.rule
    with pytest.raises(grpc.RpcError) as refused:
        stub.Screen(one(EMERGENCY), timeout=5, metadata=(("x-trace", "x" * 60_000),))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    large = v1.Question(called=US, display_name="x" * MESSAGE_LIMIT_BYTES)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Screen(one(large), timeout=5)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Screen(one(EMERGENCY), timeout=5).answer.rule


def test_pings_cost_no_connection(service: Running) -> None:
    """Far more than gRPC's own servers stand, with no call open: each is answered, none is a
    strike; a connection lost for them would take the calls on it along."""
    with contextlib.closing(Frames(service.port("grpc"))) as frames:
        for number in range(50):
            frames.ping(number)
        answered = 0
        for kind, flags, payload in frames:
            assert kind != GOAWAY, payload
            if (kind, flags) == (PING, ACK):
                assert int.from_bytes(payload) == answered
                answered += 1
                if answered < 200:
                    frames.ping(answered + 49)
                if answered == 200:
                    break
        assert answered == 200


def test_a_client_that_probes_all_the_time_stays_connected(service: Running) -> None:
    """The official client, with a ping whenever 1 ms brought nothing."""
    options = [
        ("grpc.keepalive_time_ms", 1),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    seen: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(f"127.0.0.1:{service.port('grpc')}", options=options) as channel:
        channel.subscribe(seen.append, try_to_connect=True)
        wait_for(lambda: grpc.ChannelConnectivity.READY in seen, seconds=10, what="the connection")
        stub = ScreeningStub(channel)
        for _ in range(200):
            assert stub.Screen(one(EMERGENCY), timeout=5).answer.cause == "emergency"
        assert seen[seen.index(grpc.ChannelConnectivity.READY) :] == [
            grpc.ChannelConnectivity.READY
        ]


def test_it_says_what_it_is(channel: Any) -> None:
    """Health by service, and every message by reflection, the same as in the proto."""
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        status = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    found = DescriptorPool(database).FindMessageTypeByName("screening.v1.Question")
    assert [field.name for field in found.fields] == [each.name for each in FIELDS]


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:1234", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:1234", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:1234", "2001:db8::1"),
        ("unix:/run/x.sock", ""),
        ("unknown", ""),
    ],
)
def test_the_address_of_a_peer(peer: str, address: str) -> None:
    """As clients.toml knows them."""
    assert address_of(peer) == address


def test_deadlines_cancels_and_the_end(tmp_path: Path) -> None:
    """While the index hangs: a deadline is kept, a cancelled call leaves nothing behind, a stream
    is answered out of order; and on SIGTERM calls that run are answered, health says no."""
    server = IndexServer(server_program("valkey"), tmp_path)
    server.start()
    assert server.process is not None
    with (
        running_service(
            tmp_path / "state", "--sample", redis_url=server.url, facts_budget_ms="1000"
        ) as service,
        grpc.insecure_channel(f"127.0.0.1:{service.port('grpc')}") as channel,
    ):
        stub = ScreeningStub(channel)
        assert stub.Screen(one(QUESTION), timeout=5).answer.degraded is False
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(grpc.RpcError) as late:
                stub.Screen(one(QUESTION), timeout=0.1)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

            cancelled = stub.Screen.future(one(QUESTION), timeout=5)
            assert cancelled.cancel()
            assert stub.Screen(one(EMERGENCY), timeout=5).answer.cause == "emergency"

            held = threading.Event()

            def asked() -> Iterator[v1.ScreenStreamRequest]:
                yield many(QUESTION, EMERGENCY)
                held.wait(20)

            stream = stub.ScreenStream(asked(), timeout=20)
            messages = [next(stream), next(stream)]
            order = [each.id for message in messages for each in message.answers]
            assert order == [1, 0]
            held.set()
            assert list(stream) == []

            def calls() -> float:
                return service.metric("screening_port_requests_total", method="Screen")

            idle = Frames(service.port("grpc"))
            before = calls()
            running = stub.Screen.future(one(QUESTION), timeout=5)
            wait_for(lambda: calls() > before, seconds=10, what="the call to be under way")
            service.process.send_signal(signal.SIGTERM)
            assert running.result().answer.degraded is True
            assert service.process.wait(20) == 0
            told = [payload for kind, _, payload in idle if kind == GOAWAY]
            idle.close()
            assert int.from_bytes(told[0][4:8]) == 0, "NO_ERROR"
        finally:
            server.thaw()
            server.kill()
    assert "Traceback" not in service.log
