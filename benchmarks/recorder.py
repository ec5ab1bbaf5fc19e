"""What does the recorder cost at 20,000 calls a second? Its processor time, beside what it kept.

Calls of a seeded stream are decided with facts at hand and handed to a worker's outbox; the batches
that this sends are kept, and then sent to a recorder process of its own at their instants, each
call once, with an index server that takes the signals. Half of the callers have been heard before.

    python -m benchmarks.recorder               # ten seconds at 20,000 a second
"""

import argparse
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import redis
import uvloop

from benchmarks import processes
from benchmarks.contestants import cores, index_server, pinned
from benchmarks.nation import SMALL, Nation
from benchmarks.path import DecisionPath
from benchmarks.traffic import questions
from consent.conduct import NAMES
from screening.recording.outbox import EVERY_SECONDS, SOCKET, Outbox
from screening.recording.recorder import STATUS

RATE: Final = 20_000
SECONDS: Final = 10.0
WARM_SECONDS: Final = 2.0
MOST_SHARE: Final = 0.5
"""Of a core, at RATE."""

TAKEN_IN_SECONDS: Final = 30.0


def batches(nation: Nation, calls: int, *, a_batch: int) -> list[bytes]:
    """What a worker sends of so many calls, of which so many come between two of its sends."""
    path = DecisionPath()
    stream = questions(20_261_125, nation)
    heard: dict[str, int] = {}

    async def hand_over() -> list[bytes]:
        with tempfile.TemporaryDirectory(prefix="outbox-") as name:
            folder = Path(name)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(str(folder / SOCKET))
                listener.listen()
                outbox = Outbox(folder, instance="bench/0", rules=lambda: "0" * 64)
                sent: list[bytes] = []
                for n, asked in enumerate(itertools.islice(stream, calls)):
                    question = path.read(orjson.dumps(asked | {"call_id": f"call-{n}"}))
                    decision = path.decide(question)
                    before = heard.get(asked["calling"], 0)
                    heard[asked["calling"]] = before + 1
                    if decision.facts is not None and before:
                        values = tuple((before, before, 0, 0, 0, 0) * (len(NAMES) // 6))
                        decision.facts = type(decision.facts)(signals=values)
                    outbox.observe(question, decision, 0.0002, "http")
                    if not (n + 1) % a_batch:
                        sent += _sent(outbox, listener)
                return sent + _sent(outbox, listener)

    return uvloop.run(hand_over())


def _sent(outbox: Outbox, listener: socket.socket) -> list[bytes]:
    """What waits in an outbox."""
    outbox.close()
    link, _ = listener.accept()
    with link:
        return list(iter(lambda: link.recv(1 << 20), b""))


@contextlib.contextmanager
def recorder(folder: Path, core: int, *, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A recorder over a folder, on one core, listening."""
    words = [sys.executable, "-m", "screening.recording.recorder"]
    environment = {
        **os.environ, "SCREENING_STATE_DIR": str(folder), "SCREENING_REDIS_URL": url
    }  # fmt: skip
    with pinned(core):
        process = subprocess.Popen(words, stdin=subprocess.PIPE, env=environment)
    try:
        processes.until((folder / SOCKET).exists, "the recorder listens")
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(TAKEN_IN_SECONDS)


def offer(folder: Path, sent: list[bytes], *, rate: float, a_batch: int) -> None:
    """Send batches at their instants; the socket makes who sends wait where nobody takes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        link.connect(str(folder / SOCKET))
        began = time.monotonic()
        for n, batch in enumerate(sent):
            due = began + n * a_batch / rate
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            link.send(batch)


def measure(rate: float = RATE, seconds: float = SECONDS) -> dict[str, Any]:
    """The recorder at a rate: its share of a core, microseconds a call, what it kept and lost."""
    nation = Nation(SMALL)
    a_batch = max(1, round(rate * EVERY_SECONDS))
    calls = round(rate * (seconds + WARM_SECONDS))
    sent = batches(nation, calls, a_batch=a_batch)
    warm = round(WARM_SECONDS * rate / a_batch)
    answering, _ = cores()
    with tempfile.TemporaryDirectory(prefix="recorder-") as name:
        folder = Path(name)
        nation.settle_in(folder)
        with (
            index_server(folder, answering) as (url, server),
            recorder(folder, answering, url=url) as one,
        ):
            offer(folder, sent[:warm], rate=rate, a_batch=a_batch)
            used, servers = processes.cpu_us(one.pid), processes.cpu_us(server)
            began = time.monotonic()
            offer(folder, sent[warm:], rate=rate, a_batch=a_batch)
            processes.until(lambda: _taken(folder) >= calls, "all calls are taken in")
            took = time.monotonic() - began
            share = (processes.cpu_us(one.pid) - used) / 1e6 / took
            index = (processes.cpu_us(server) - servers) / 1e6 / took
            status = _status(folder)
            with redis.Redis.from_url(url) as client:
                published = sum(1 for _ in client.scan_iter("{??}:g:*", count=10_000))
    counted = (len(sent) - warm) * a_batch
    return {
        "calls_a_second": round(counted / took),
        "seconds": round(took, 1),
        "share_of_a_core": round(share, 3),
        "us_a_call": round(share * took * 1e6 / counted, 1),
        "index_share_of_a_core": round(index, 3),
        "written": status["written"],
        "lost": status["lost"],
        "numbers_in_the_index": published,
    }


def _taken(folder: Path) -> int:
    status = _status(folder)
    return int(status["calls"]) + int(status["repeats"])


def _status(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / STATUS).read_text())
    except (OSError, ValueError):
        return {"calls": 0, "repeats": 0, "written": 0, "lost": {}}
    return told


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=RATE, help="calls a second (20,000)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long (10)")
    asked = parser.parse_args()
    told = measure(asked.rate, asked.seconds)
    for name, value in told.items():
        print(f"{name:24} {value}")
    held = told["share_of_a_core"] <= MOST_SHARE and not told["lost"]
    print("held" if held else "MISSED", f"{MOST_SHARE:g} of a core at {asked.rate:,.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
