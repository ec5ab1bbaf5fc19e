"""The report of a run of load: one HTML page without anything beside it, for who decides.

Every figure is computed from the calls: when each was due, how long it took from there, whether
its answer had all facts.
"""

import html
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from benchmarks import plots
from benchmarks.machine import in_words
from benchmarks.openloop import DEGRADED, Outcome, latencies, percentile_curve
from benchmarks.shapes import Shape

MOST_DEGRADED: Final = 0.001

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Calls:
    """Of each call: seconds after the start, µs from then to its answer, and what it was like.

    `lag_us` is how late who asked was, of the calls that it could have sent in time.
    """

    when: Floats
    took_us: Floats
    degraded: Flags
    failed: Flags
    lag_us: Floats

    @classmethod
    def of_outcome(cls, outcome: Outcome) -> Self:
        """As the open-loop generator tells."""
        took = np.where(outcome.done >= 0, (outcome.done - outcome.due) / 1e3, np.inf)
        return cls(
            outcome.due / 1e9, took, outcome.flags & DEGRADED > 0, ~outcome.answered, outcome.lag_us
        )

    @classmethod
    def of_records(cls, told: dict[str, Any], *, bin_s: float) -> Self:
        """As the Locust processes have counted."""
        rows = np.array(told["calls"] or [[0, 1, 0, 0, 0]], np.float64)
        rows = rows[np.argsort(rows[:, 0])]
        each = np.repeat(rows[:, :4], rows[:, 4].astype(np.int64), axis=0)
        late = np.array(told["lags"] or [[0, 0]], np.float64)
        return cls(
            (each[:, 0] - rows[0, 0]) * bin_s,
            each[:, 1],
            each[:, 2] > 0,
            each[:, 3] > 0,
            np.repeat(late[:, 0], late[:, 1].astype(np.int64)),
        )

    def figures(self, shape: Shape) -> dict[str, float]:
        """What objectives are about, and what the table shows; times as their names say."""
        good = self.took_us[~self.failed]
        told = latencies(good)
        seconds = float(self.when.max() - self.when.min()) if len(self.when) > 1 else 1.0
        calm = np.ones(len(self.when), bool)
        figures: dict[str, float] = {}
        if shape.disturbed is not None:
            first, last = shape.disturbed
            figures["recovery_s"] = round(self._recovery(last), 2)
            # What follows the end of the disturbance is what recovery is about.
            calm = (self.when < first) | (self.when >= last + figures["recovery_s"] + 0.1)
        return {
            "calls": len(self.when),
            "rate": round(len(self.when) / max(seconds, 1e-9), 1),
            "failed": int(self.failed.sum()),
            **{f"{name}_ms": round(value / 1e3, 3) for name, value in told.items()},
            "degraded": int(self.degraded.sum()),
            "degraded_share": round(float(self.degraded[calm].mean()) if calm.any() else 0.0, 5),
            "lag_p99_ms": (
                round(float(np.percentile(self.lag_us, 99)) / 1e3, 3) if len(self.lag_us) else 0.0
            ),
            **figures,
        }

    def _recovery(self, end: float) -> float:
        """Seconds from the end of a disturbance until all calls were screened in full, but for one
        in a thousand of those that came after it: what objectives allow at any time."""
        after = self.when >= end
        lacking = np.sort(self.when[self.degraded & after])
        allowed = int(MOST_DEGRADED * after.sum())
        return float(lacking[-1 - allowed] - end) if len(lacking) > allowed else 0.0

    def windows(self, width: float = 1.0) -> list[dict[str, float]]:
        """By the whole second: calls, p50 and p99 in ms, the share of degraded answers."""
        told = []
        # At least one, and not the last, in which the run ended.
        for n in range(max(1, round(float(self.when.max()) / width)) if len(self.when) else 0):
            which = (self.when >= n * width) & (self.when < (n + 1) * width)
            good = self.took_us[which & ~self.failed]
            if not len(good):
                continue
            told.append(
                {
                    "at": n * width,
                    "rate": round(which.sum() / width, 1),
                    "p50": float(np.percentile(good, 50)) / 1e3,
                    "p99": float(np.percentile(good, 99)) / 1e3,
                    "degraded": float(self.degraded[which].mean()),
                }
            )
        return told


AT_LEAST: Final = frozenset({"reloads"})


def judged(
    objectives: dict[str, float], figures: dict[str, float]
) -> list[tuple[str, float, float, bool]]:
    """Each objective with its limit, the figure, and whether it holds; what was not measured
    does not."""
    told = []
    for name, limit in objectives.items():
        value = figures.get(name, float("nan"))
        held = value >= limit if name in AT_LEAST else value <= limit
        told.append((name, limit, value, bool(held)))
    return told


def page(
    shape: Shape,
    figures: dict[str, float],
    verdicts: list[tuple[str, float, float, bool]],
    calls: Calls,
    about: dict[str, Any],
    *,
    how: str,
) -> str:
    """The report."""
    said = "held" if all(each[3] for each in verdicts) else "missed"
    width, height = 620, 340
    windows = calls.windows()
    curve = [(p, v / 1e3) for p, v in percentile_curve(calls.took_us[~calls.failed])]
    times = [each[name] for each in windows for name in ("p50", "p99")]
    values = [v for _, v in curve] or [1.0]
    rates = [each["rate"] for each in windows] or [1.0]
    latency = plots.logarithmic("ms", min(times, default=1.0), max(times, default=1.0))
    until = max(shape.seconds, *(each["at"] for each in windows), 1.0)
    seconds = plots.linear("seconds", until)
    drawn = (
        plots.plot(
            "Latency by percentile",
            plots.percentiles(curve[-1][0] if curve else 99.0),
            plots.logarithmic("ms", min(values), max(values)),
            [plots.Series("", curve)],
            about="from the instant a call is due to its answer",
            width=width,
            height=height,
        ),
        plots.plot(
            "Latency over time",
            seconds,
            latency,
            [
                plots.Series("p50", [(each["at"], each["p50"]) for each in windows]),
                plots.Series("p99", [(each["at"], each["p99"]) for each in windows]),
            ],
            about="of the calls due in each second",
            width=width,
            height=height,
        ),
        plots.plot(
            "Throughput against p99",
            plots.linear("calls in a second", max(rates)),
            latency,
            [plots.Series("p99", [(e["rate"], e["p99"]) for e in windows], line=False)],
            about="a dot for each second of the run",
            width=width,
            height=height,
        ),
        plots.plot(
            "Calls and degraded answers over time",
            seconds,
            plots.linear("calls a second", max(rates)),
            [
                plots.Series("calls", [(each["at"], each["rate"]) for each in windows]),
                plots.Series(
                    "degraded",
                    [(each["at"], each["rate"] * each["degraded"]) for each in windows],
                ),
            ],
            about="answers without all facts are degraded, never late",
            width=width,
            height=height,
        ),
    )
    tiles = "".join(
        f"<div class=tile><b>{value}</b><span>{html.escape(name)}</span></div>"
        for name, value in _tiles(figures)
    )
    rows = "".join(
        f"<tr><td>{html.escape(name)}<td>{'≥' if name in AT_LEAST else '≤'} {limit:g}"
        f"<td>{value:g}<td class={'held' if ok else 'missed'}>{'held' if ok else 'missed'}"
        for name, limit, value, ok in verdicts
    )
    return f"""<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Load: {shape.name}</title>
<style>{_STYLE}</style>
<header><h1>{shape.name.replace("_", " ").capitalize()}
<em class={said}>objectives {said}</em></h1>
<p>{html.escape(shape.about)} {html.escape(how)}</p></header>
<section class=tiles>{tiles}</section>
<section class=plots>{"".join(drawn)}</section>
<section><h2>Objectives</h2><table><tr><th>objective<th>limit<th>measured<th>{rows}</table></section>
<footer>{html.escape(in_words(about))}</footer>
</html>
"""


def _tiles(figures: dict[str, float]) -> list[tuple[str, str]]:
    told = [
        ("calls", f"{figures['calls']:,.0f}"),
        ("calls a second", f"{figures['rate']:,.0f}"),
        ("failed", f"{figures['failed']:,.0f}"),
        ("p50, ms", f"{figures['p50_ms']:.2f}"),
        ("p95, ms", f"{figures['p95_ms']:.2f}"),
        ("p99, ms", f"{figures['p99_ms']:.2f}"),
        ("p99.9, ms", f"{figures['p99.9_ms']:.2f}"),
        ("degraded answers", f"{figures['degraded']:,.0f}"),
        ("generator late, p99, ms", f"{figures['lag_p99_ms']:.2f}"),
    ]
    if "recovery_s" in figures:
        told.append(("recovered after, s", f"{figures['recovery_s']:.1f}"))
    if "reloads" in figures:
        told.append(("rule sets in force", f"{figures['reloads']:.0f}"))
    return told


_STYLE: Final = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,-apple-system,Segoe UI,Helvetica,Arial,
sans-serif;color:#0f172a;background:#f8fafc;margin:0 auto;padding:32px;max-width:1280px}
h1{font-size:28px;margin:0;display:flex;gap:16px;align-items:center}h2{font-size:17px}
h1 em{font:600 13px system-ui;padding:4px 12px;border-radius:999px}
header p{color:#475569;margin:4px 0 20px}
em.held{background:#dcfce7;color:#166534}em.missed{background:#fee2e2;color:#991b1b}
td.held{color:#166534;font-weight:600}td.missed{color:#991b1b;font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:10px}
.tile{background:white;border:1px solid #e2e8f0;border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:20px}.tile span{color:#64748b;font-size:12px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(520px,1fr));gap:12px;
margin-top:14px}.plots svg{width:100%;height:auto}
table{border-collapse:collapse;background:white;border:1px solid #e2e8f0;min-width:480px}
td,th{text-align:left;padding:6px 16px;border-bottom:1px solid #e2e8f0}
footer{color:#64748b;font-size:12px;margin-top:24px}
"""
