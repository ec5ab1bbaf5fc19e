"""Is a whole decision faster than nginx and Lua doing only the lookup, and are its tails as good?

The service (the `cn` pack, ten million listed numbers, consents, preferences, metrics on) against
nginx + Lua + Redis that reads the same keys and decides nothing, and against FastAPI + pydantic
deciding the same: in turns, in one run, each with its index server on one core, who asks on
another. What is told is the median of the rounds and its spread, and ratios round by round, so
that a noisy machine is as unfair to one as to the other.

    python -m benchmarks.contest           # eight minutes; tables, JSON and a picture
    python -m benchmarks.contest --quick   # a small registry, one short round: does it run?
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import openloop, processes, recorder
from benchmarks.contestants import (
    FASTAPI,
    NGINX,
    NOT_IN_FULL,
    SERVICE,
    Contestant,
    check,
    cores,
    fastapi,
    index_server,
    lua,
    pinned,
    serving,
)
from benchmarks.growth import growth
from benchmarks.machine import machine
from benchmarks.nation import SMALL, Nation, Size
from benchmarks.stages import STAGES, stages
from benchmarks.standings import in_ms, markdown, picture, verdicts
from benchmarks.traffic import write_questions

ROOT: Final = Path(__file__).parents[1]
HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results"
PICTURE: Final = ROOT / "docs" / "images" / "contest.svg"
NEEDED: Final = {"wrk": "wrk", "/usr/sbin/nginx": "nginx libnginx-mod-http-lua lua-nginx-redis "
                 "lua-cjson", "cc": "gcc libc6-dev"}  # fmt: skip
CONNECTIONS: Final = 64
SHARES: Final = (0.5, 0.8)
SWEEP: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
MOST_LAG: Final = 0.1
"""Of the p99 that is stated: beyond, the figure is of the generator as much as of the service."""


FULL: Final = Size()


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everything takes; seconds are of one contestant in one round."""

    size: Size = FULL
    rounds: int = 5
    closed_s: float = 5.0
    tail_rounds: int = 15
    """Many and short: of few, a machine that stood still now and then decides who is the better."""

    open_s: float = 2.5
    sweep_s: float = 4.0
    scaling_s: float = 5.0
    shed_s: float = 3.0


QUICK: Final = Plan(SMALL, 1, 1.0, 1, 1.0, 0.5, 1.0, 1.0)


class Asker:
    """Who asks: wrk for capacity, the pump for tails; no call id twice in a whole run."""

    def __init__(self, questions: Path, core: int) -> None:
        self.questions = questions
        self.core = core
        self._base = 0

    def _next(self) -> int:
        self._base += 10**9
        return self._base

    def closed(self, contestant: Contestant, seconds: float) -> dict[str, float]:
        """As many calls as are answered, so many at once."""
        words = [
            "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s",
            str(HERE / "wrk.lua"), f"http://127.0.0.1:{contestant.port}", "--",
            str(self.questions), str(self._next()),
        ]  # fmt: skip
        used = contestant.cpu_us()
        asking = _children_cpu_s()
        done = subprocess.run(
            words, capture_output=True, text=True, check=True, timeout=seconds + 60,
            preexec_fn=lambda: _first_on(self.core),
        )  # fmt: skip
        told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return {
            "rate": round(told["calls"] / told["seconds"], 1),
            "failed": told["failed"],
            "p99_us": told["p99_us"],
            "cpu_us": round((contestant.cpu_us() - used) / max(1.0, told["calls"]), 2),
            "asker_busy": round((_children_cpu_s() - asking) / told["seconds"], 2),
        }

    def open(
        self,
        contestant: Contestant,
        rate: float,
        seconds: float,
        *,
        seed: int,
        connections: int = 256,
    ) -> openloop.Outcome:
        """Calls at their instants, whatever becomes of the earlier ones."""
        due = openloop.arrivals([(seconds, rate)], seed=seed)
        return openloop.offer(
            contestant.port, self.questions, due, connections=connections, base=self._next(),
            cores=[self.core],
        )  # fmt: skip


def _first_on(core: int) -> None:
    """Keep this process, and what it becomes, on a core and before all others there, where it may;
    who may not shares it."""
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def capacity(
    asker: Asker,
    contestants: Sequence[Contestant],
    server: int,
    plan: Plan,
    say: Callable[..., None],
) -> dict[str, Any]:
    """Calls a second in a closed loop, in turns; the first round warms and does not count."""
    rounds: dict[str, list[dict[str, float]]] = {each.name: [] for each in contestants}
    for turn in range(plan.rounds + 1):
        # Each round begins with another one: what comes first meets another machine.
        order = [contestants[(turn + n) % len(contestants)] for n in range(len(contestants))]
        for each in order:
            used = processes.cpu_us(server)
            lacking = each.metric(NOT_IN_FULL) if each.name == SERVICE else 0.0
            recorded = each.recorder_cpu_us()
            told = asker.closed(each, plan.closed_s if turn else 1.0)
            told["index_cpu_us"] = round(
                (processes.cpu_us(server) - used) / max(1.0, told["rate"] * plan.closed_s), 2
            )
            if each.name == SERVICE:
                calls = max(1.0, told["rate"] * plan.closed_s)
                lacking = each.metric(NOT_IN_FULL) - lacking
                told["recorder_cpu_us"] = round((each.recorder_cpu_us() - recorded) / calls, 2)
                told["in_full"] = round(max(0.0, 1 - lacking / calls), 5)
            if turn:
                rounds[each.name].append(told)
                say(f"  {each.name:<22} {told['rate']:>10,.0f}/s")
    return {
        name: {
            "rate": _spread([each["rate"] for each in told]),
            "cpu_us": _median(told, "cpu_us"),
            "index_cpu_us": _median(told, "index_cpu_us"),
            "recorder_cpu_us": round(
                statistics.median(each.get("recorder_cpu_us", 0.0) for each in told), 2
            ),
            "failed": sum(each["failed"] for each in told),
            "asker_busy": max(each["asker_busy"] for each in told),
            "in_full": min(each.get("in_full", 1.0) for each in told),
            "rounds": told,
        }
        for name, told in rounds.items()
    }


def overload(
    asker: Asker, contestant: Contestant, told: dict[str, Any], plan: Plan
) -> dict[str, float]:
    """What a call takes that is shed, of twice as many as were decided: µs with kernel and loop."""
    used = contestant.cpu_us()
    rate = 2 * told["rate"]["median"]
    outcome = asker.open(contestant, rate, plan.shed_s, seed=3, connections=openloop.IN_OVERLOAD)
    each = (contestant.cpu_us() - used) / len(outcome.due)
    shed = float((outcome.flags & openloop.DEGRADED != 0).mean())
    return {
        "shed": round(shed, 4),
        "shed_us": round((each - (1 - shed) * told["cpu_us"]) / max(shed, 0.01), 2),
    }


def _median(rows: Sequence[dict[str, float]], name: str) -> float:
    return round(statistics.median(row[name] for row in rows), 2)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
    }


def ratios(told: dict[str, Any], to: str) -> dict[str, float]:
    """The service's rate over another's, round by round."""
    pairs = zip(told[SERVICE]["rounds"], told[to]["rounds"], strict=True)
    return _spread([ours["rate"] / theirs["rate"] for ours, theirs in pairs])


def tails(
    asker: Asker, pair: Sequence[Contestant], lower: float, plan: Plan, say: Callable[..., None]
) -> dict[str, Any]:
    """Latencies at shares of the lower capacity, the same calls at the same instants for both."""
    told: dict[str, Any] = {}
    for share in SHARES:
        runs: dict[str, list[openloop.Outcome]] = {each.name: [] for each in pair}
        for turn in range(plan.tail_rounds):
            for each in pair if turn % 2 else reversed(pair):
                outcome = asker.open(each, share * lower, plan.open_s, seed=1000 + turn)
                runs[each.name].append(outcome)
        told[f"{share:.0%}"] = {"rate": round(share * lower)} | {
            name: _told(outcomes) for name, outcomes in runs.items()
        }
        for name in runs:
            row = told[f"{share:.0%}"][name]
            say(
                f"  {name:<22} {share * lower:>10,.0f}/s   p99 {in_ms(row['p99'])} ms, "
                f"p99.9 {in_ms(row['p99.9'])} ms, generator p99 "
                f"{row['all']['lag_p99'] / 1e3:.3f} ms late"
            )
    return told


def _told(outcomes: Sequence[openloop.Outcome]) -> dict[str, Any]:
    whole = outcomes[0].joined(outcomes[1:])
    each = [outcome.summary() for outcome in outcomes]
    p99 = _spread([row["p99"] for row in each])
    return {
        "all": whole.summary(),
        "p99": p99,
        "p99.9": _spread([row["p99.9"] for row in each]),
        "curve": openloop.percentile_curve(whole.latency_us),
        "lag_is_small": whole.summary()["lag_p99"] < MOST_LAG * p99["median"],
    }


def sweep(
    asker: Asker, pair: Sequence[Contestant], rates: dict[str, float], plan: Plan
) -> dict[str, list[tuple[float, float]]]:
    """Offered rate and p99, each up to its own capacity."""
    return {
        each.name: [
            (
                round(share * rates[each.name]),
                asker.open(each, share * rates[each.name], plan.sweep_s, seed=50).summary()["p99"],
            )
            for share in SWEEP
        ]
        for each in pair
    }


def scaling(
    asker: Asker, folder: Path, one_core: float, plan: Plan, say: Callable[..., None]
) -> dict[str, Any] | None:
    """One worker against two that each have as many calls as it, in turns: processor time a call.

    Where who asks has no core of its own the rate itself cannot double; what a call costs can be
    told all the same, and two workers that each cost 1/0.85 of one still answer 1.7 times as much.
    """
    usable = sorted(os.sched_getaffinity(0))
    if not _serves_workers():
        return None
    each_s = 0.25 * one_core
    rows: dict[int, list[float]] = {1: [], 2: []}
    memory: dict[int, list[int]] = {}
    for turn in range(max(2, plan.rounds // 2 + 1)):
        for workers in (1, 2) if turn % 2 else (2, 1):
            with serving(folder, on=usable, workers=workers) as contestant:
                asker.open(contestant, workers * each_s / 2, 1.0, seed=3)
                used = contestant.cpu_us()
                outcome = asker.open(contestant, workers * each_s, plan.scaling_s, seed=4)
                rows[workers].append((contestant.cpu_us() - used) / len(outcome.due))
                memory[workers] = [each.pss for each in contestant.memory()]
    cost = {workers: statistics.median(values) for workers, values in rows.items()}
    told = {
        "rate_a_worker": round(each_s),
        "cpu_us_one": round(cost[1], 2),
        "cpu_us_two": round(cost[2], 2),
        "two_for_one": round(2 * cost[1] / cost[2], 3),
        "memory_two_bytes": memory[2],
    }
    say(f"  two workers answer {told['two_for_one']:.2f} times what one does, by processor time")
    return told


def _serves_workers() -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "screening", "serve", "--help"],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    return "--workers" in done.stdout


def run(plan: Plan, folder: Path, say: Callable[..., None]) -> dict[str, Any]:
    """The whole of it."""
    nation = Nation(plan.size)
    answering, asking = cores()
    results: dict[str, Any] = {
        "machine": machine(),
        "plan": asdict(plan),
        "cores": {"answering": answering, "asking": asking},
    }
    say(f"a registry of {plan.size.listed:,} numbers …")
    state = folder / "state"
    results["setup_seconds"] = round(nation.settle_in(state), 1)
    questions = folder / "questions"
    write_questions(questions, 1, 50_000, nation)
    asker = Asker(questions, asking)
    with contextlib.ExitStack() as stack:
        url, server = stack.enter_context(index_server(state, answering))
        service = stack.enter_context(serving(state, on=[answering]))
        peer = stack.enter_context(lua(state, nation, redis_url=url, on=[answering]))
        slow = stack.enter_context(fastapi(state, on=[answering]))
        service.record_on(asking)
        three = [service, peer, slow]
        results["checked"] = {each.name: check(each, nation, questions) for each in three}
        say("every contestant answers what it must; calls a second on one core, closed loop:")
        told = results["capacity"] = capacity(asker, three, server, plan, say)
        results["ratios"] = {name: ratios(told, name) for name in (NGINX, FASTAPI)}
        rates = {name: each["rate"]["median"] for name, each in told.items()}
        say("latency from the instant a call is due, open loop:")
        lower = min(rates[SERVICE], rates[NGINX])
        results["tails"] = tails(asker, [service, peer], lower, plan, say)
        results["sweep"] = sweep(asker, [service, peer], rates, plan)
        results["memory"] = {
            each.name: {
                "rss": sum(m.rss for m in each.memory()),
                "pss": sum(m.pss for m in each.memory()),
            }
            for each in three
        }
        results["ready_seconds"] = {each.name: round(each.ready_seconds, 2) for each in three}
        # Last: what it leaves behind, in the recorder's queue for one, is no part of the others.
        results["overload"] = overload(asker, service, told[SERVICE], plan)
    with index_server(state, answering) as (url, _):
        say("stages, with signals and record and without …")
        with pinned(answering):
            results["stages"] = stages(state, nation)
        results["growth"] = growth(state, nation, url=url)
        rest = told[SERVICE]["cpu_us"] - sum(results["stages"][each] for each in STAGES)
        results["stages"]["rest"] = round(rest, 2)
        say("the recorder at 20,000 calls a second, two workers against one …")
        results["recorder"] = recorder.measure()
        results["scaling"] = scaling(asker, state, rates[SERVICE], plan, say)
    return results


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small and short: does it run?")
    parser.add_argument(
        "--rounds", type=int, help="how many (5); three times as many, and shorter, for latencies"
    )
    parser.add_argument("--state", type=Path, help="keep the registry here for the next run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    parser.add_argument("--picture", type=Path, help=f"where the picture is written ({PICTURE})")
    asked = parser.parse_args()
    # What was started is stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missing = [package for command, package in NEEDED.items() if shutil.which(command) is None]
    if missing:
        sys.exit("missing: apt-get install --no-install-recommends " + " ".join(missing))
    plan = QUICK if asked.quick else Plan()
    if asked.rounds:
        plan = replace(plan, rounds=asked.rounds, tail_rounds=3 * asked.rounds)
    say = Console(highlight=False, soft_wrap=True).print
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        results = run(plan, asked.state or Path(name), say)
    results["seconds"] = round(time.monotonic() - began)
    asked.results.mkdir(parents=True, exist_ok=True)
    (asked.results / "contest.json").write_text(json.dumps(results, indent=1) + "\n")
    (asked.results / "contest.md").write_text(markdown(results))
    drawn = asked.picture or (asked.results / "contest.svg" if asked.quick else PICTURE)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    drawn.write_text(picture(results))
    print(markdown(results))
    for held, words in verdicts(results):
        say(f"[{'green' if held else 'red'}]{'held' if held else 'MISSED'}[/]  {words}")
    say(f"{results['seconds']} s; {asked.results}/contest.json, contest.md; {drawn}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
