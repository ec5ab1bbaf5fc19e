"""A month of screening in one country, as figures: what a regulator, and the operator, look at.

Everything is counted, and no party is named but those exposed: numbers appear nowhere.
"""

import csv
import html
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from consent.record import Record, month_of
from consent.record.timings import BEYOND, BOUNDS_MS
from screening.conduct import alive
from screening.recording.reader import DecisionLog
from screening.statement import instant

EXPOSED: Final = "exposed"
DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report; `plot` is the place of the column that is drawn, -1 for none."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | float, ...]]
    plot: int = -1


def figures(
    record: Record, log: DecisionLog, *, month: str, jurisdiction: str, now: float
) -> list[Table]:
    """The tables of a month (YYYY-MM, UTC). Raises RecordError for what is no month."""
    first, end = month_of(month)
    return [
        *_calls(log, first, end, jurisdiction, now=now),
        _complaints(record, month, jurisdiction),
        *_ladder(record, first, end, jurisdiction),
        *_appeals(record, first, end, jurisdiction, now=now),
        *_lists(record, first, min(end, now), now),
        *_enforcement(record, first, end),
    ]


def _calls(
    log: DecisionLog, first: float, end: float, jurisdiction: str, *, now: float
) -> Iterable[Table]:
    days: Counter[str] = Counter()
    verdicts: Counter[tuple[str, str, str]] = Counter()
    for call in log.decisions(days=max(0.0, now - first) / 86_400):
        asked_first = call["attempt"] == 1 and not call["replay"]
        if asked_first and call["instant"] < end and call["called_country"] == jurisdiction:
            days[instant(call["instant"]).date().isoformat()] += 1
            verdicts[call["action"], call["cause"], call["category"]] += 1
    yield Table("calls", "Calls screened", ("day", "calls"), sorted(days.items()), plot=1)
    rows = [(*names, count) for names, count in verdicts.most_common()]
    columns = ("action", "cause", "category", "calls")
    yield Table("verdicts", "Verdicts by cause and category", columns, rows, plot=3)


def _complaints(record: Record, month: str, jurisdiction: str) -> Table:
    counts = record.complaints.shares(month, jurisdiction)
    total = sum(counts.values())
    return Table(
        "complaints",
        "Complaints and their shares",
        ("category", "complaints", "share"),
        [(name or "unknown", count, round(count / total, 4)) for name, count in counts.items()],
        plot=1,
    )


def _ladder(record: Record, first: float, end: float, jurisdiction: str) -> Iterable[Table]:
    """Where entities stood at the end of the month, and who was exposed by then."""
    titles = {each.id: each.title for each in record.entities.all(status=None)}
    steps = [
        each for each in record.steps.all() if each.jurisdiction == jurisdiction and each.at < end
    ]
    newest = {each.party: each for each in steps}
    stages = Counter(
        (each.in_force or "none", "entity" if each.party.entity else "number")
        for each in newest.values()
    )
    by_stage = [(*names, count) for names, count in stages.most_common()]
    columns = ("stage", "of", "parties")
    yield Table("stages", "Entities and numbers by stage", columns, by_stage, plot=2)
    named = [
        (titles[each.party.entity], instant(each.at).date().isoformat())
        for each in newest.values()
        if each.in_force == EXPOSED and each.party.entity
    ]
    yield Table("exposed", "Entities exposed", ("entity", "since"), sorted(named))
    standing = {each.sequence for each in alive(steps)}
    taken = Counter(
        (each.step, each.stage, "stands" if each.sequence in standing else "undone")
        for each in steps
        if each.at >= first
    )
    rows = [(*names, count) for names, count in sorted(taken.items())]
    columns_of_steps = ("step", "stage", "now", "steps")
    yield Table("steps", "Steps of the ladder", columns_of_steps, rows)


def _appeals(
    record: Record, first: float, end: float, jurisdiction: str, *, now: float
) -> Iterable[Table]:
    found = record.appeals.between(first, end, jurisdiction)
    outcomes: dict[tuple[str, str], list[float]] = {}
    late: Counter[tuple[str, str]] = Counter()
    for each in found:
        key = each.kind, each.outcome or "open"
        hours = ((now if each.decided is None else each.decided) - each.opened) / 3600
        outcomes.setdefault(key, []).append(hours)
        late[key] += each.late(now) and each.kind == "appeal"
    yield Table(
        "appeals",
        "Appeals and their times",
        ("kind", "outcome", "appeals", "median_hours", "longest_hours", "late"),
        [
            (*key, len(hours), round(median(hours), 2), round(max(hours), 2), late[key])
            for key, hours in sorted(outcomes.items())
        ],
    )
    wrong = Counter(
        (each.against.rule, each.against.category) for each in found if each.outcome == "upheld"
    )
    rows = [(*names, count) for names, count in wrong.most_common()]
    columns = ("rule", "category", "false_positives")
    yield Table("false_positives", "False positives by rule", columns, rows)


def _lists(record: Record, first: float, end: float, now: float) -> Iterable[Table]:
    """How old the lists are now, and were at the end of each day: the record keeps when each
    generation was loaded and how long it was in force."""
    rows, days = [], []
    for each in record.catalogue.lists():
        active = each.active
        if active is not None:
            loaded = datetime.fromtimestamp(active.loaded_at, UTC)
            age = (now - active.loaded_at) / DAY
            rows.append((each.name, str(each.kind), loaded.isoformat(), round(age, 2)))
        history = record.catalogue.generations(each.name)
        for at in _ends_of_days(first, end):
            ages = [
                at - one.loaded_at
                for one in history
                if one.activated_at is not None
                and one.activated_at <= at
                and (one.retired_at is None or one.retired_at > at)
            ]
            if ages:
                late = bool(each.max_age_s) and min(ages) > each.max_age_s
                day = instant(at - 1).date().isoformat()
                days.append((day, each.name, round(min(ages) / DAY, 2), "late" if late else ""))
    columns = ("list", "kind", "loaded", "age_days")
    yield Table("lists", "Freshness of the lists now", columns, rows)
    columns = ("day", "list", "age_days", "late")
    yield Table("freshness", "Age of the lists at the end of each day", columns, sorted(days), 2)


def _ends_of_days(first: float, end: float) -> Iterable[float]:
    at = first + DAY
    while at < end:
        yield at
        at += DAY
    yield end


def _enforcement(record: Record, first: float, end: float) -> Iterable[Table]:
    """How long decisions, lists and entities took to be in force, of the whole service: what a
    person decides is not of one country. Times are upper bounds of the steps that are counted."""
    counts = record.timings.between(int(first // DAY), int(end // DAY))
    bounds = [*BOUNDS_MS, BEYOND]
    by_facts: dict[str, Counter[int]] = {}
    by_day: dict[str, Counter[int]] = {}
    for (day, facts, within), count in counts.items():
        by_facts.setdefault(facts, Counter())[within] += count
        date = datetime.fromtimestamp(day * DAY, UTC).date().isoformat()
        by_day.setdefault(date, Counter())[within] += count
    shares = [
        (facts, _bound(within), within_bound[within])
        for facts, within_bound in sorted(by_facts.items())
        for within in bounds
        if within_bound[within]
    ]
    columns = ("facts", "within", "changes")
    yield Table("enforcement", "Time until a change was in force", columns, shares, plot=2)
    days = [
        (date, found.total(), _bound(_quantile(found, 0.5)), _bound(_quantile(found, 0.95)))
        for date, found in sorted(by_day.items())
    ]
    columns_of_days = ("day", "changes", "half_within", "95_percent_within")
    yield Table("enforcement_days", "The same by day", columns_of_days, days, plot=1)


def _quantile(counts: Counter[int], share: float) -> int:
    """The least bound within which such a share of the changes was in force."""
    reached = 0
    for within in BOUNDS_MS:
        reached += counts[within]
        if reached >= share * counts.total():
            return within
    return BEYOND


def _bound(within: int) -> str:
    return f"over {BOUNDS_MS[-1] // 1000} s" if within == BEYOND else f"{within} ms"


def write_report(
    folder: Path, tables: Sequence[Table], *, month: str, jurisdiction: str, made: datetime
) -> Path:
    """Writes a CSV file of each table, and a page of all; the answer is the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.columns)
            writer.writerows(table.rows)
    title = f"Call screening, {jurisdiction}, {month}"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
        f"<h1>{title}</h1><p>Made {made.isoformat(timespec='seconds')}. Instants are UTC.</p>",
        *(_section(table) for table in tables),
        "</html>",
    ]
    page = folder / "report.html"
    page.write_text("\n".join(parts), "utf-8")
    return page


_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em 1em .2em 0;text-align:left;"
    "border-bottom:1px solid #ddd}svg{max-width:100%}"
)
_BAR_PX: Final = 20
_LABEL_PX: Final = 260
_PLOT_PX: Final = 420
_MOST_BARS: Final = 31


def _section(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}" for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in row) for row in table.rows
    )
    body = f"<table><tr>{head}{rows}</table>" if table.rows else "<p>None.</p>"
    plot = _bars(table) if table.plot >= 0 and table.rows else ""
    link = f'<p><a href="{table.name}.csv">{table.name}.csv</a></p>'
    return f"<h2>{html.escape(table.title)}</h2>{plot}{body}{link}"


def _bars(table: Table) -> str:
    """Horizontal bars, the first rows of the table."""
    rows = table.rows[:_MOST_BARS]
    values = [float(row[table.plot]) for row in rows]
    most = max(values) or 1.0
    bars = []
    for n, (row, value) in enumerate(zip(rows, values, strict=True)):
        label = " ".join(str(cell) for cell in row[: table.plot] if cell != "")
        top, width = n * _BAR_PX, value / most * _PLOT_PX
        name = f'<text x="{_LABEL_PX - 8}" y="{top + 14}" text-anchor="end">'
        bars.append(
            f"{name}{html.escape(label)}</text>"
            f'<rect x="{_LABEL_PX}" y="{top + 2}" width="{width:.1f}" height="{_BAR_PX - 4}" '
            f'fill="#3a6ea5"/><text x="{_LABEL_PX + width + 6:.1f}" y="{top + 14}">{value:g}</text>'
        )
    whole = _LABEL_PX + _PLOT_PX + 90
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{len(rows) * _BAR_PX}" '
        f'font-size="12" role="img" aria-label="{html.escape(table.title)}">{"".join(bars)}</svg>'
    )
