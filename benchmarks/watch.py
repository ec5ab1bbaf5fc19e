"""Does the watch find campaigns sooner and with fewer false alarms than plain thresholds?

Weeks are generated from seeds (`benchmarks.campaigns`), campaigns of six kinds and three
intensities planted among ordinary calls and lawful bulk callers. The watch is the code that the
service runs: events in, warnings out. Thresholds are on the signals that rules can ask for, each
set where it does best (F1) on the tuning seeds; both are judged on other seeds. The thresholds know
at once how a call will end; the watch hears of it when it ended. The first two weeks are for
learning and judge nobody.

`python -m benchmarks.watch`; `--tune` looks for the watch's own threshold on the tuning seeds.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.campaigns import INTENSITIES, START, WEEK, Campaign, Weeks, generate
from benchmarks.machine import machine
from screening.watching.detector import Detector, Limits, Weights

TUNING: Final = (1, 2)
SEEDS: Final = (11, 12, 13, 14)
QUIET: Final = (21,)
"""Seeds without campaigns: every warning is a false one."""

JUDGED_FROM: Final = START + 2 * WEEK
DAY: Final = 86_400.0
RESULTS: Final = Path(__file__).parent / "results" / "watch.json"
LIMITS: Final = Limits(seen_bits=1 << 25)
WATCH: Final = "watch"
ATTEMPTS: Final = "attempts an hour"
ANSWERED: Final = "distinct called an hour, few answered"
ALL: Final = "the same for numbers, blocks, entities and trunks"


class Alarm(NamedTuple):
    """That something was taken for a campaign."""

    kind: str
    key: Any
    at: float
    sure: float = 1.0


def right(campaign: Campaign, alarm: Alarm) -> bool:
    """Whether an alarm names who is behind a campaign, while it runs or in the day after."""
    if not campaign.since <= alarm.at <= campaign.until + DAY:
        return False
    match alarm.kind:
        case "number":
            return alarm.key in campaign.numbers
        case "block":
            return bool(campaign.block) and alarm.key == campaign.block
        case "entity":
            return bool(campaign.entity) and alarm.key == campaign.entity
    return bool(campaign.trunk) and alarm.key == campaign.trunk


# Plain thresholds


class Series:
    """One kind of party's calls, sorted by party: what each of them sees in the hour before it."""

    def __init__(self, weeks: Weeks, kind: str) -> None:
        columns = weeks.columns
        keys = columns[{"number": "calling"}.get(kind, kind)]
        if kind == "trunk":
            names, keys = np.unique(keys.astype(str), return_inverse=True)
            self.names: Any = names
        else:
            self.names = None
        keep = keys != 0 if kind == "entity" else np.ones(len(keys), bool)
        order = np.lexsort((columns["at"][keep], keys[keep]))
        self.kind = kind
        self.keys, self.at = keys[keep][order], columns["at"][keep][order]
        called = columns["called"][keep][order]
        answered = columns["answered"][keep][order]
        begin = np.searchsorted(self.keys, self.keys)
        span = self.at.max() + 3_601.0
        # One axis for all parties, on which an hour of one never reaches another.
        parties = np.unique(self.keys, return_inverse=True)[1]
        axis = parties * (span + 3_601.0) + self.at
        first = np.searchsorted(axis, axis - 3_600.0)
        first = np.maximum(first, begin)
        place = np.arange(len(axis))
        self.attempts = place - first + 1
        again = np.lexsort((self.at, called, self.keys))
        repeat = np.zeros(len(axis), bool)
        same = (self.keys[again][1:] == self.keys[again][:-1]) & (
            called[again][1:] == called[again][:-1]
        )
        repeat[again[1:]] = same & (np.diff(self.at[again]) < 3_600.0)
        fresh = np.concatenate([[0], np.cumsum(~repeat)])
        talked = np.concatenate([[0], np.cumsum(answered)])
        self.distinct = fresh[place + 1] - fresh[first]
        self.share = (talked[place + 1] - talked[first]) / self.attempts

    def alarms(self, hits: Any) -> list[Alarm]:
        """One a party, and again after a day below."""
        found: list[Alarm] = []
        last: dict[Any, float] = {}
        for at in np.flatnonzero(hits):
            key, instant = self.keys[at], float(self.at[at])
            if instant - last.get(key, -math.inf) > DAY:
                name = str(self.names[key]) if self.names is not None else int(key)
                found.append(Alarm(self.kind, name, instant))
            last[key] = instant
        return found


GRID: Final = {
    "number": (8, 12, 16, 20, 30, 45, 60, 100, 200, 400),
    "block": (20, 30, 60, 100, 150, 250, 400),
    "entity": (60, 100, 150, 250, 400),
    "trunk": (500, 700, 900, 1_200, 1_600),
}
SHARES: Final = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 1.1)
Thresholds = dict[str, tuple[int, float]]
"""By kind: how many an hour, and the share answered below which they count."""


def fired(series: Series, limit: int, share: float, *, attempts: bool = False) -> list[Alarm]:
    """The alarms of a threshold."""
    counts = series.attempts if attempts else series.distinct
    return series.alarms((counts > limit) & (series.share < share))


# Judging


class Judged(NamedTuple):
    """What a detector did on some seeds."""

    right: int
    wrong: int
    found: dict[tuple[str, str], list[float]]
    """By kind and intensity: minutes until the warning, of each campaign found."""
    planted: dict[tuple[str, str], int]
    before: list[float]
    """The share of a campaign's duration that had gone by before the warning."""
    weeks: float
    sure: list[tuple[float, bool]]

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return sum(map(len, self.found.values())) / max(1, sum(self.planted.values()))

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(1e-9, self.precision + self.recall)


def judge(parts: Iterable[tuple[Weeks, list[Alarm]]]) -> Judged:
    """Hold alarms against what was planted."""
    good, bad, weeks = 0, 0, 0.0
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    planted: dict[tuple[str, str], int] = defaultdict(int)
    before: list[float] = []
    sure: list[tuple[float, bool]] = []
    for made, all_alarms in parts:
        weeks += made.weeks - 2
        alarms = [each for each in all_alarms if each.at >= JUDGED_FROM]
        hit = [[each for each in made.campaigns if right(each, alarm)] for alarm in alarms]
        good += sum(map(bool, hit))
        bad += sum(not each for each in hit)
        sure += [(alarm.sure, bool(each)) for alarm, each in zip(alarms, hit, strict=True)]
        for campaign in made.campaigns:
            what = campaign.kind, campaign.intensity
            planted[what] += 1
            times = [alarm.at for alarm in alarms if right(campaign, alarm)]
            if times:
                late = min(times) - campaign.since
                found[what].append(late / 60)
                length = max(1.0, campaign.until - campaign.since)
                before.append(min(1.0, late / length))
    return Judged(good, bad, dict(found), dict(planted), before, weeks, sure)


# Runs


def watched(made: Weeks, weights: Weights) -> tuple[list[Alarm], float]:
    """The warnings of the watch, and the processor time it took, in seconds."""
    detector = Detector(weights, LIMITS)
    began = time.process_time()
    findings = detector.take(made.events)
    took = time.process_time() - began
    return [Alarm(f.kind, f.key, f.at, f.sure) for f in findings if not f.grown], took


def one_seed(seed: int, *, planted: bool, scores: tuple[float, ...] = ()) -> dict[str, Any]:
    """Everything about a seed that judging needs: the watch's alarms, those of each threshold."""
    made = generate(seed, planted=planted)
    given = [Weights()] if not scores else [replace(Weights(), threshold=s) for s in scores]
    runs = [watched(made, weights) for weights in given]
    plain: dict[tuple[Any, ...], list[Alarm]] = {}
    for kind, limits in GRID.items() if not scores else ():
        series = Series(made, kind)
        for limit in limits:
            for share in SHARES:
                plain[kind, limit, share] = fired(series, limit, share)
            if kind == "number":
                plain[ATTEMPTS, limit] = fired(series, limit, 1.1, attempts=True)
    events = len(made.events)
    bare = Weeks([], made.campaigns, made.weeks, {})
    return {"made": bare, "watch": runs, "plain": plain, "events": events}


def tuned(parts: list[dict[str, Any]]) -> tuple[int, Thresholds, Thresholds]:
    """The thresholds that do best on the tuning seeds: attempts, numbers alone, all kinds."""

    def score(*keys: tuple[Any, ...]) -> float:
        return judge(
            (part["made"], [alarm for key in keys for alarm in part["plain"][key]])
            for part in parts
        ).f1

    attempts = max(GRID["number"], key=lambda limit: score((ATTEMPTS, limit)))
    pairs = [(limit, share) for limit in GRID["number"] for share in SHARES]
    best = max(pairs, key=lambda pair: score(("number", *pair)))
    chosen: Thresholds = {"number": best}
    for kind in ("block", "entity", "trunk"):  # each where it adds most to those before
        so_far = [(name, *pair) for name, pair in chosen.items()]
        options = [(limit, share) for limit in GRID[kind] for share in SHARES]
        pair = max(options, key=lambda each: score(*so_far, (kind, *each)))
        if score(*so_far, (kind, *pair)) > score(*so_far):
            chosen[kind] = pair
    return attempts, {"number": best}, chosen


def told(name: str, judged: Judged, quiet: Judged) -> dict[str, Any]:
    """The row of a detector."""
    times = [minutes for each in judged.found.values() for minutes in each]
    return {
        "detector": name,
        "precision": round(judged.precision, 3),
        "recall": round(judged.recall, 3),
        "f1": round(judged.f1, 3),
        "false_a_week": round((judged.wrong + quiet.wrong) / (judged.weeks + quiet.weeks), 2),
        "median_minutes": round(median(times), 1) if times else None,
        "median_share_before": round(median(judged.before), 3) if judged.before else None,
        "by_kind": {
            f"{kind} {intensity}": {
                "planted": count,
                "found": len(judged.found.get((kind, intensity), [])),
                "median_minutes": round(median(judged.found[kind, intensity]), 1)
                if judged.found.get((kind, intensity))
                else None,
            }
            for (kind, intensity), count in sorted(judged.planted.items())
        },
    }


def bands(sure: list[tuple[float, bool]]) -> list[dict[str, Any]]:
    """How often warnings were right, by how sure they said they were."""
    rows = []
    for low, high in ((0.0, 0.8), (0.8, 0.95), (0.95, 1.01)):
        inside = [good for value, good in sure if low <= value < high]
        if inside:
            said = [value for value, _ in sure if low <= value < high]
            rows.append(
                {
                    "said": round(sum(said) / len(said), 3),
                    "right": round(sum(inside) / len(inside), 3),
                    "warnings": len(inside),
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As it stands in docs/watch.md."""
    heads = "detector", "precision", "recall", "F1", "false a week", "median to warning"
    lines = ["| " + " | ".join(heads) + " | of its duration |", "|---" * 7 + "|"]
    lines += [
        f"| {row['detector']} | {row['precision']:.2f} | {row['recall']:.2f} | {row['f1']:.2f}"
        f" | {row['false_a_week']:.1f} | {row['median_minutes']} min"
        f" | {row['median_share_before']:.0%} |"
        for row in rows
    ]
    kinds = sorted({name.split()[0] for name in rows[0]["by_kind"]})
    lines += ["", "Found of planted, and median minutes, by kind and intensity:", ""]
    lines.append("| campaign | " + " | ".join(row["detector"] for row in rows) + " |")
    lines.append("|---" * (len(rows) + 1) + "|")
    for kind in kinds:
        for intensity in INTENSITIES:
            cells = []
            for row in rows:
                each = row["by_kind"][f"{kind} {intensity}"]
                late = "" if each["median_minutes"] is None else f", {each['median_minutes']:g}"
                cells.append(f"{each['found']}/{each['planted']}{late}")
            lines.append(f"| {kind}, {intensity} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tune(pool: ProcessPoolExecutor) -> None:
    """Print how the watch does on the tuning seeds by its threshold, and how sure it may be."""
    scores = (11.0, 13.0, 15.0, 17.0)
    jobs = [pool.submit(one_seed, seed, planted=True, scores=scores) for seed in TUNING]
    parts = [job.result() for job in jobs]
    for at, score in enumerate(scores):
        judged = judge((part["made"], part["watch"][at][0]) for part in parts)
        print(f"{score}: F1 {judged.f1:.3f}, precision {judged.precision:.3f},"
              f" recall {judged.recall:.3f}")  # fmt: skip
    pairs = judge((part["made"], part["watch"][0][0]) for part in parts).sure
    given = np.array([math.log(sure / (1 - sure)) for sure, _ in pairs])
    weights = Weights()
    score_of = given / weights.sure_slope + weights.sure_at
    good = np.array([good for _, good in pairs], float)
    slope, at_score = fitted(score_of, good)
    print(f"sure_slope {slope:.2f}, sure_at {at_score:.2f}, of {len(good)} warnings")


def fitted(scores: Any, good: Any) -> tuple[float, float]:
    """Slope and middle of a logistic curve through what was right (Platt's, with his prior)."""
    target = np.where(
        good > 0, (good.sum() + 1) / (good.sum() + 2), 1 / (len(good) - good.sum() + 2)
    )
    slopes, middles = np.meshgrid(np.linspace(0.05, 2, 79), np.linspace(0, 20, 81))
    chance = 1 / (1 + np.exp(-slopes[..., None] * (scores - middles[..., None])))
    chance = chance.clip(1e-9, 1 - 1e-9)
    loss = -(target * np.log(chance) + (1 - target) * np.log(1 - chance)).sum(-1)
    best = np.unravel_index(loss.argmin(), loss.shape)
    return float(slopes[best]), float(middles[best])


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    words = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        if words.tune:
            tune(pool)
            return
        every = [(seed, True) for seed in (*TUNING, *SEEDS)] + [(seed, False) for seed in QUIET]
        jobs = {seed: pool.submit(one_seed, seed, planted=planted) for seed, planted in every}
        parts = {seed: job.result() for seed, job in jobs.items()}
    attempts, numbers, kinds = tuned([parts[seed] for seed in TUNING])
    plain: dict[str, list[tuple[Any, ...]]] = {
        f"{ATTEMPTS} > {attempts}": [(ATTEMPTS, attempts)],
        ANSWERED: [(name, *pair) for name, pair in numbers.items()],
        ALL: [(name, *pair) for name, pair in kinds.items()],
    }
    rows = []
    judged = judge((parts[s]["made"], parts[s]["watch"][0][0]) for s in SEEDS)
    quiet = judge((parts[s]["made"], parts[s]["watch"][0][0]) for s in QUIET)
    rows.append(told(WATCH, judged, quiet))
    calibration = bands(judged.sure + quiet.sure)
    for name, keys in plain.items():
        both = [
            judge(
                (parts[s]["made"], [a for key in keys for a in parts[s]["plain"][key]])
                for s in seeds
            )
            for seeds in (SEEDS, QUIET)
        ]
        rows.append(told(name, both[0], both[1]))
    events = sum(parts[seed]["events"] for seed in SEEDS)
    seconds = sum(parts[seed]["watch"][0][1] for seed in SEEDS)
    result = {
        "machine": machine(),
        "tuning_seeds": TUNING,
        "seeds": SEEDS,
        "quiet_seeds": QUIET,
        "thresholds": {"attempts": attempts, "numbers": numbers, "all": kinds},
        "rows": rows,
        "calibration": calibration,
        "cpu_us_an_event": round(seconds / events * 1e6, 1),
        "events": events,
    }
    words.results.parent.mkdir(exist_ok=True)
    words.results.write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))
    print(f"\nthresholds: {result['thresholds']}")
    print(f"sure, as said and as it was: {calibration}")
    print(f"processor time: {result['cpu_us_an_event']} µs an event of {events:,}")
    if rows[0]["f1"] <= max(row["f1"] for row in rows[1:]):
        raise SystemExit("the watch is no better than a plain threshold")


if __name__ == "__main__":
    main()
