"""How far a long work has come: a bar for a terminal, lines for a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS: Final = 5.0


class Stages:
    """The stages of a work, one after the other; each may count towards a total of its own."""

    def __init__(
        self,
        say: Callable[[str], None],
        bars: Progress | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._bars = bars
        self._clock = clock
        self._task = bars.add_task("", total=None, unit="") if bars is not None else None
        self._name, self._unit, self._total = "", "", 0
        self._done = 0
        self._began = self._said = clock()

    def begin(self, name: str, *, total: int = 0, unit: str = "") -> None:
        """Another stage, of `total` things of a `unit`; 0 where they are not counted."""
        self._finish()
        self._name, self._total, self._unit, self._done = name, total, unit, 0
        self._began = self._said = self._clock()
        if self._bars is not None and self._task is not None:
            self._bars.reset(self._task, description=name, total=total or None, unit=unit)
        else:
            self._say(self._line() if total else name)

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, count)
        elif self._total and self._clock() - self._said >= LINE_SECONDS:
            self._said = self._clock()
            self._say(self._line())

    def note(self, text: str) -> None:
        """Something that a person should know of."""
        if self._bars is not None:
            self._bars.console.print(text)
        else:
            self._say(text)

    def _finish(self) -> None:
        if self._bars is None and self._total and self._done:
            self._say(self._line())

    def _line(self) -> str:
        """Share, speed and the time left, as far as they can be told."""
        seconds = self._clock() - self._began
        share = min(1.0, self._done / self._total)
        line = f"{self._name}: {share:.1%} of {self._total:,} {self._unit}"
        if self._done and seconds > 0:
            speed = self._done / seconds
            left = max(0, self._total - self._done) / speed
            line += f", {speed:,.0f} a second, {int(left) // 60}:{int(left) % 60:02} left"
        return line


@contextmanager
def stages(out: Console) -> Iterator[Stages]:
    """A bar where `out` is a terminal, else a line at each stage and every few seconds."""
    if not out.is_terminal:
        yield Stages(lambda text: out.print(text, soft_wrap=True), None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} {task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as bars:
        yield Stages(lambda _text: None, bars)
