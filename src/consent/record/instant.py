"""Instants: epoch seconds outside, whole microseconds in the database."""

from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Gives the current instant in epoch seconds."""


def to_us(at: float) -> int:
    """Microseconds since the epoch."""
    return round(at * 1_000_000)


def from_us(at_us: int) -> float:
    """Epoch seconds."""
    return at_us / 1_000_000
