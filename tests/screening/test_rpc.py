"""The JSON-RPC listener: on the running service, and its bounds on a listener of the test."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import server_program
from tests.rpc import RpcSocket, dumps, request
from tests.running import Running, running_service, wait_for
from tests.screening.test_hostile import HOSTILE, questions
from tests.servers import IndexServer

from screening import rpc
from screening.acceptor import Seats
from screening.access import UNKNOWN_CLIENT
from screening.contract import Answer
from screening.counts import PortCounts
from screening.jsonrpc import Request
from screening.listeners import RPC, bound, listeners
from screening.netstring import frame
from screening.place import Place
from screening.rpc import Connection, RpcPort
from screening.settings import Settings

US = "+12125550142"
QUESTION = {"calling": "+12125550123", "called": US, "call_id": "rpc"}
PING = frame(dumps(request("ping", identity=1)))


def refused(service: Running, reason: str) -> float:
    return service.metric("screening_port_refused_total", transport="jsonrpc", reason=reason)


def test_the_result_is_the_answer_of_the_contract(service: Running) -> None:
    """The same document as over HTTP, its latency aside."""
    with RpcSocket(service.port("rpc")) as switch:
        response = switch.ask("screen", QUESTION, identity="a")
    result = response.pop("result")
    assert response == {"jsonrpc": "2.0", "id": "a"}
    Answer.model_validate(result, strict=False)
    assert result | {"latency_us": 0} == service.screen(**QUESTION) | {"latency_us": 0}


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (None, None),
        ([US], None),
        ("text", None),
        ({}, "called"),
        ({"called": 5}, "called"),
        ({"called": US, "redirect_count": "1"}, "redirect_count"),
        ({"called": US, "display_name": "a\u0000b"}, "display_name"),
    ],
)
def test_a_broken_question_is_refused_by_field(
    service: Running, params: object, field: str | None
) -> None:
    """-32602 with the name of the field, and the connection goes on."""
    with RpcSocket(service.port("rpc")) as switch:
        error = switch.ask("screen", params)["error"]
        assert error["code"] == -32602
        assert error.get("data", {}).get("field") == field
        assert switch.ask("ping")["result"] == "pong"


def test_requests_in_one_write_are_all_answered(service: Running) -> None:
    """Pipelined: 500 questions, every id once, each with the answer to its own question."""
    numbers = {index: f"+1212555{index % 20 + 120:04}" for index in range(500)}
    asked = [request("screen", QUESTION | {"called": numbers[index], "call_id": f"p{index % 20}"},
                     identity=index) for index in numbers]  # fmt: skip
    with RpcSocket(service.port("rpc")) as switch:
        switch.socket.sendall(b"".join(frame(dumps(each)) for each in asked))
        answers = {}
        for _ in asked:
            response = switch.receive()
            answers[response["id"]] = response["result"]
    assert set(answers) == set(numbers)
    for index, answer in answers.items():
        assert answer["decision_id"] == answers[index % 20]["decision_id"]
        assert answer["action"] == answers[index % 20]["action"]
    assert len({answer["decision_id"] for answer in answers.values()}) == 20


def test_a_batch_is_one_response(service: Running) -> None:
    """Questions with and without facts, a notification and nonsense, answered in one list."""
    batch = [
        request("screen", QUESTION, identity=1),
        request("screen", QUESTION | {"called": "112"}, identity=2),
        request("ping"),
        5,
    ]
    with RpcSocket(service.port("rpc")) as switch:
        switch.send(batch)
        responses = {each["id"]: each for each in switch.receive()}
    assert responses[1]["result"]["action"] in ("allow", "block")
    assert responses[2]["result"]["cause"] == "emergency"
    assert responses[None]["error"]["code"] == -32600
    assert len(responses) == 3


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "frame_length"),
        (b"65537:", "frame_too_long"),
        (b"4:ping;", "frame_end"),
    ],
)
def test_what_is_no_netstring_ends_the_connection(
    service: Running, sent: bytes, reason: str
) -> None:
    """What was asked before is answered, then an error with its reason counted, then the end."""
    before = refused(service, reason)
    with RpcSocket(service.port("rpc")) as switch:
        switch.socket.sendall(frame(dumps(request("screen", QUESTION, identity=1))) + sent)
        responses = [switch.receive(), switch.receive()]
        assert switch.receive() is None
    assert {"result" in each for each in responses} == {True, False}
    assert refused(service, reason) == before + 1


def test_json_that_is_broken_ends_nothing(service: Running) -> None:
    """A whole frame of nonsense is answered, and the next one too."""
    with RpcSocket(service.port("rpc")) as switch:
        switch.send(b"{")
        assert switch.receive()["error"]["code"] == -32700
        assert switch.ask("ping")["result"] == "pong"


def test_a_switch_that_ends_its_side_gets_its_answers(service: Running) -> None:
    """Half-closed, as `nc` does it: answered, then closed."""
    with RpcSocket(service.port("rpc")) as switch:
        switch.send(request("screen", QUESTION, identity=9))
        switch.socket.shutdown(socket.SHUT_WR)
        assert switch.receive()["id"] == 9
        assert switch.receive() is None


@HOSTILE
@given(params=questions)
def test_any_parameters_get_an_answer(service: Running, params: dict[str, object]) -> None:
    """A verdict or -32602; never an error of ours, never the end of the connection."""
    with RpcSocket(service.port("rpc")) as switch:
        try:
            document = dumps(request("screen", params, identity=1))
        except TypeError:
            return
        if len(document) <= rpc.FRAME_LIMIT_BYTES:
            switch.send(document)
            response = switch.receive()
            if "error" in response:
                assert response["error"]["code"] == -32602
            else:
                assert response["result"]["cause"] != "internal_error"


@HOSTILE
@given(junk=st.lists(st.one_of(st.binary(max_size=60), st.just(PING)), max_size=5))
def test_any_bytes_leave_the_service_as_it_was(service: Running, junk: list[bytes]) -> None:
    """A connection that sends junk is answered or ended; the next one is served."""
    with RpcSocket(service.port("rpc")) as switch:
        for each in junk:
            try:
                switch.socket.sendall(each)
            except OSError:
                break
    with RpcSocket(service.port("rpc")) as switch:
        assert switch.ask("ping")["result"] == "pong"


def test_answers_come_as_they_are_decided(tmp_path: Path) -> None:
    """While the index hangs, a question that needs no facts overtakes the one before it; and on
    SIGTERM the one that waits is answered before the connection is closed."""
    server = IndexServer(server_program("valkey"), tmp_path)
    server.start()
    assert server.process is not None
    with running_service(
        tmp_path / "state", "--sample", redis_url=server.url, facts_budget_ms="900"
    ) as service:
        try:
            with RpcSocket(service.port("rpc")) as switch:
                assert switch.ask("screen", QUESTION)["result"]["degraded"] is False
                os.kill(server.process.pid, signal.SIGSTOP)
                switch.send(request("screen", QUESTION, identity="waits"))
                switch.send(request("screen", QUESTION | {"called": "112"}, identity="emergency"))
                assert switch.receive()["id"] == "emergency"
                service.process.send_signal(signal.SIGTERM)
                response = switch.receive()
                assert (response["id"], response["result"]["degraded"]) == ("waits", True)
                assert switch.receive() is None
        finally:
            server.thaw()
            server.kill()


def test_off_opens_no_port() -> None:
    """`SCREENING_RPC_PORT=off`: no socket is bound."""
    assert RPC not in {each.name for each in listeners(Settings(rpc_port="off"))}


def test_a_port_in_use_is_named() -> None:
    """The start ends with the setting and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        named = f"SCREENING_RPC_PORT: cannot listen on 127.0.0.1:{port}: Address already in use"
        wanted = listeners(Settings(port=0, rpc_port=port))
        with pytest.raises(OSError, match=named), bound(wanted):
            pass


# The bounds of a connection, on a listener whose methods and clock are the test's.


class Clock:
    """Seconds as the test has them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Listener:
    """A listener in this process: `hold` keeps its requests, `large` answers with much."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.held: list[Request] = []
        self.counts = PortCounts("test")
        self.port = RpcPort(
            {
                "hold": self.held.append,
                "large": lambda asked: asked.result(b'"%b"' % (b"x" * 10_000)),
                "ping": lambda asked: asked.result(b'"pong"'),
            },
            client_at=lambda _address: UNKNOWN_CLIENT,
            counts=self.counts,
            clock=self.clock,
        )
        self.address = ("", 0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Connection]:
        before = set(self.port.connections)
        reader, writer = await asyncio.open_connection(*self.address)
        await until(lambda: bool(self.port.connections - before))
        (connection,) = self.port.connections - before
        return reader, writer, connection


async def until(condition: object) -> None:
    """Return once the condition holds."""
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    own = socket.create_server(("127.0.0.1", 0))
    own.setblocking(False)
    made.address = own.getsockname()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        place = Place(
            0, workers=1, seat=0, seats=Seats.make(1), channel=theirs, sockets={RPC: [own]}
        )
        made.port.listen(place)
        yield made
        await made.port.drain(within_seconds=0)
        await until(lambda: not made.port.connections)


BOTH_LOOPS = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


def buffered(connection: Connection) -> int:
    assert connection._transport is not None
    return connection._transport.get_write_buffer_size()


@BOTH_LOOPS
async def test_a_peer_that_does_not_read_is_bounded_and_cut(listener: Listener) -> None:
    """Its questions are left unread at the bound; ten seconds later it is cut off and counted;
    meanwhile another connection is served."""
    asked = frame(dumps(request("large", identity=1)))
    _, writer, connection = await listener.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    most = 0
    for _ in range(4000):
        writer.write(asked)
        await asyncio.sleep(0)
        if connection._transport is not None:
            most = max(most, buffered(connection))
    await until(lambda: connection._paused)
    # What one read of the socket asks comes on top of the limit.
    assert most <= rpc.UNREAD_LIMIT_BYTES + 262_144 // len(asked) * 10_100
    assert listener.counts.called["large"] < 4000
    reader, other, _ = await listener.connect()
    other.write(PING)
    assert b"pong" in await reader.readuntil(b"},")
    listener.clock.now += rpc.CUT_SECONDS + 1
    await until(lambda: len(listener.port.connections) == 1)
    assert listener.counts.refused == {"slow_reader": 1}
    writer.transport.abort()
    other.close()


@BOTH_LOOPS
async def test_a_peer_that_reads_again_is_served_on(listener: Listener) -> None:
    """All its questions are answered, though they were left unread for a while."""
    asked = frame(dumps(request("large", identity=1)))
    reader, writer, connection = await listener.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(asked * 2000)
    await until(lambda: connection._paused)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        received = 0
        while received < 2000:
            received += (await reader.read(1 << 20)).count(b'"id":1}')
    assert not listener.counts.refused
    await until(lambda: not connection._paused)
    writer.close()


@BOTH_LOOPS
async def test_a_frame_without_end_is_cut_an_idle_connection_is_not(listener: Listener) -> None:
    """Ten seconds for the rest of a frame; a day between two frames is nothing."""
    reader, writer, connection = await listener.connect()
    idle_reader, idle, _ = await listener.connect()
    for _ in range(3):
        # Trickled bytes are no progress that buys time.
        writer.write(b"9")
        await until(lambda: connection._frame_since == 1000.0)
    listener.clock.now += rpc.CUT_SECONDS + 1
    assert b"did not end within 10 s" in await reader.read()
    assert listener.counts.refused == {"frame_stalled": 1}
    listener.clock.now += 86_400
    await until(lambda: len(listener.port.connections) == 1)
    idle.write(PING)
    assert b"pong" in await idle_reader.readuntil(b"},")
    writer.close()
    idle.close()


@BOTH_LOOPS
async def test_questions_that_wait_are_bounded(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the bound the socket is left unread until answers have left."""
    monkeypatch.setattr(rpc, "QUESTIONS_LIMIT", 10)
    asked = frame(dumps(request("hold", identity=1)))
    reader, writer, connection = await listener.connect()
    writer.write(asked * 11)
    await until(lambda: connection._paused)
    writer.write(asked)
    for each in listener.held[:1]:
        each.result(b"1")
    await until(lambda: len(listener.held) == 12)
    for each in listener.held[1:]:
        each.result(b"1")
    async with asyncio.timeout(10):
        received = b""
        while received.count(b'"id":1}') < 12:
            received += await reader.read(65_536)
    assert not connection._paused
    writer.close()


@BOTH_LOOPS
async def test_connections_are_bounded(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is closed at once and counted."""
    monkeypatch.setattr(rpc, "CONNECTIONS_LIMIT", 2)
    kept = [await listener.connect() for _ in range(2)]
    reader, writer = await asyncio.open_connection(*listener.address)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    assert listener.counts.refused == {"too_many_connections": 1}
    for _, each, _ in kept:
        each.close()
    writer.close()


@BOTH_LOOPS
async def test_a_drain_ends_in_time(listener: Listener) -> None:
    """An answer that never comes holds up a drain for its bound, and is counted."""
    reader, writer, _ = await listener.connect()
    writer.write(frame(dumps(request("hold", identity=1))))
    await until(lambda: bool(listener.held))
    await listener.port.drain(within_seconds=0.05)
    assert listener.counts.refused == {"drain": 1}
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    listener.held[0].result(b"1")
    writer.close()


def test_the_gauge_follows_connections(service: Running) -> None:
    """Open ones are counted, and forgotten when they end."""

    def connections() -> float:
        return service.metric("screening_port_connections", transport="jsonrpc")

    wait_for(lambda: connections() == 0, seconds=10, what="no connection")
    with RpcSocket(service.port("rpc")) as switch:
        switch.ask("ping")
        assert connections() == 1
    wait_for(lambda: connections() == 0, seconds=10, what="no connection")
