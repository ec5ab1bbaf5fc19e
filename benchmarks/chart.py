"""Bytes a listed number against density, as SVG."""

import math
from typing import Any, Final

WIDTH, HEIGHT = 720, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 700, 40, 400
DENSITIES: Final = (0.001, 0.5)
BYTES: Final = (0.2, 10.0)
X_TICKS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
Y_TICKS: Final = (0.2, 0.5, 1, 2, 5, 10)


def _place(value: float, ends: tuple[float, float], first: float, last: float) -> float:
    low, high = map(math.log, ends)
    return first + (math.log(value) - low) / (high - low) * (last - first)


def _at(density: float, size: float) -> tuple[float, float]:
    size = min(max(size, BYTES[0]), BYTES[1])
    return _place(density, DENSITIES, LEFT, RIGHT), _place(size, BYTES, BOTTOM, TOP)


def _line(points: list[tuple[float, float]], style: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" {style}/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def bytes_by_density(results: dict[str, Any]) -> str:
    """Of the results of `benchmarks.index`: the sweep as a line, the nations as points on it."""
    sweep = results["sweep"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 24, "Index memory of a do-not-call list: bytes a listed number"),
    ]
    for density in X_TICKS:
        x, _ = _at(density, 1)
        parts.append(f'<path d="M{x:.1f} {TOP}V{BOTTOM}" stroke="#ddd"/>')
        parts.append(_text(x, BOTTOM + 18, f"{density:.1%}", "middle"))
    for size in Y_TICKS:
        _, y = _at(1, size)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{size:g} B", "end"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 40, "share of numbers listed", "middle"))
    lines = (
        ("bare_bitmap", "bare bitmap, 1/(8p)", 'stroke="#888" stroke-dasharray="6 3"'),
        ("information_limit", "information limit, H(p)/(8p)", 'stroke="#2a7" stroke-width="2"'),
        ("bytes_a_number", "measured", 'stroke="#c33" stroke-width="2"'),
    )
    for at, (field, name, style) in enumerate(lines):
        # A bare bitmap of a thin list is off the sheet: it would lie along its edge.
        shown = [row for row in sweep if row[field] <= BYTES[1]]
        parts.append(_line([_at(row["density"], row[field]) for row in shown], style))
        y = TOP + 24 + 18 * at
        parts.append(_line([(RIGHT - 210, y - 4), (RIGHT - 180, y - 4)], style))
        parts.append(_text(RIGHT - 174, y, name))
    for row in sweep:
        x, y = _at(row["density"], row["bytes_a_number"])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#c33"/>')
    largest = {row["country"]: row for row in results["cases"] if not row["spread"]}
    for at, row in enumerate(sorted(largest.values(), key=lambda row: row["density"])):
        x, y = _at(row["density"], row["bytes_a_number"])
        parts.append(f'<path d="M{x:.1f} {y:.1f}l-5 -9h10z" fill="#226"/>')
        parts.append(f'<path d="M{x:.1f} {y - 9:.1f}V{y - 30 - 16 * at:.1f}" stroke="#226"/>')
        parts.append(_text(x + 3, y - 30 - 16 * at, f"{row['case']}: {row['bytes_a_number']} B"))
    return "\n".join([*parts, "</svg>", ""])
