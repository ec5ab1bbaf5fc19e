"""Does the service hold its objectives under a load of this shape?

Starts it over a small registry (`overload`: over that of the contest, as its rate is what one core
decides), drives it, prints figures, writes JSON and an HTML report, stops what it started. Locust
plays switches for behaviour and for the tail at rates that it sustains without lag, which is told
beside; `overload` comes open-loop from the pump, at twice the capacity that was measured just
before. Exit code 1 when an objective of objectives.toml is missed.

    python -m benchmarks.load --shape smoke
    python -m benchmarks.load --shape busy_hour --rate 2000 --processes 4
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import openloop
from benchmarks.contestants import Contestant, cores, index_server, serving
from benchmarks.machine import machine
from benchmarks.nation import SMALL, Nation, Size
from benchmarks.report import Calls, judged, page
from benchmarks.shapes import SHAPES, Shape
from benchmarks.traffic import write_questions

ROOT: Final = Path(__file__).parents[1]
HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results"
OBJECTIVES: Final = HERE / "objectives.toml"
BIN_S: Final = 0.1
RELOAD_EVERY_S: Final = 2.0


def locust(
    contestant: Contestant, shape: Shape, records: Path, *, rate: float, processes: int, core: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Locust with its users; it ends when the shape does."""
    words = [
        sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless",
        "--host", f"http://127.0.0.1:{contestant.port}", "--only-summary", "--loglevel", "ERROR",
        "--exit-code-on-error", "0", "--reset-stats",
    ]  # fmt: skip
    if processes > 1:
        words += ["--processes", str(processes)]
    environment = {
        **os.environ,
        "LOAD_SHAPE": shape.name,
        "LOAD_RATE": str(rate),
        "LOAD_RECORDS": str(records),
        "LOAD_MANY": "1" if processes > 1 else "",
    }
    cores_of_it = {core} if processes == 1 else os.sched_getaffinity(0)
    with (records.parent / "locust.log").open("wb") as out:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=out, stderr=out,
            preexec_fn=lambda: os.sched_setaffinity(0, cores_of_it),  # noqa: PLW1509
        )  # fmt: skip
        try:
            yield process
            process.wait(timeout=shape.seconds + 90)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def driven(
    contestant: Contestant,
    shape: Shape,
    folder: Path,
    *,
    rate: float,
    processes: int,
    core: int,
    disturb: Callable[[float], None],
) -> Calls:
    """What Locust has counted of a shape; `disturb` is told the instant of the first call."""
    records = folder / "records.json"
    with contextlib.contextmanager(locust)(
        contestant, shape, records, rate=rate, processes=processes, core=core
    ) as process:
        began = _first_call(contestant, process)
        disturb(began)
    if not records.exists():
        sys.exit(f"Locust told nothing:\n{(folder / 'locust.log').read_text('utf-8', 'replace')}")
    return Calls.of_records(json.loads(records.read_text()), bin_s=BIN_S)


def _first_call(contestant: Contestant, process: subprocess.Popen[bytes]) -> float:
    """The monotonic instant when the service has decided a call of this run."""
    before = _decided(contestant)
    while process.poll() is None and _decided(contestant) <= before:
        time.sleep(0.02)
    return time.monotonic()


def _decided(contestant: Contestant) -> float:
    with contextlib.suppress(OSError):
        return contestant.metric("screening_decisions_total")
    return 0.0


def capacity(contestant: Contestant, questions: Path, core: int) -> float:
    """Calls a second that one core decides in full: 32 at once, each when one is answered."""
    rate = 1000.0
    for n, seconds in enumerate((1.0, 3.0)):
        due = np.zeros(max(500, int(rate * seconds)), np.int64)
        outcome = openloop.offer(
            contestant.port, questions, due, connections=32, base=(n + 1) << 32, cores=[core],
            drain_ms=60_000,
        )  # fmt: skip
        # What was shed, or lacked facts, is no decision. Where most are such, the machine is too
        # busy for this question, and what was answered is as much as can be told.
        full = int((outcome.flags & openloop.DEGRADED == 0).sum())
        counted = full if full > len(due) / 2 else len(due)
        rate = counted / (int(outcome.done.max()) / 1e9)
    return rate


def overload(
    contestant: Contestant, shape: Shape, folder: Path, nation: Nation, core: int
) -> tuple[Calls, float]:
    """The calls of the overload, and the capacity that it was twice of."""
    questions = folder / "questions"
    write_questions(questions, 1, 20_000, nation)
    most = capacity(contestant, questions, core)
    phases = [(seconds, share * most) for seconds, share in shape.phases]
    outcome = openloop.offer(
        contestant.port, questions, openloop.arrivals(phases, seed=1), base=9 << 32,
        connections=openloop.IN_OVERLOAD, cores=[core],
    )  # fmt: skip
    return Calls.of_outcome(outcome), most


def freeze(server: int, shape: Shape) -> Callable[[float], None]:
    """The index server stands still while the shape says so."""

    def disturb(began: float) -> None:
        assert shape.disturbed is not None
        first, last = shape.disturbed
        _sleep_until(began + first)
        os.kill(server, signal.SIGSTOP)
        try:
            _sleep_until(began + last)
        finally:
            os.kill(server, signal.SIGCONT)

    return disturb


def _sleep_until(instant: float) -> None:
    time.sleep(max(0.0, instant - time.monotonic()))


class Reloading:
    """Gives the packs of a folder a new revision, again and again, each until it is in force."""

    def __init__(self, contestant: Contestant, packs: Path, seconds: float) -> None:
        self._url = f"http://127.0.0.1:{contestant.port}/readyz"
        self._file = packs / "cn" / "rules.toml"
        self._seconds = seconds
        self.reloads = 0

    def __call__(self, began: float) -> None:
        while time.monotonic() < began + self._seconds - 2 * RELOAD_EVERY_S:
            revision = f"reload.{self.reloads + 1}"
            text = re.sub(
                r'^revision = ".*"$', f'revision = "{revision}"', self._file.read_text("utf-8"),
                count=1, flags=re.MULTILINE,
            )  # fmt: skip
            beside = self._file.with_suffix(".new")
            beside.write_text(text, "utf-8")
            beside.replace(self._file)
            next_one = time.monotonic() + RELOAD_EVERY_S
            while not self._in_force(revision) and time.monotonic() < next_one + 10:
                time.sleep(0.05)
            self.reloads += self._in_force(revision)
            _sleep_until(next_one)

    def _in_force(self, revision: str) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(self._url, timeout=5) as answer:  # noqa: S310
            return bool(json.load(answer)["rules"].get("cn") == f"cn@{revision}")
        return False


def run(
    shape: Shape, folder: Path, *, rate: float, processes: int
) -> tuple[Calls, dict[str, float], str]:
    """The calls of a shape, figures beyond theirs, and how it was driven."""
    nation = Nation(Size() if shape.open_loop else SMALL)
    answering, asking = cores()
    state, packs = folder / "state", folder / "rules"
    nation.settle_in(state)
    shutil.copytree(ROOT / "deploy" / "rules", packs)
    with (
        index_server(state, answering) as (_, server),
        serving(state, on=[answering], SCREENING_RULES_DIR=str(packs)) as contestant,
    ):
        if shape.open_loop:
            # At the core's limit what records the answers would take it from who gives them.
            contestant.record_on(asking)
            calls, most = overload(contestant, shape, folder, nation, asking)
            of = f"{openloop.IN_OVERLOAD} connections; one core decides {most:,.0f} calls a second"
            return calls, {"capacity": round(most)}, f"Open loop, {of}."
        reloading = Reloading(contestant, packs, shape.seconds)
        disturb: Callable[[float], None] = lambda _began: None  # noqa: E731
        if shape.disturbed is not None:
            disturb = freeze(server, shape)
        elif shape.name == "rule_reload":
            disturb = reloading
        calls = driven(
            contestant, shape, folder, rate=rate, processes=processes, core=asking, disturb=disturb
        )
        more = {"reloads": float(reloading.reloads)} if disturb is reloading else {}
    of = f"{processes} Locust processes" if processes > 1 else "Locust"
    return calls, more, f"{of}, {rate:,.0f} calls a second at full rate, each at its own instant."


def shown(shape: Shape, figures: dict[str, float]) -> Table:
    """The figures for people; the last column is how late the generator itself was, in ms."""
    table = Table(title=f"{shape.name}: {shape.about}", title_justify="left")
    heads = ("calls", "calls/s", "failed", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms",
             "degraded", "late p99")  # fmt: skip
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_row(
        f"{figures['calls']:,}", f"{figures['rate']:,.0f}", f"{figures['failed']:,}",
        *(f"{figures[f'{name}_ms']:.2f}" for name in ("p50", "p95", "p99", "p99.9", "max")),
        f"{figures['degraded']:,}", f"{figures['lag_p99_ms']:.2f}",
    )  # fmt: skip
    return table


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="smoke")
    parser.add_argument("--rate", type=float, default=400, help="calls a second at most (400)")
    parser.add_argument("--processes", type=int, default=1, help="of Locust (1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    parser.add_argument("--objectives", type=Path, default=OBJECTIVES)
    asked = parser.parse_args()
    # What was started is stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shape = SHAPES[asked.shape]
    about = machine()
    with tempfile.TemporaryDirectory(prefix="screening-load-") as name:
        calls, more, how = run(shape, Path(name), rate=asked.rate, processes=asked.processes)
    figures = calls.figures(shape) | more
    verdicts = judged(tomllib.loads(asked.objectives.read_text("utf-8"))[shape.name], figures)
    return tell(shape, calls, figures, verdicts, about, how=how, results=asked.results)


def tell(
    shape: Shape,
    calls: Calls,
    figures: dict[str, float],
    verdicts: list[tuple[str, float, float, bool]],
    about: dict[str, Any],
    *,
    how: str,
    results: Path,
) -> int:
    """Print and write what a run came to; 1 when an objective is missed."""
    results.mkdir(parents=True, exist_ok=True)
    written = {
        "machine": about,
        "shape": shape.name,
        "how": how,
        "figures": figures,
        "objectives": {
            name: {"limit": limit, "measured": value, "held": held}
            for name, limit, value, held in verdicts
        },
        "seconds": calls.windows(),
    }
    (results / f"load-{shape.name}.json").write_text(json.dumps(written, indent=1) + "\n")
    report = results / f"load-{shape.name}.html"
    report.write_text(page(shape, figures, verdicts, calls, about, how=how), "utf-8")
    out = Console(highlight=False, soft_wrap=True, width=110)
    out.print(shown(shape, figures), how)
    for name, limit, value, held in verdicts:
        said = "[green]held[/]  " if held else "[red]MISSED[/]"
        out.print(f"{said} {name}: {value:g}, objective {limit:g}")
    out.print(f"report: {report}")
    return 0 if all(held for *_, held in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
