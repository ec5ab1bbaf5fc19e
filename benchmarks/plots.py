"""Plots as SVG that stand by themselves: no script, no font, no file beside them."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

COLOURS: Final = ("#2563eb", "#ea580c", "#64748b", "#16a34a", "#9333ea")
LEFT, RIGHT, TOP, BOTTOM = 64, 18, 68, 48
_INK, _PALE, _GRID = "#0f172a", "#64748b", "#e2e8f0"
FONT: Final = "font-family:system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif"


@dataclass(frozen=True, slots=True)
class Axis:
    """A direction: its title, its ends, the values that are written at it, its scale."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    scale: Callable[[float], float] = float

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1."""
        low, high = self.scale(self.low), self.scale(self.high)
        return (self.scale(min(max(value, self.low), self.high)) - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Series:
    """A line through points, or the points alone."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    line: bool = True
    dots: bool = False
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, with the smallest and the largest of what it is the median of."""

    name: str
    value: float
    low: float
    high: float
    note: str = field(default="")


def linear(title: str, high: float, *, low: float = 0.0, form: str = "{:,g}") -> Axis:
    """From `low` to a round number past `high`, about five steps apart."""
    high = high if high > low else low + 1
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= rough)
    top = low + step * math.ceil((high - low) / step)
    count = round((top - low) / step)
    ticks = tuple((low + n * step, form.format(low + n * step)) for n in range(count + 1))
    return Axis(title, low, top, ticks)


def logarithmic(title: str, low: float, high: float) -> Axis:
    """Milliseconds or the like, by tens with 2 and 5 between them."""
    low, high = max(low, 1e-3), max(high, 2e-3)
    steps = [
        n * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for n in (1, 2, 5)
    ]
    first = max((each for each in steps if each <= low), default=low)
    last = min((each for each in steps if each >= high), default=high)
    if last <= first:
        last = first * 10
    ticks = tuple((each, f"{each:g}") for each in steps if first <= each <= last)
    return Axis(title, first, last, ticks, math.log10)


def percentiles(most: float) -> Axis:
    """Ever closer to 100 %: each step ten times nearer, to `most`."""
    shown = [(0.0, "0"), (50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"),
             (99.99, "99.99"), (99.999, "99.999")]  # fmt: skip
    most = max(most, 99.0)
    ticks = tuple(each for each in shown if each[0] <= most)
    return Axis("percentile", 0.0, most, ticks, lambda value: -math.log10(1 - value / 100.00001))


def plot(
    title: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    *,
    about: str = "",
    width: int = 560,
    height: int = 360,
    at: tuple[int, int] = (0, 0),
) -> str:
    """Lines over two axes, with their names above them."""

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = LEFT + x.share(point[0]) * (width - LEFT - RIGHT)
        return across, height - BOTTOM - y.share(point[1]) * (height - TOP - BOTTOM)

    parts = _frame(title, about, width, height, at)
    for value, words in y.ticks:
        _, across = place((x.low, value))
        parts.append(f'<path d="M{LEFT} {across:.1f}H{width - RIGHT}" stroke="{_GRID}"/>')
        parts.append(_text(LEFT - 8, across + 4, words, anchor="end"))
    for value, words in x.ticks:
        along, _ = place((value, y.low))
        parts.append(f'<path d="M{along:.1f} {height - BOTTOM}v4" stroke="{_PALE}"/>')
        parts.append(_text(along, height - BOTTOM + 18, words, anchor="middle"))
    parts.append(f'<path d="M{LEFT} {height - BOTTOM}H{width - RIGHT}" stroke="{_PALE}"/>')
    parts.append(_text((LEFT + width - RIGHT) / 2, height - 10, x.title, anchor="middle"))
    parts.append(_text(LEFT - 52, TOP - 10, y.title))
    legend = width - RIGHT
    for n, each in reversed(list(enumerate(series))):
        colour = each.colour or COLOURS[n % len(COLOURS)]
        points = [place(point) for point in each.points if math.isfinite(point[1])]
        if each.line and points:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            dash = ' stroke-dasharray="6 4"' if each.dashed else ""
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
                f'stroke-linejoin="round"{dash}/>'
            )
        if each.dots or not each.line:
            parts += [
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points
            ]
        if each.name:
            length = 6.3 * len(each.name)
            parts.append(_text(legend, TOP - 8, each.name, anchor="end", colour=_INK))
            parts.append(
                f'<rect x="{legend - length - 15:.0f}" y="{TOP - 17}" width="10" height="10" '
                f'rx="2" fill="{colour}"/>'
            )
            legend -= length + 30
    return "\n".join([*parts, "</svg>"])


def bars(
    title: str,
    shown: Sequence[Bar],
    *,
    about: str = "",
    width: int = 560,
    height: int = 360,
    at: tuple[int, int] = (0, 0),
) -> str:
    """Bars that lie, longest possible for the largest, with their spread as a whisker."""
    parts = _frame(title, about, width, height, at)
    most = max((each.high for each in shown), default=1.0) or 1.0
    room = (height - TOP - 24) / max(1, len(shown))
    full = width - 2 * RIGHT - 90
    for n, each in enumerate(shown):
        top = TOP + n * room + 8
        thick = min(34.0, room - 30)
        colour = COLOURS[n % len(COLOURS)]
        long = full * each.value / most
        middle = top + 18 + thick / 2
        parts.append(_text(RIGHT, top + 10, each.name, colour=_INK, weight=600))
        parts.append(
            f'<rect x="{RIGHT}" y="{top + 18:.1f}" width="{long:.1f}" height="{thick:.1f}" rx="3" '
            f'fill="{colour}"/>'
        )
        a, b = (RIGHT + full * end / most for end in (each.low, each.high))
        parts.append(
            f'<path d="M{a:.1f} {middle:.1f}H{b:.1f}M{a:.1f} {middle - 5:.1f}v10M{b:.1f} '
            f'{middle - 5:.1f}v10" stroke="{_INK}" fill="none"/>'
        )
        value = f"{each.value:,.0f}"
        parts.append(
            _text(max(RIGHT + long, b) + 8, middle + 5, value, colour=_INK, weight=700, size=14)
        )
        if each.note:
            parts.append(_text(width - RIGHT, top + 10, each.note, anchor="end"))
    return "\n".join([*parts, "</svg>"])


def side_by_side(panels: Sequence[str], *, width: int, height: int, foot: str = "") -> str:
    """Panels, each placed already, as one picture."""
    tall = height + (26 if foot else 0)
    words = _text(18, height + 14, foot) if foot else ""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tall}" style="{FONT}">',
            f'<rect width="{width}" height="{tall}" rx="8" fill="#f8fafc"/>',
            *panels,
            words,
            "</svg>",
            "",
        )
    )


def _frame(title: str, about: str, width: int, height: int, at: tuple[int, int]) -> list[str]:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    inner = f'width="{width - 2}" height="{height - 2}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" x="{at[0]}" y="{at[1]}" {size} style="{FONT}">',
        f'<rect x="1" y="1" {inner} rx="8" fill="white" stroke="{_GRID}"/>',
        _text(RIGHT, 22, title, colour=_INK, weight=700, size=14),
        _text(RIGHT, 38, about) if about else "",
    ]


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    colour: str = _PALE,
    weight: int = 400,
    size: int = 11,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}" font-weight="{weight}">{html.escape(words)}</text>'
    )
