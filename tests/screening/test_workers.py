"""Many workers behind one address: none of their ends drops a call that could be answered."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import httpx
import orjson
import pytest
from tests.running import ROOT, Running, command_of, running_service, wait_for

from screening.netstring import frame
from screening.v1 import screening_pb2 as v1
from screening.v1.screening_pb2_grpc import ScreeningStub

CALL = b"GET /v1/screen?calling=%%2B12125550123&called=%%2B12125550142&call_id=%b HTTP/1.1\r\n"
"""The first line of a call with a key of its own."""

PAGE = (ROOT / "docs" / "transports.md").read_text("utf-8")
RETRIES = [("grpc.service_config", PAGE.partition("```json\n")[2].partition("```")[0])]
"""Of a gRPC client, as the page has it."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers over the sample registry."""
    state = tmp_path_factory.mktemp("workers") / "state"
    with running_service(state, "--sample", "--workers", "2") as running:
        wait_for(lambda: up(running) == 2, seconds=30, what="both workers")
        yield running


def up(service: Running) -> float:
    return service.metric("screening_worker_up")


class Connection:
    """One connection of a switch: a call at a time, closed when the service says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ended = False

    @classmethod
    async def to(cls, service: Running) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", httpx.URL(service.url).port))

    async def ask(self, request: bytes) -> dict[str, object]:
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> dict[str, object]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        assert status == "HTTP/1.1 200 OK", status
        headers = {}
        for line in filter(None, lines):
            name, value = line.split(": ", 1)
            headers[name.lower()] = value
        body = await self.reader.readexactly(int(headers["content-length"]))
        self.ended = headers.get("connection") == "close"
        return dict(orjson.loads(body))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@dataclass
class Calls:
    """What became of the calls of some switches."""

    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@contextlib.asynccontextmanager
async def calling(service: Running, *, switches: int = 8) -> AsyncIterator[Calls]:
    """Calls without a pause while the block runs: half of the switches keep their connection for
    as long as they may, the others open one for each call."""
    seen, stopping = Calls(), asyncio.Event()

    async def switch(name: int) -> None:
        connection: Connection | None = None
        for number in range(1_000_000):
            if stopping.is_set():
                break
            key = b"%d-%d-%d" % (id(seen), name, number)
            try:
                if connection is None:
                    connection = await Connection.to(service)
                verdict = await connection.ask(CALL % key + b"Host: x\r\n\r\n")
                assert verdict["action"]
                seen.answered += 1
            except (OSError, EOFError, asyncio.IncompleteReadError) as broken:
                seen.failures[type(broken).__name__] += 1
                if connection is not None:
                    connection.ended = True
            if connection is not None and (connection.ended or name % 2):
                await connection.close()
                connection = None
            await asyncio.sleep(0.002)
        if connection is not None:
            await connection.close()

    running = [asyncio.create_task(switch(name)) for name in range(switches)]
    try:
        yield seen
    finally:
        stopping.set()
        await asyncio.gather(*running)


@contextlib.asynccontextmanager
async def calling_otherwise(service: Running) -> AsyncIterator[dict[str, Calls]]:
    """The same over gRPC, on one channel, and over netstrings, on one connection as long as it
    lasts: a question that it did not answer before its end is asked on another one."""
    seen, stopping = {"grpc": Calls(), "jsonrpc": Calls()}, asyncio.Event()

    async def grpc_switch() -> None:
        calls, question = seen["grpc"], v1.Question(calling="+12125550123", called="+12125550142")
        address = f"127.0.0.1:{service.port('grpc')}"
        async with grpc.aio.insecure_channel(address, options=RETRIES) as channel:
            stub = ScreeningStub(channel)
            while not stopping.is_set():
                try:
                    answer = (await stub.Screen(v1.ScreenRequest(question=question))).answer
                    assert answer.action
                    calls.answered += 1
                except grpc.aio.AioRpcError as failed:
                    calls.failures[f"{failed.code()}: {failed.details()}"] += 1
                await asyncio.sleep(0.002)

    async def netstring_switch() -> None:
        calls, number, connection = seen["jsonrpc"], 0, None
        params = {"calling": "+12125550123", "called": "+12125550142"}
        while not stopping.is_set():
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", service.port("rpc"))
            reader, writer = connection
            asked = {"jsonrpc": "2.0", "id": number, "method": "screen", "params": params}
            try:
                writer.write(frame(orjson.dumps(asked)))
                length = await reader.readuntil(b":")
                answer = orjson.loads((await reader.readexactly(int(length[:-1]) + 1))[:-1])
            except (ConnectionError, asyncio.IncompleteReadError):
                writer.close()
                connection = None
                calls.failures["asked again"] += 1
                continue
            assert (answer["id"], bool(answer["result"]["action"])) == (number, True)
            number += 1
            calls.answered += 1
            await asyncio.sleep(0.002)
        if connection is not None:
            connection[1].close()

    running = [asyncio.create_task(each()) for each in (grpc_switch, netstring_switch)]
    try:
        yield seen
    finally:
        stopping.set()
        await asyncio.gather(*running)


async def until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """`wait_for` beside calls that go on."""
    await asyncio.to_thread(lambda: wait_for(condition, seconds=seconds, what=what))


RECORDER = "recorder's process id"


def totals(service: Running) -> dict[str, float]:
    """Every counter and bucket of the service, and which recorder says some of them."""
    text = httpx.get(service.url + "/metrics", timeout=10).text
    kinds = dict(line.split(" ")[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    found = {RECORDER: float(json.loads((service.state / "recorder.json").read_bytes())["pid"])}
    for line in text.splitlines():
        name = line.split("{")[0].split(" ")[0]
        family = name
        for end in ("_bucket", "_count", "_sum"):
            family = family.removesuffix(end)
        if kinds.get(name) == "counter" or kinds.get(family) == "histogram":
            sample, value = line.rsplit(" ", 1)
            assert sample not in found, f"twice: {sample}"
            found[sample] = float(value)
    return found


def fell(before: dict[str, float], after: dict[str, float]) -> list[str]:
    # What a recorder counts begins anew with it.
    another = before[RECORDER] != after[RECORDER]
    kept = before.keys() - {RECORDER}
    if another:
        kept = {name for name in kept if not name.startswith("screening_recorder_")}
    return [name for name in sorted(kept) if after.get(name, -1.0) < before[name]]


async def test_connections_are_shared_out(service: Running) -> None:
    """Few connections that stay are of both workers, whoever was asked first."""
    connections = [await Connection.to(service) for _ in range(8)]
    try:
        workers = Counter()
        for each in connections:
            ready = await each.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            workers[ready["worker"]] += 1
        assert set(workers) == {0, 1}
        assert min(workers.values()) >= 2
    finally:
        for each in connections:
            await each.close()


async def test_metrics_are_of_all_workers(service: Running) -> None:
    """Whichever worker is asked, it tells the calls of both; a state is told by worker."""
    before = service.metric("screening_decisions_total")
    async with calling(service) as calls:
        await until(lambda: calls.answered >= 200, seconds=60, what="200 calls")
    assert not calls.failures
    for _ in range(4):
        assert service.metric("screening_decisions_total") == before + calls.answered
        assert service.metric("screening_decision_seconds_count") >= before + calls.answered
        for worker in ("0", "1"):
            assert service.metric("screening_worker_cpu_seconds_total", worker=worker) > 0
            assert service.metric("screening_worker_resident_bytes", worker=worker) > 1e6
            assert service.metric("screening_ruleset_info", ruleset="cn", worker=worker) == 1
    wait_for(
        lambda: len(list((service.state / "recall").rglob("*.calls"))) >= 2,
        seconds=30,
        what="recent calls of each worker",
    )


async def test_a_worker_that_is_killed_comes_back(service: Running) -> None:
    """It costs the calls it was answering; nobody is refused, nothing that was shown is lost."""
    wait_for(lambda: up(service) == 2, seconds=60, what="both workers")
    shown = totals(service)
    died = service.metric("screening_worker_restarts_total", reason="died")
    async with calling(service) as calls:
        await until(lambda: calls.answered >= 100, seconds=60, what="100 calls")
        victim = service.workers()[0]
        os.kill(victim, signal.SIGKILL)
        await until(
            lambda: victim not in service.workers() and up(service) == 2,
            seconds=60,
            what="another worker in its place",
        )
        answered = calls.answered
        await until(lambda: calls.answered >= answered + 100, seconds=60, what="100 more calls")
    # At most one of each switch was being answered there.
    assert calls.failures.total() <= 8
    assert "ConnectionRefusedError" not in calls.failures
    assert service.metric("screening_worker_restarts_total", reason="died") == died + 1
    assert not fell(shown, totals(service))


async def test_a_rolling_restart_drops_no_call(service: Running) -> None:
    """SIGUSR2 replaces every process; every call meanwhile is answered, on old connections too."""
    wait_for(lambda: up(service) == 2, seconds=60, what="both workers")
    before, shown = set(service.workers()), totals(service)
    replaced = service.metric("screening_worker_restarts_total", reason="replaced")
    decided = service.metric("screening_decisions_total")
    async with calling(service) as calls, calling_otherwise(service) as others:

        def answered_otherwise() -> int:
            return min(each.answered for each in others.values())

        await until(lambda: calls.answered >= 50, seconds=60, what="50 calls")
        await until(lambda: answered_otherwise() >= 20, seconds=60, what="20 of each other way")
        service.process.send_signal(signal.SIGUSR2)
        await until(
            lambda: not before & set(service.workers()) and up(service) == 2,
            seconds=120,
            what="two other workers",
        )
        answered, otherwise = calls.answered, answered_otherwise()
        await until(lambda: calls.answered >= answered + 50, seconds=60, what="50 more calls")
        await until(lambda: answered_otherwise() >= otherwise + 20, seconds=60, what="20 more")
    assert not calls.failures
    assert not others["grpc"].failures
    # Both workers may have had the connection.
    assert others["jsonrpc"].failures["asked again"] <= 2
    assert service.metric("screening_worker_restarts_total", reason="replaced") == replaced + 2
    assert not fell(shown, totals(service))
    # Those that left have told what they counted to the last.
    total = calls.answered + sum(each.answered for each in others.values())
    assert service.metric("screening_decisions_total") == decided + total


def test_every_worker_is_told(service: Running) -> None:
    """SIGHUP, and a reload over HTTP, take in what has changed in both."""
    for kind in ("keys", "rules"):

        def taken_in(kind: str = kind) -> float:
            return service.metric("screening_reloads_total", kind=kind, outcome="taken_in")

        before = taken_in()
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: taken_in() >= before + 2, seconds=60, what=f"the {kind} in both")  # noqa: B023
    before = service.metric("screening_reloads_total", kind="rules", outcome="taken_in")
    key = {"Authorization": f"Bearer {service.first_key}"}
    done = httpx.post(service.url + "/v1/admin/rules/reload", headers=key, timeout=60)
    assert done.status_code == 200, done.text
    assert service.metric("screening_reloads_total", kind="rules") >= before + 2


async def test_a_stop_lets_calls_end_within_its_bound(tmp_path: Path) -> None:
    """A question that is half sent is answered; one that never ends is not waited for for ever."""
    with running_service(tmp_path / "state", "--workers", "2", drain_seconds="5") as service:
        body = b'{"calling": "+12125550123", "called": "+12125550142"}'
        head = b"POST /v1/screen HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        slow, never, idle = [await Connection.to(service) for _ in range(3)]
        for each in (slow, never):
            each.writer.write(head + body[:10])
        await idle.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        service.process.send_signal(signal.SIGTERM)
        await until(
            lambda: not listens(service),
            seconds=20,
            what="the address to be closed",
        )
        slow.writer.write(body[10:])
        assert (await slow.answer())["action"] == "allow"
        assert await slow.reader.read() == b""
        assert await idle.reader.read() == b""
        assert await asyncio.to_thread(service.process.wait, 20) == 0
        for each in (slow, never, idle):
            await each.close()
        assert "killed" not in service.log
        assert "Traceback" not in service.log
    assert not (service.state / "http.port").exists()


def listens(service: Running) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", httpx.URL(service.url).port)) == 0


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    """Killed, it leaves nobody behind that answers from what will never be brought up to date."""
    with running_service(tmp_path / "state", "--workers", "2", drain_seconds="1") as service:
        wait_for(lambda: up(service) == 2, seconds=30, what="both workers")
        workers = service.workers()
        assert len(workers) == 2
        service.process.kill()
        service.process.wait()
        wait_for(
            lambda: not any("screening.worker" in command_of(pid) for pid in workers),
            seconds=30,
            what="the workers to end",
        )


def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    """What is wrong is told once, and there is no second try that would hide it."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "clients.toml").write_text("[gateway]\nnetworks = 3\n")
    with (
        pytest.raises(AssertionError, match="the service ended") as ended,
        running_service(state),
    ):
        pass
    assert "gateway.networks is 3" in str(ended.value)
    assert "Traceback" not in str(ended.value)
