"""What does a rule set cost a call, what does loading one cost, and who notices a reload?

Three tables. The first decides calls by generated sets, what the calling side adds to the call
bound each time and the index not read, with every rule tried beside it, and the same number of
conditions in a ready CEL binding (C++). The second loads sets with a case a rule in a process of
their own and takes them in. The third compares the latency of a running service without reloads
and during them. What stands in one row was measured in turns, so that a noisy machine is as
unfair to one as to the other.
"""

import argparse
import asyncio
import json
import marshal
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cel_expr_python import cel
from rich.console import Console
from rich.table import Table

from benchmarks.contestants import serving
from benchmarks.rule_sets import write_packs
from benchmarks.traffic import questions
from consent.calling import CallingSide, Registry
from consent.entity import Entity
from consent.facts import Facts
from consent.number import parse_number
from rules.bind import bind
from rules.call import Call
from rules.handover import frames, take_in
from rules.loading import load_packs
from rules.ruleset import ReadPlan, RuleSet
from rules.schema import CALLED_NAMES
from rules.walk import compile_walk
from rules.walker import Walker
from screening.garbage import long_lived

SEED = 20261124
TURNS = 20
CONDITION = 'route == "international" && trunk != "ic-00001" && attestation != "A"'


def decide(call: Call, side: CallingSide, before: Walker, after: Walker) -> object:
    """One call, bound and decided, the facts at hand where they are asked for."""
    bind(call, side)
    verdict = before(call, Facts())
    return after(call, Facts()) if isinstance(verdict, ReadPlan) else verdict


def calls() -> dict[str, Call]:
    """An ordinary call over a trunk that no rule names, and commercial ones."""
    made = {}
    for name, calling, trunk, purpose in (
        ("ordinary", "+390612345678", "ic-none", ""),
        ("commercial, a partner's trunk", "+390612345678", "ic-00003", "loans"),
        ("commercial, a registered caller", "+12125550123", "", ""),
    ):
        call = Call()
        call.calling, call.called = parse_number(calling), parse_number("+14375550101")
        call.trunk, call.purpose, call.route = trunk, purpose, "international"
        call.at, call.decision_id = 1_795_435_200.0, "0" * 26
        made[name] = call
    return made


def in_turns(*works: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """The median and the 99th percentile of each work in µs, each done in turns with the others."""
    times: list[list[int]] = [[] for _ in works]
    for _ in range(TURNS):
        for work, kept in zip(works, times, strict=True):
            for _ in range(rounds):
                started = time.perf_counter_ns()
                work()
                kept.append(time.perf_counter_ns() - started)
    return [
        (statistics.median(kept) / 1000, statistics.quantiles(kept, n=100)[98] / 1000)
        for kept in times
    ]


def theirs() -> Callable[[], object]:
    """One condition of three comparisons in the binding."""
    kinds = dict.fromkeys(("route", "trunk", "attestation"), cel.Type.STRING)
    expression = cel.NewEnv(variables=kinds).compile(CONDITION)
    data = {"route": "international", "trunk": "ic-none", "attestation": "B"}
    return lambda: expression.eval(data=data).plain_value()


def walks(ruleset: RuleSet, *, dispatch: bool) -> list[Walker]:
    """The walk before the facts are read, and the one after."""
    return [
        compile_walk(
            ruleset.compiled,
            default=ruleset.default,
            label=ruleset.label,
            unknown=unknown,
            before_facts=bool(unknown),
            dispatch=dispatch,
        )
        for unknown in (CALLED_NAMES, frozenset[str]())
    ]


def evaluation(folder: Path, sizes: list[int], *, rounds: int) -> Table:
    """The first table."""
    table = _table(
        "A call, median (p99) in µs, one core",
        "rules", "call", "decided", "every rule tried", "ratio", "CEL binding, as many conditions",
    )  # fmt: skip
    entity = Entity(1, "caller-00007", "A caller", ("loans",), (12125550123,), ())
    side = CallingSide(None, Registry([entity]))
    binding = theirs()
    for size in sizes:
        packs = load_packs(write_packs(folder / f"evaluated-{size}", size, seed=SEED))
        ruleset = packs.packs["default"].ruleset
        quick, slow = (walks(ruleset, dispatch=dispatch) for dispatch in (True, False))
        for name, call in calls().items():
            if decide(call, side, *quick) != decide(call, side, *slow):
                raise SystemExit(f"{size} rules decide {name} otherwise when all are tried")
            ours, all_tried, one = in_turns(
                lambda call=call, quick=quick: decide(call, side, *quick),  # type: ignore[misc]
                lambda call=call, slow=slow: decide(call, side, *slow),  # type: ignore[misc]
                binding,
                rounds=rounds,
            )
            table.add_row(
                f"{size:,}", name, f"{ours[0]:.1f} ({ours[1]:.1f})",
                f"{all_tried[0]:.1f} ({all_tried[1]:.1f})",
                f"{all_tried[0] / ours[0]:.1f}", f"{size * one[0]:,.0f}",
            )  # fmt: skip
    return table


def loading(folder: Path, sizes: list[int]) -> Table:
    """The second table."""
    table = _table(
        "Loading with a case a rule, in a process of its own",
        "rules", "ready after s", "slices", "median slice ms", "largest slice ms",
    )  # fmt: skip
    for size in sizes:
        packs = write_packs(folder / f"loaded-{size}", size, seed=SEED)
        started = time.perf_counter()
        words = [sys.executable, "-m", "screening.apart", str(packs)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        given = [marshal.dumps(frame) for frame in frames(load_packs(packs))]
        # The thread's own time: what others do with the processor meanwhile is not its.
        slices, last = [], time.thread_time_ns()

        def between(slices: list[int] = slices) -> None:
            nonlocal last
            slices.append(time.thread_time_ns() - last)
            last = time.thread_time_ns()

        with long_lived():  # as a worker does
            take_in((marshal.loads(frame) for frame in given), between=between)  # noqa: S302
        table.add_row(
            f"{size:,}", f"{seconds:.2f}", f"{len(slices)}",
            f"{statistics.median(slices) / 1e6:.2f}", f"{max(slices) / 1e6:.2f}",
        )  # fmt: skip
    return table


async def drive(url: str, seconds: float, rate: int, stop: asyncio.Event) -> list[float]:
    """The latencies in ms of calls at a steady rate over eight connections, open loop."""
    host, port = url.removeprefix("http://").split(":")
    asked = questions(SEED)
    times: list[float] = []

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        begun = time.perf_counter()
        for n in range(first, int(seconds * rate), 8):
            due = begun + n / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if stop.is_set():
                break
            body = json.dumps(next(asked)).encode()
            writer.write(b"POST /v1/screen HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                         % (len(body), body))  # fmt: skip
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            # From the instant it was due: a call that had to wait for another waited as well.
            times.append((time.perf_counter() - due) * 1000)
        writer.close()

    await asyncio.gather(*(connection(first) for first in range(8)))
    return times


def in_force(url: str) -> dict[str, str]:
    """The revisions that the service runs."""
    with urllib.request.urlopen(url + "/readyz", timeout=5) as answer:  # noqa: S310
        return dict(json.load(answer)["rules"])


def reload_all(url: str, packs: Path, count: int) -> None:
    """Change the revision so often, each time until it is in force."""
    file = packs / "default" / "rules.toml"
    for n in range(count):
        revision = f"reload.{n}"
        lines = file.read_text("utf-8").split("\n")
        lines[2] = f'revision = "{revision}"'
        beside = file.with_suffix(".new")
        beside.write_text("\n".join(lines), "utf-8")
        beside.replace(file)
        deadline = time.monotonic() + 60
        while in_force(url)["default"] != f"default@{revision}":
            if time.monotonic() > deadline:
                raise SystemExit(f"revision {revision} did not come into force in 60 s")
            time.sleep(0.1)


def reloads(folder: Path, *, size: int, count: int, seconds: float, rate: int) -> Table:
    """The third table."""
    packs = write_packs(folder / "reloaded", size, seed=SEED)
    state = folder / "state"
    state.mkdir()
    usable = sorted(os.sched_getaffinity(0))
    with serving(state, on=usable, SCREENING_RULES_DIR=str(packs)) as contestant:
        url = f"http://127.0.0.1:{contestant.port}"

        async def both() -> tuple[list[float], list[float]]:
            await drive(url, 2, rate, asyncio.Event())  # warm
            quiet = await drive(url, seconds, rate, asyncio.Event())
            done = asyncio.Event()
            during = asyncio.create_task(drive(url, 3600, rate, done))
            await asyncio.to_thread(reload_all, url, packs, count)
            done.set()
            return quiet, await during

        quiet, during = asyncio.run(both())
    table = _table(
        f"{rate} calls a second, without reloads and during {count} of a set of {size:,} rules",
        "calls", "p50 ms", "p99 ms", "p99.9 ms", "largest ms",
    )  # fmt: skip
    rows = []
    for times in (quiet, during):
        cuts = statistics.quantiles(times, n=1000)
        rows.append((statistics.median(times), cuts[989], cuts[998], max(times)))
        table.add_row(f"{len(times):,}", *(f"{value:.2f}" for value in rows[-1]))
    table.add_row("ratio", *(f"{after / before:.2f}" for before, after in zip(*rows, strict=True)))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "call" else "right")
    return table


def main() -> None:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sets, two reloads")
    parser.add_argument("--reloads", type=int, default=100, help="how many (100)")
    parser.add_argument("--seconds", type=float, default=30, help="without reloads (30)")
    parser.add_argument("--rate", type=int, default=300, help="calls a second (300)")
    asked = parser.parse_args()
    out = Console()
    with tempfile.TemporaryDirectory(prefix="screening-rules-") as name:
        folder = Path(name)
        sizes = [10, 50] if asked.quick else [200, 1_000]
        out.print(evaluation(folder, sizes, rounds=5 if asked.quick else 500))
        out.print(loading(folder, [10, 50] if asked.quick else [200, 1_000, 10_000]))
        out.print(
            reloads(
                folder,
                size=50 if asked.quick else 1_000,
                count=2 if asked.quick else asked.reloads,
                seconds=1 if asked.quick else asked.seconds,
                rate=asked.rate,
            )
        )


if __name__ == "__main__":
    main()
