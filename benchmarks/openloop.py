"""Calls on a schedule, whether or not the earlier ones are answered: honest tails.

A closed loop asks the next question when it has the answer to the last one, so a stall of the
service stops the questions too, and what they would have waited is never counted. Here every call
has an instant, drawn from a seed, and its latency counts from that instant. The calls are sent by
a small program of its own (`pump.c`), compiled when first used; what it was late by is told
beside every latency.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

Ints = npt.NDArray[np.int64]

HERE: Final = Path(__file__).parent
PUMP: Final = HERE.parents[0] / "build" / "pump"
HELD, DEGRADED, BLOCKED, WARNED = 1, 2, 4, 8
_CALL: Final = np.dtype(
    [("sent", "<i8"), ("done", "<i8"), ("status", "<u2"), ("flags", "<u2"), ("connection", "<u4")]
)
IN_OVERLOAD: Final = 1024
"""Connections, where more is asked than can be answered: who is kept waiting opens more."""

LONGEST_US: Final = 60_000_000
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}


def arrivals(phases: Iterable[tuple[float, float]], *, seed: int, poisson: bool = True) -> Ints:
    """The instants of calls, in ns after the start, rising.

    `phases` are seconds and calls a second, one after the other. Poisson: as many independent
    callers make them; otherwise evenly spaced.
    """
    rng = np.random.default_rng(seed)
    parts, begun = [], 0.0
    for seconds, rate in phases:
        count = int(rng.poisson(seconds * rate)) if poisson else round(seconds * rate)
        within = np.sort(rng.random(count)) if poisson else np.arange(count) / max(1, count)
        parts.append(begun + within * seconds)
        begun += seconds
    return (np.concatenate(parts) * 1e9).astype(np.int64)


def histogram(microseconds: npt.NDArray[Any]) -> HdrHistogram:
    """An HDR histogram of three digits, from 1 µs to a minute."""
    made = HdrHistogram(1, LONGEST_US, 3)
    values, counts = np.unique(
        np.clip(microseconds, 1, LONGEST_US).astype(np.int64), return_counts=True
    )
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        made.record_value(value, count)
    return made


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each call; instants in ns after `start`, an instant of CLOCK_MONOTONIC.

    `sent` and `done` are -1 for a call that was not sent, or not answered.
    """

    due: Ints
    sent: Ints
    done: Ints
    status: npt.NDArray[np.uint16]
    flags: npt.NDArray[np.uint16]
    start: int

    @classmethod
    def read(cls, file: Path, due: Ints) -> Self:
        """As the pump wrote it."""
        content = file.read_bytes()
        calls = np.frombuffer(content, _CALL, offset=8)
        assert len(calls) == len(due), f"{file} tells of {len(calls)} calls, {len(due)} were due"
        return cls(
            due, calls["sent"], calls["done"], calls["status"], calls["flags"],
            int.from_bytes(content[:8], "little", signed=True),
        )  # fmt: skip

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which calls got their answer, and a good one."""
        return (self.done >= 0) & (self.status == 200)

    @property
    def latency_us(self) -> npt.NDArray[np.float64]:
        """Of the calls answered, from the instant each was due."""
        which = self.answered
        return (self.done[which] - self.due[which]) / 1e3

    @property
    def lag_us(self) -> npt.NDArray[np.float64]:
        """How late the pump was: of the calls that found a free connection, sent less due."""
        which = (self.sent >= 0) & (self.flags & HELD == 0)
        return (self.sent[which] - self.due[which]) / 1e3

    def between(self, first_s: float, last_s: float) -> Self:
        """The calls that were due in a stretch of time."""
        which = (self.due >= first_s * 1e9) & (self.due < last_s * 1e9)
        parts = (self.due, self.sent, self.done, self.status, self.flags)
        return type(self)(*(part[which] for part in parts), self.start)  # type: ignore[arg-type]

    def joined(self, others: Sequence[Self]) -> Self:
        """All calls of several runs as if of one."""
        runs = (self, *others)
        names = ("due", "sent", "done", "status", "flags")
        parts = (np.concatenate([getattr(run, name) for run in runs]) for name in names)
        return type(self)(*parts, self.start)

    def summary(self) -> dict[str, float]:
        """The figures, latencies in µs."""
        calls = len(self.due)
        seconds = (int(self.due[-1]) - int(self.due[0])) / 1e9 if calls > 1 else 1.0
        told = latencies(self.latency_us)
        lag = self.lag_us
        return {
            "calls": calls,
            "rate": round(calls / seconds, 1),
            "failed": int(calls - self.answered.sum()),
            "degraded": int((self.flags & DEGRADED > 0).sum()),
            "held": int((self.flags & HELD > 0).sum()),
            **told,
            "lag_p99": round(float(np.percentile(lag, 99)), 1) if len(lag) else 0.0,
            "lag_max": round(float(lag.max()), 1) if len(lag) else 0.0,
        }


def latencies(microseconds: npt.NDArray[Any]) -> dict[str, float]:
    """The percentiles of an HDR histogram, and the largest, in µs."""
    if not len(microseconds):
        return dict.fromkeys((*PERCENTILES, "max"), float("inf"))
    made = histogram(microseconds)
    told = {name: float(made.get_value_at_percentile(at)) for name, at in PERCENTILES.items()}
    return told | {"max": round(float(microseconds.max()), 1)}


def percentile_curve(microseconds: npt.NDArray[Any]) -> list[tuple[float, float]]:
    """Percentile and latency in µs, closer together the nearer to 100 %, as far as counts say."""
    if not len(microseconds):
        return []
    made, share = histogram(microseconds), 0.5
    at = [1.0, 10.0, 20.0, 30.0, 40.0]
    while share >= 2 / len(microseconds):
        at += [100 * (1 - share), 100 * (1 - share * 0.7)]
        share /= 2
    return [(round(each, 6), float(made.get_value_at_percentile(each))) for each in at]


def pump() -> Path:
    """The program, compiled if it is not yet or its source is newer. Exits where it cannot be."""
    source = HERE / "pump.c"
    if not PUMP.exists() or PUMP.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            sys.exit(
                "a C compiler is needed: apt-get install --no-install-recommends gcc libc6-dev"
            )
        PUMP.parent.mkdir(exist_ok=True)
        beside = PUMP.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", str(beside), str(source)], check=True)
        beside.replace(PUMP)
    return PUMP


def offer(
    port: int,
    questions: Path,
    due: Ints,
    *,
    connections: int = 256,
    base: int = 0,
    drain_ms: int = 2000,
    cores: Sequence[int] = (),
    meanwhile: Callable[[], object] | None = None,
) -> Outcome:
    """Ask the questions of a file (see `traffic.write_questions`) when they are due.

    `base` keeps the ids of several runs apart; `cores` are those that the pump may use;
    `meanwhile` is called while it runs.
    """
    with tempfile.TemporaryDirectory(prefix="open-loop-") as name:
        folder = Path(name)
        (folder / "due").write_bytes(due.astype("<u8").tobytes())
        words = [
            str(pump()), str(port), str(connections), str(questions), str(folder / "due"),
            str(folder / "out"), str(base), str(drain_ms),
        ]  # fmt: skip
        pinned = (lambda: os.sched_setaffinity(0, cores)) if cores else None
        process = subprocess.Popen(words, preexec_fn=pinned)  # noqa: PLW1509 - no thread runs
        try:
            if meanwhile is not None:
                meanwhile()
            code = process.wait(timeout=int(due[-1]) / 1e9 + drain_ms / 1000 + 60)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code:
            sys.exit(f"the pump ended with {code}")
        return Outcome.read(folder / "out", due)
