"""What does an index of a nation cost: to load, in memory, and for one call's lookup?

Registries of `benchmarks.registry` go through `screening lists load` into an embedded server of
their own. Seconds and memory of the loader are the operating system's account of that process,
bytes those the server says it uses. Each index answers lookups in turns with one of 1 M numbers,
and the ratio of their medians is told; every answer is compared with what was drawn.
"""

import argparse
import asyncio
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final, Self

import numpy as np
import redis
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import chart, registry
from benchmarks.contestants import cores, pinned
from benchmarks.machine import machine
from consent.category import BIT
from consent.event import Event, EventKind
from consent.index import BLOCK, IndexReader, IndexStore, Question, name_epoch
from screening.embedded import EmbeddedServer

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
CALLING: Final = 441632960900
CONSENTS_A_NUMBER: Final = 30 / 620
ENTITIES: Final = 5_000
ASKED: Final = 50
ROUNDS: Final = 400
SWEEP: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.049, 0.051, 0.075, 0.1, 0.125, 0.15, 0.2,
                0.3, 0.5)  # fmt: skip
SWEEP_BLOCKS: Final = 1000
SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Case:
    """A registry to load; `more` adds a second generation and the share of consents."""

    country: str
    numbers: int
    spread: bool = False
    more: bool = False

    @property
    def name(self) -> str:
        thinly = ", spread" if self.spread else ""
        return f"{self.country} {self.numbers / 1e6:g} M{thinly}"


BOUNDED: Final = (
    Case("us", 10_000_000),
    Case("in", 10_000_000),
    Case("cn", 1_000_000, spread=True),
    Case("cn", 10_000_000, more=True),
)
FULL: Final = (
    Case("cn", 1_000_000, spread=True),
    Case("cn", 10_000_000),
    Case("cn", 100_000_000),
    Case("us", registry.NATIONS["us"].full),
    Case("in", registry.NATIONS["in"].full),
    Case("cn", registry.NATIONS["cn"].full, more=True),
)
REFERENCE: Final = Case("cn", 1_000_000)


@dataclass(frozen=True, slots=True)
class Load:
    """One `screening lists load`: seconds on the clock and on the loader's core, bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Node:
    """A state folder with a running index server, and the registry loaded into it."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.case = case
        self.folder = folder
        self.server = EmbeddedServer(folder)
        self.asked: list[tuple[int, bool]] = []

    def __enter__(self) -> Self:
        self.client = redis.Redis.from_url(self.server.start(), socket_timeout=600)
        self.empty = self.used_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.stop()
        shutil.rmtree(self.folder)

    def move_to(self, core: int) -> None:
        """Run the server's main thread, which answers, on one core from now on."""
        os.sched_setaffinity(int(self.client.info("server")["process_id"]), {core})

    def used_bytes(self) -> int:
        """What the server uses, with no rewrite of its log under way."""
        while self.client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.2)
        return int(self.client.info("memory")["used_memory"])

    def load(self, *, seed: int) -> Load:
        """Generate and load the registry, checking the counts; the file is deleted again."""
        case = self.case
        nation = registry.NATIONS[case.country]
        path = self.folder / f"{case.country}.txt"
        with path.open("wb") as file:
            for numbers in drawn(case, seed=seed):
                file.write(registry.text(numbers, form=nation.format))
                self._remember(numbers)
        words = [
            sys.executable, "-m", "screening", "lists", "load", case.country, str(path), "--kind",
            "dnc", "--format", nation.format, "--region", case.country.upper(),
            "--category", "all",
        ]  # fmt: skip
        output = self.folder / "load.out"
        environment = {**os.environ, "SCREENING_STATE_DIR": str(self.folder)}
        before, began, peak = _children_cpu_seconds(), time.monotonic(), 0
        with (
            output.open("wb") as out,
            subprocess.Popen(words, stdout=out, stderr=out, env=environment) as process,
        ):
            # Not the ru_maxrss of wait4: that has also what this process had when it forked.
            while process.poll() is None:
                peak = max(peak, _peak_bytes(process.pid))
                time.sleep(0.1)
        seconds, cpu_seconds = time.monotonic() - began, _children_cpu_seconds() - before
        path.unlink()
        said = output.read_text()
        expected = f"{case.numbers:,} loaded, 0 duplicate, 0 rejected"
        if process.returncode or expected not in said:
            sys.exit(f"{case.name}: expected {expected}, the loader said:\n{said}")
        return Load(seconds, cpu_seconds, peak)

    def _remember(self, numbers: registry.Ints) -> None:
        """Some of the numbers drawn, and their neighbours, with whether they are listed."""
        some = numbers[:: max(1, self.case.numbers // (ASKED * ROUNDS // 2))]
        near = np.concatenate([some, some + 1])
        near = near[near < numbers[-1]] if len(numbers) else near
        code = registry.NATIONS[self.case.country].code * 10 ** len(
            str(int(numbers.max(initial=0)))
        )
        # np.isin hashes what it looks in, half a million a second; these are sorted.
        listed = numbers[np.searchsorted(numbers, near)] == near
        self.asked += zip((near + code).tolist(), listed.tolist(), strict=True)

    def questions(self, rng: np.random.Generator) -> Iterator[tuple[Question, bool]]:
        """Lookups with all that a call asks, of numbers at random."""
        store = IndexStore(self.server.url)
        stamp = store.stamps()[0]
        store.close()
        assert stamp is not None
        lists = tuple((each, max(readable)) for each, readable in stamp.generations.items())
        while True:
            for at in rng.permutation(len(self.asked)).tolist():
                called, listed = self.asked[at]
                yield (
                    Question(
                        called, CALLING, 7, (BIT["all"],), lists,
                        consent=True, personal=True, profile=True,
                    ),
                    listed,
                )  # fmt: skip


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_bytes(pid: int) -> int:
    """The most memory that a process has had resident, 0 when it has just ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next((int(n.split()[1]) << 10 for n in status.splitlines() if "VmHWM" in n), 0)


def drawn(case: Case, *, seed: int) -> Iterator[registry.Ints]:
    """The national numbers of a case."""
    taken = registry.taken(case.country, case.numbers, spread=case.spread)
    return registry.draw(taken, case.numbers, seed=seed)


def grant(node: Node, count: int) -> dict[str, float]:
    """Consents of random numbers of the plan, through the writer of the index."""
    rng = np.random.default_rng(SEED)
    case = node.case
    taken = registry.taken(case.country, case.numbers, spread=case.spread)
    code = registry.NATIONS[case.country].code

    def events() -> Iterator[Event]:
        for first in range(0, count, 100_000):
            several = min(100_000, count - first)
            prefixes = rng.choice(taken, several)
            head = code * 10 ** len(str(int(taken[-1])))
            called = (prefixes + head) * registry.BEHIND + rng.integers(0, 10_000, several)
            entities = rng.integers(1, ENTITIES, several)
            chances = zip(called.tolist(), entities.tolist(), strict=True)
            for sequence, (number, entity) in enumerate(chances, first + 1):
                body = {"entity": entity, "categories": ["insurance"], "expires": 1_900_000_000}
                yield Event(sequence, 1.8e9, EventKind.CONSENT_GRANTED, number, body)

    before, began = node.used_bytes(), time.monotonic()
    store = IndexStore(node.server.url)
    store.attach(store.epoch())
    store.apply(events(), through=count)
    store.close()
    seconds = time.monotonic() - began
    used = node.used_bytes()
    return {
        "count": count,
        "bytes_each": round((used - before) / count, 2),
        "applied_a_second": round(count / seconds),
        "index_bytes": used,
    }


async def lookups(nodes: list[Node]) -> list[list[float]]:
    """The seconds of each lookup, of each index, taken in turns.

    All on one core: to wake another one takes 40 µs, which would hide what is asked here, and
    where the kernel puts each server would decide.
    """
    core, _ = cores()
    for node in nodes:
        node.move_to(core)
    with pinned(core):
        return await _lookups(nodes)


async def _lookups(nodes: list[Node]) -> list[list[float]]:
    rng = np.random.default_rng(SEED)
    readers, questions = [], []
    for node in nodes:
        store = IndexStore(node.server.url)
        readers.append(IndexReader(node.server.url, epoch=store.epoch()))
        store.close()
        await readers[-1].start()
        questions.append(node.questions(rng))
    loop = asyncio.get_running_loop()
    taken: list[list[float]] = [[] for _ in nodes]
    for turn in range(ROUNDS + 2):
        for at, reader in enumerate(readers):
            for _ in range(ASKED):
                question, listed = next(questions[at])
                began = time.perf_counter()
                facts = await reader.facts(question, deadline=loop.time() + 5)
                ended = time.perf_counter()
                assert facts.known, "an answer was not known"
                assert bool(facts.listed) is listed, "an answer was wrong"
                if turn >= 2:
                    taken[at].append(ended - began)
    for reader in readers:
        await reader.close()
    return taken


def measure(case: Case, reference: Node, folder: Path, *, more: bool) -> dict[str, Any]:
    """All figures of a case; with `more` also those of consents and a second generation."""
    plan = len(registry.taken(case.country, case.numbers, spread=case.spread)) * registry.BEHIND
    density = case.numbers / plan
    with Node(folder / "state", case) as node:
        load = node.load(seed=SEED)
        used = node.used_bytes() - node.empty
        resident = int(node.client.info("memory")["used_memory_rss"])
        reference_s, own_s = uvloop.run(lookups([reference, node]))
        row: dict[str, Any] = {
            "case": case.name,
            **asdict(case),
            "density": round(density, 5),
            "seconds": round(load.seconds, 1),
            "loader_cpu_seconds": round(load.cpu_seconds, 1),
            "million_a_second_on_loader_core": round(case.numbers / load.cpu_seconds / 1e6, 2),
            "loader_peak_mib": load.peak_bytes >> 20,
            "server_bytes": used,
            "server_resident_bytes": resident,
            "bytes_a_number": round(used / case.numbers, 3),
            "bare_bitmap_bytes_a_number": round(1 / (8 * density), 3),
            "lookup_p50_us": round(quantiles(own_s)[1] * 1e6, 1),
            "lookup_p50_us_at_1_m": round(quantiles(reference_s)[1] * 1e6, 1),
            "lookup_p50_ratio": round(quantiles(own_s)[1] / quantiles(reference_s)[1], 3),
            "lookup_p99_us": round(quantiles(own_s, n=100)[98] * 1e6, 1),
        }
        if more:
            row["consents"] = grant(node, round(case.numbers * CONSENTS_A_NUMBER))
            before = node.used_bytes()
            again = node.load(seed=SEED + 1)
            row["second_generation"] = {
                "server_bytes": node.used_bytes() - before,
                "server_bytes_with_both": node.used_bytes(),
                "seconds": round(again.seconds, 1),
                "loader_peak_mib": again.peak_bytes >> 20,
            }
    return row


def sweep(folder: Path) -> list[dict[str, float]]:
    """Bytes a number of a list, and of a further category of it, by density."""
    rng = np.random.default_rng(SEED)
    first = 8613 * 10**9 // BLOCK * BLOCK
    rows = []
    with Node(folder / "sweep", REFERENCE) as node:
        store = IndexStore(node.server.url)
        store.create(name_epoch("sweep"))
        for generation, density in enumerate(SWEEP, 1):
            numbers, used = 0, [node.used_bytes()]
            for bit in (BIT["all"], BIT["loans"]):
                listed = rng.random(SWEEP_BLOCKS * BLOCK, np.float32) < density
                chosen = (np.flatnonzero(listed) + first).astype(np.uint64)
                store.write_generation(1, generation, bit, chosen)
                numbers = len(chosen)
                used.append(node.used_bytes())
            store.retire_generation(1, generation)
            while node.client.info("memory")["lazyfree_pending_objects"]:
                time.sleep(0.05)
            rows.append(
                {
                    "density": density,
                    "bytes_a_number": round((used[1] - used[0]) / numbers, 4),
                    "bytes_a_number_of_a_further_category": round((used[2] - used[1]) / numbers, 4),
                    "bare_bitmap": round(1 / (8 * density), 4),
                    "information_limit": round(limit(density), 4),
                }
            )
        store.close()
    return rows


def limit(density: float) -> float:
    """The bytes a listed number that no way of writing a random list can go below."""
    rest = 1 - density
    return -(density * math.log2(density) + rest * math.log2(rest)) / density / 8


def table(rows: list[dict[str, Any]]) -> Table:
    """The figures of all cases for people."""
    shown = Table(title="One category, `screening lists load` into the embedded server")
    for head in ("registry", "listed", "seconds", "M/s on its core", "loader MiB", "B a number",
                 "bare bitmap", "p50 µs", "of that at 1 M"):  # fmt: skip
        shown.add_column(head, justify="right")
    for row in rows:
        shown.add_row(
            row["case"],
            f"{row['density']:.2%}",
            f"{row['seconds']:.1f}",
            f"{row['million_a_second_on_loader_core']:.2f}",
            str(row["loader_peak_mib"]),
            f"{row['bytes_a_number']:.3f}",
            f"{row['bare_bitmap_bytes_a_number']:.3f}",
            f"{row['lookup_p50_us']:.0f}",
            f"{row['lookup_p50_ratio']:.3f}",
        )
    return shown


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the nations whole; 25 GB of disk")
    parser.add_argument(
        "--only",
        metavar="CASE",
        help="load and ask this registry of the table again, into the results that are there",
    )
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    asked = parser.parse_args()
    cases = {case.name: case for case in (FULL if asked.full or asked.only else BOUNDED)}
    written = asked.results / "index.json"
    if asked.only:
        if asked.only not in cases:
            parser.error(f"--only is one of {', '.join(map(repr, cases))}, not {asked.only!r}")
        cases = {asked.only: cases[asked.only]}
        if not written.exists():
            parser.error(f"--only puts its row into {written}, which is not there")
    out = Console(highlight=False)
    of_machine = machine() | {"numpy": np.__version__}
    with tempfile.TemporaryDirectory(prefix="bench-index-", dir=asked.folder) as name:
        folder = Path(name)
        if asked.only:
            results: dict[str, Any] = json.loads(written.read_text())
        else:
            results = {"machine": of_machine, "sweep": sweep(folder), "cases": []}
        rows = {row["case"]: row for row in results["cases"]}
        with Node(folder / "reference", REFERENCE) as reference:
            reference.load(seed=SEED)
            for case in cases.values():
                row = measure(case, reference, folder, more=case.more and not asked.only)
                rows[case.name] = (
                    rows.get(case.name, {}) | row | {"again": of_machine} if asked.only else row
                )
                results["cases"] = list(rows.values())
                out.print(row)
                asked.results.mkdir(parents=True, exist_ok=True)
                written.write_text(json.dumps(results, indent=1) + "\n")
    (asked.results / "index.svg").write_text(chart.bytes_by_density(results))
    out.print(table(results["cases"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
