"""What a contest came to: the table for people, each promise held or missed, the picture."""

from collections.abc import Sequence
from typing import Any, Final

from benchmarks import plots, recorder
from benchmarks.contestants import FASTAPI, NGINX, SERVICE
from benchmarks.growth import BOTH
from benchmarks.machine import in_words
from benchmarks.stages import STAGES

MOST_IN_FULL: Final = 0.999
"""What is counted as decided must have been: the rest may be a round's first milliseconds."""
MOST_GROWTH: Final = 0.05
"""Of a worker's processor time for a call, by signals and by the record each."""

MOST_SHED: Final = 1 / 3
"""Of a worker's processor time for a call, by one that is shed."""


def in_ms(spread: dict[str, float]) -> str:
    """µs in rounds as milliseconds for people."""
    median, low, high = (spread[name] / 1e3 for name in ("median", "low", "high"))
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def markdown(results: dict[str, Any]) -> str:
    """The figures for people, with what they were taken on and how to take them again."""
    told, both = results["capacity"], results["tails"]
    does = ("whole decision", "lookup only", "same decision")
    heads = [f"{name}, {what}" for name, what in zip((SERVICE, NGINX, FASTAPI), does, strict=True)]
    lines = [
        _row("one core, index server included", heads),
        "|---|--:|--:|--:|",
        _row("calls a second (lowest–highest of the rounds)", [_rate(told[n]["rate"]) for n in
             (SERVICE, NGINX, FASTAPI)]),
        _row("the service to it, median of the rounds", ["", *(
             f"**{r['median']:.2f}** ({r['low']:.2f}–{r['high']:.2f})"
             for r in (results["ratios"][NGINX], results["ratios"][FASTAPI]))]),
        _row("processor time a call, µs: own + index server", [
             f"{told[n]['cpu_us']:.1f} + {told[n]['index_cpu_us']:.1f}"
             for n in (SERVICE, NGINX, FASTAPI)]),
    ]  # fmt: skip
    lines.append(_row(
        "the recorder, on the core of who asks, µs a call",
        [f"{told[SERVICE]['recorder_cpu_us']:.1f}", "", ""],
    ))  # fmt: skip
    full = f"{told[SERVICE]['in_full']:.2%}"
    lines.append(_row("screened in full, the least of the rounds", [full, "", ""]))
    for share, row in both.items():
        offered = f"at {row['rate']:,} calls/s, open loop ({share} of the lower), ms"
        lines += [
            _row(
                f"{name} {offered}",
                [*(in_ms(row[n][name]) for n in (SERVICE, NGINX)), ""],
            )
            for name in ("p99", "p99.9")
        ]
        lines.append(
            _row(
                "… the generator's own lateness, p99, ms",
                [*(f"{row[n]['all']['lag_p99'] / 1e3:.3f}" for n in (SERVICE, NGINX)), ""],
            )
        )
    three = (SERVICE, NGINX, FASTAPI)
    lines += [
        _row("memory, MiB (PSS)", [f"{results['memory'][n]['pss'] / 2**20:.0f}" for n in three]),
        _row("start to ready, s", [f"{results['ready_seconds'][n]:.2f}" for n in three]),
    ]
    parts = results["stages"]
    lines += [
        "",
        "| stage of a call | " + " | ".join((*STAGES, "kernel, loop and HTTP")) + " |",
        "|---|" + "--:|" * (len(STAGES) + 1),
        "| processor time, µs | "
        + " | ".join(f"{parts[each]:.1f}" for each in (*STAGES, "rest"))
        + " |",
    ]
    more, kept = results["growth"], results["recorder"]
    lines += ["", _sentence(more, kept), "", _shed(results)]
    if results["scaling"]:
        two = results["scaling"]
        costs = f"{two['cpu_us_one']:.1f} µs with one and {two['cpu_us_two']:.1f} µs with two"
        lines += ["", f"Two workers answer {two['two_for_one']:.2f} times what one does:"]
        rate = f"{two['rate_a_worker']:,} calls a second for each"
        lines += [f"a call takes {costs} of processor time, at {rate}."]
    lines += ["", f"`make bench`: {in_words(results['machine'])}.", ""]
    return "\n".join(lines)


def _sentence(more: dict[str, Any], kept: dict[str, Any]) -> str:
    """What comes after an answer, and what it costs."""
    return (
        f"Of a worker's call signals are {more['signals_us']:.1f} µs and the record "
        f"{more['record_us']:.1f} µs, with and without in turns. The recorder takes "
        f"{kept['share_of_a_core']:.2f} of a core at {kept['calls_a_second']:,} calls a second. "
        f"Python's collector ran {more['collections']['count']} times in "
        f"{more['collections']['calls']:,} calls, for "
        f"{more['collections']['longest_ms']:.1f} ms at most."
    )


def _shed(results: dict[str, Any]) -> str:
    """What a call takes that is not screened, and one that is."""
    more, full = results["growth"], results["capacity"][SERVICE]
    return (
        f"A call that is shed takes {more['shed_us']:.1f} µs of a worker where one that is screened"
        f" takes {more['us_a_call'][BOTH]:.1f}, kernel, loop and HTTP apart; with these"
        f" {results['overload']['shed_us']:.1f}, at twice what the core decides, and one that is"
        f" screened {full['cpu_us'] + full['index_cpu_us']:.1f}, index server included."
    )


def _row(name: str, values: Sequence[str]) -> str:
    return f"| {name} | " + " | ".join(values) + " |"


def _rate(spread: dict[str, float]) -> str:
    return f"**{spread['median']:,.0f}** ({spread['low']:,.0f}–{spread['high']:,.0f})"


def verdicts(results: dict[str, Any]) -> list[tuple[bool, str]]:
    """Each promise, with whether it held."""
    ahead, slow = results["ratios"][NGINX]["median"], results["ratios"][FASTAPI]["median"]
    full = results["capacity"][SERVICE]["in_full"]
    held = [
        (full >= MOST_IN_FULL, f"{full:.2%} of the calls counted were screened in full"),
        (ahead >= 1.3, f"{ahead:.2f} times nginx + Lua + Redis, 1.3 promised"),
        (slow >= 4, f"{slow:.2f} times FastAPI + pydantic, 4 promised"),
    ]
    for share, row in results["tails"].items():
        ours, theirs = row[SERVICE], row[NGINX]
        for name in ("p99", "p99.9"):
            a, b = ours[name]["median"] / 1e3, theirs[name]["median"] / 1e3
            held.append((a <= b, f"{name} at {share}: {a:.2f} ms, the peer's {b:.2f} ms"))
        for each, told in ((SERVICE, ours), (NGINX, theirs)):
            late, of = told["all"]["lag_p99"] / 1e3, told["p99"]["median"] / 1e3
            words = f"p99 {late:.3f} ms late, a tenth of {of:.2f} ms allowed"
            held.append((told["lag_is_small"], f"generator at {share} to {each}: {words}"))
    own, more = results["capacity"][SERVICE]["cpu_us"], results["growth"]
    for name in ("signals", "record"):
        share = more[f"{name}_us"] / (own - more[f"{name}_us"])
        held.append((share <= MOST_GROWTH, f"{name}: {share:.1%} of a worker's call, 5 % promised"))
    share = more["shed_us"] / more["us_a_call"][BOTH]
    words = "of one that is screened, kernel, loop and HTTP apart, a third promised"
    held.append((share <= MOST_SHED, f"a shed call: {share:.2f} {words}"))
    share = results["recorder"]["share_of_a_core"]
    rate = results["recorder"]["calls_a_second"]
    held.append(
        (
            share <= recorder.MOST_SHARE and not results["recorder"]["lost"],
            f"the recorder: {share:.2f} of a core at {rate:,} calls a second, 0.5 promised",
        )
    )
    if results["scaling"]:
        two = results["scaling"]["two_for_one"]
        held.append((two >= 1.7, f"two workers {two:.2f} times one, 1.7 promised"))
    return held


def picture(results: dict[str, Any]) -> str:
    """Three panels: calls a second, the tail at 80 %, and what rates cost in tail."""
    told = results["capacity"]
    ratio = results["ratios"]
    notes = {
        SERVICE: "the whole decision",
        NGINX: f"lookup only · service {ratio[NGINX]['median']:.2f}×",
        FASTAPI: f"same decision · service {ratio[FASTAPI]['median']:.2f}×",
    }
    shown = [
        plots.Bar(n, *(told[n]["rate"][k] for k in ("median", "low", "high")), notes[n])
        for n in (SERVICE, NGINX, FASTAPI)
    ]
    rounds = len(told[SERVICE]["rounds"])
    width, height = 430, 330
    row = results["tails"]["80%"]
    curves = {n: [(p, v / 1e3) for p, v in row[n]["curve"]] for n in (SERVICE, NGINX)}
    every = [v for points in curves.values() for _, v in points]
    most = max(p for points in curves.values() for p, _ in points)
    swept = {n: [(r, v / 1e3) for r, v in points] for n, points in results["sweep"].items()}
    ends = [v for points in swept.values() for _, v in points]
    panels = [
        plots.bars(
            "Calls a second on one core", shown,
            about=f"index server included, closed loop, median of {rounds} rounds and spread",
            width=width, height=height,
        ),
        plots.plot(
            f"Latency by percentile at {row['rate']:,} calls/s",
            plots.percentiles(most),
            plots.logarithmic("ms", min(every), max(every)),
            [plots.Series(n, points) for n, points in curves.items()],
            about="open loop, from the instant a call is due; 80 % of the lower capacity",
            width=width, height=height, at=(width + 10, 0),
        ),
        plots.plot(
            "Throughput against p99",
            plots.linear("calls a second offered", max(r for p in swept.values() for r, _ in p)),
            plots.logarithmic("p99, ms", min(ends), max(ends)),
            [plots.Series(n, points, dots=True) for n, points in swept.items()],
            about="open loop, each up to 90 % of its own capacity",
            width=width, height=height, at=(2 * (width + 10), 0),
        ),
    ]  # fmt: skip
    return plots.side_by_side(
        panels, width=3 * width + 20, height=height, foot=in_words(results["machine"])
    )
