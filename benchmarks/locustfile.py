"""A switch as Locust plays it: keep-alive connections, calls at instants of their own.

Each user draws when its next call is due and asks about a call of the seeded mix; the latency
counts from that instant, and how late Locust itself was is kept beside it. Where several
processes ask, on this machine or on others, each sends what it has counted to the one that
reports, which writes it to the file LOAD_RECORDS:

    locust -f benchmarks/locustfile.py --master        # and on each machine that shall ask
    locust -f benchmarks/locustfile.py --worker --master-host …
"""

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import orjson
from locust import FastHttpUser, LoadTestShape, events, task

from benchmarks.nation import SMALL, Nation
from benchmarks.shapes import SHAPES
from benchmarks.traffic import questions

SHAPE = SHAPES[os.environ.get("LOAD_SHAPE", "smoke")]
RATE = float(os.environ.get("LOAD_RATE", "400"))
"""Calls a second of all users at the full rate."""
EACH = float(os.environ.get("LOAD_USER_RATE", "10"))
"""Calls a second of one user."""
BIN_S = 0.1

counted: Counter[tuple[int, int, bool, bool]] = Counter()
"""Tenths of a second since 1970, latency in µs, degraded, failed: how many calls."""
lags: Counter[int] = Counter()
"""How late Locust was with a call, in µs: how many."""


def rounded(microseconds: float) -> int:
    """To seven bits, so that few different values are counted; at most 1 % off."""
    value = max(1, int(microseconds))
    shift = max(0, value.bit_length() - 7)
    return (value >> shift) << shift


class Switch(FastHttpUser):
    """One of many connections of a switch."""

    connection_timeout = 2.0
    network_timeout = 2.0
    nation: ClassVar[Nation] = Nation(SMALL)
    made: ClassVar[int] = 0

    def on_start(self) -> None:
        # Of one process each user has its number; the process gives each of them another seed.
        Switch.made += 1
        seed = os.getpid() << 20 | Switch.made if os.environ.get("LOAD_MANY") else Switch.made
        self.questions = questions(seed, self.nation)
        self.rng = random.Random(seed)
        self.due = time.time() + self.rng.expovariate(EACH)

    def wait_time(self) -> float:
        return max(0.0, self.due - time.time())

    @task
    def screen(self) -> None:
        due, self.due = self.due, self.due + self.rng.expovariate(EACH)
        body = orjson.dumps(next(self.questions))
        lags[rounded((time.time() - due) * 1e6)] += 1
        degraded = failed = False
        with self.client.post(
            "/v1/screen",
            data=body,
            headers={"content-type": "application/json"},
            name="/v1/screen",
            catch_response=True,
        ) as answer:
            content = answer.content or b""
            degraded = b'"degraded":true' in content
            if answer.status_code != 200:
                failed = True
                answer.failure(f"status {answer.status_code}")
            elif b'"action"' not in content:
                failed = True
                answer.failure("no verdict in the answer")
        took = rounded((time.time() - due) * 1e6)
        counted[int(due / BIN_S), took, degraded, failed] += 1


class Course(LoadTestShape):
    """As many users as the shape's rate needs at each moment."""

    def tick(self) -> tuple[int, float] | None:
        share = SHAPE.share(self.get_run_time())
        if share is None:
            return None
        users = max(1, round(share * RATE / EACH))
        return users, max(1.0, float(users))


def _taken() -> dict[str, Any]:
    """What was counted since the last time, as JSON has it."""
    told = {
        "calls": [[*key, count] for key, count in counted.items()],
        "lags": [list(each) for each in lags.items()],
    }
    counted.clear()
    lags.clear()
    return told


def _take_in(told: dict[str, Any]) -> None:
    for at, took, degraded, failed, count in told["calls"]:
        counted[at, took, degraded, failed] += count
    for late, count in told["lags"]:
        lags[late] += count


@events.report_to_master.add_listener
def _report(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001
    data["screening"] = _taken()


@events.worker_report.add_listener
def _heard(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001
    _take_in(data["screening"])


@events.quitting.add_listener
def _write(environment: Any, **_: Any) -> None:
    path = os.environ.get("LOAD_RECORDS")
    # A worker has given everything to who reports.
    if path and type(environment.runner).__name__ != "WorkerRunner":
        Path(path).write_text(json.dumps(_taken()))
