"""What does a call cost the service over each of its transports?

The service with the sample registry, one worker; the same questions over HTTP, JSON-RPC
netstrings and gRPC, unary and as a stream, by turns in one run with what the gRPC library costs
alone: a servicer that answers at once (benchmarks/peers/grpc_peer.py). Many questions are under
way on one connection. Stated are calls a second and the processor time a call of the service with
its index server, which hardly depends on what else the machine does.
"""

import argparse
import asyncio
import contextlib
import itertools
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.contestants import ROOT, cores, pinned, started
from benchmarks.processes import cpu_us, family
from benchmarks.traffic import questions
from screening.netstring import frame
from screening.v1 import screening_pb2 as v1
from screening.v1.screening_pb2_grpc import ScreeningStub

UNDER_WAY: Final = 64
HTTP: Final = "HTTP, pipelined"
BARE: Final = "grpc.aio alone, unary"
MARK: Final = b'"latency_us"'
"""Stands once in every answer."""


class Pipelined:
    """Questions as bytes over one socket, as many answers as questions."""

    def __init__(self, port: int, asked: list[bytes]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._turns = itertools.cycle(
            b"".join(asked[at : at + UNDER_WAY]) for at in range(0, len(asked), UNDER_WAY)
        )

    def run(self, seconds: float) -> int:
        until, calls = time.perf_counter() + seconds, 0
        while time.perf_counter() < until:
            self._socket.sendall(next(self._turns))
            answered, kept = 0, b""
            while answered < UNDER_WAY:
                data = self._socket.recv(1 << 20)
                assert data, "the service closed the connection"
                answered += (kept + data).count(MARK)
                kept = data[-len(MARK) + 1 :]
            calls += UNDER_WAY
        return calls


class Grpc:
    """Questions as messages, unary or as a stream."""

    def __init__(self, port: int, asked: list[v1.Question], *, streams: bool) -> None:
        self._address = f"127.0.0.1:{port}"
        self._asked = itertools.cycle(asked)
        self._streams = streams

    def run(self, seconds: float) -> int:
        return asyncio.run(self._stream(seconds) if self._streams else self._unary(seconds))

    async def _unary(self, seconds: float) -> int:
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = ScreeningStub(channel)
            until, calls = time.perf_counter() + seconds, 0

            async def one() -> None:
                nonlocal calls
                while time.perf_counter() < until:
                    request = v1.ScreenRequest(question=next(self._asked))
                    assert (await stub.Screen(request)).answer.action
                    calls += 1

            await asyncio.gather(*(one() for _ in range(UNDER_WAY)))
            return calls

    async def _stream(self, seconds: float) -> int:
        async with grpc.aio.insecure_channel(self._address) as channel:
            stream = ScreeningStub(channel).ScreenStream()
            until, calls = time.perf_counter() + seconds, 0
            while time.perf_counter() < until:
                questions = [
                    v1.StreamedQuestion(id=at, question=next(self._asked))
                    for at in range(UNDER_WAY)
                ]
                await stream.write(v1.ScreenStreamRequest(questions=questions))
                answered = 0
                while answered < UNDER_WAY:
                    answered += len((await stream.read()).answers)
                calls += UNDER_WAY
            await stream.done_writing()
            return calls


def ways_in(
    folder: Path, *, pid: int, bare: Path, bare_pid: int
) -> Iterator[tuple[str, int, Callable[[float], int]]]:
    """Each transport by name, with the process that answers and what asks for some seconds."""
    asked = list(itertools.islice(questions(1), 64 * UNDER_WAY))
    bodies = [orjson.dumps(each) for each in asked]
    posts = [
        b"POST /v1/screen HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies
    ]
    requests = [
        frame(b'{"jsonrpc":"2.0","id":%d,"method":"screen","params":%b}' % (at, body))
        for at, body in enumerate(bodies)
    ]
    names = {field.name for field in v1.Question.DESCRIPTOR.fields}
    messages = [
        v1.Question(**{name: value for name, value in each.items() if name in names})
        for each in asked
    ]
    http, rpc, port = (port_in(folder, name) for name in ("http", "rpc", "grpc"))
    yield HTTP, pid, Pipelined(http, posts).run
    yield "JSON-RPC netstrings", pid, Pipelined(rpc, requests).run
    yield "gRPC stream", pid, Grpc(port, messages, streams=True).run
    yield "gRPC unary", pid, Grpc(port, messages, streams=False).run
    yield BARE, bare_pid, Grpc(port_in(bare, "grpc"), messages, streams=False).run


def port_in(folder: Path, name: str) -> int:
    """Where a listener is, by the file that its process wrote."""
    return int((folder / f"{name}.port").read_text())


@contextlib.contextmanager
def bare_grpc(folder: Path, *, on: int) -> Iterator[subprocess.Popen[bytes]]:
    """The gRPC library alone on a core, until the block ends."""
    words = [sys.executable, "-m", "benchmarks.peers.grpc_peer", str(folder)]
    with pinned(on):
        process = subprocess.Popen(words, cwd=ROOT)
    try:
        while not (folder / "grpc.port").exists():
            assert process.poll() is None, "the bare gRPC server ended"
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def used(pid: int) -> float:
    """Processor time of a server in µs, that of all that it started included."""
    return sum(cpu_us(each) for each in family(pid))


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn, in seconds (1)")
    asked = parser.parse_args()
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    server, client = cores()
    words = [sys.executable, "-m", "screening", "serve", "--sample"]
    ports = {"SCREENING_RPC_PORT": "0", "SCREENING_GRPC_PORT": "0"}
    with (
        tempfile.TemporaryDirectory(prefix="screening-transports-") as name,
        tempfile.TemporaryDirectory(prefix="screening-transports-") as bare_name,
        started("screening", words, folder=Path(name), on=[server], **ports) as running,
        bare_grpc(Path(bare_name), on=server) as bare,
        pinned(client),
    ):
        ways = list(
            ways_in(Path(name), pid=running.process.pid, bare=Path(bare_name), bare_pid=bare.pid)
        )
        for _, _, run in ways:
            run(0.3)
        for _ in range(asked.rounds):
            for way, pid, run in ways:
                before, began = used(pid), time.perf_counter()
                calls = run(asked.seconds)
                rates.setdefault(way, []).append(calls / (time.perf_counter() - began))
                costs.setdefault(way, []).append((used(pid) - before) / calls)
    table = Table(title=f"One worker, {UNDER_WAY} questions under way, median of {asked.rounds}")
    heads = ("transport", "calls/s", "µs of CPU a call", "spread", "times HTTP", "times grpc.aio")
    for head in heads:
        table.add_column(head, justify="left" if head == "transport" else "right")
    http, alone = (statistics.median(costs[way]) for way in (HTTP, BARE))
    for way, rate in rates.items():
        cost = statistics.median(costs[way])
        table.add_row(
            way,
            f"{statistics.median(rate):,.0f}",
            f"{cost:.1f}",
            f"{min(costs[way]):.1f} to {max(costs[way]):.1f}",
            f"{http / cost:.2f}",
            f"{alone / cost:.2f}",
        )
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
