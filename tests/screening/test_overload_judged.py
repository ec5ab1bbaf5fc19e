"""Overload: what a loop is late by, and how many calls are screened then. On clocks of its own."""

import asyncio
from collections.abc import Callable

import pytest

from screening.overload import (
    CALM_SECONDS,
    FINE_TICK_SECONDS,
    SCREENED_AT_FIRST,
    SCREENED_AT_LEAST,
    SCREENED_AT_ONCE,
    TICK_SECONDS,
    WEIGHED_SECONDS,
    Overload,
)

LIMIT = 0.005
CALL = 25e-6
"""Processor time of a call, in seconds."""

FEW = 80
"""Calls of a tick at less than half load."""


class Loop:
    """A loop whose time passes when it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.spent = 1.0
        self.told: list[int] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        patch.setattr(asyncio, "get_running_loop", lambda: self)
        self.overload = Overload(
            limit_seconds=LIMIT,
            told=self.told.append,
            clock=lambda: self.now,
            spent=lambda: self.spent,
        )
        self.overload.start()

    def call_later(self, seconds: float, timer: Callable[[], None]) -> None:
        self.timers.append((seconds, timer))

    def passes(self, late: float = 0.0, calls: int = 0) -> float:
        """Time until the next tick, late by so many seconds, of which so many calls took their
        part; after how many seconds it was due."""
        for _ in range(calls):
            self.overload.enter()
            self.overload.leave()
        seconds, timer = self.timers.pop()
        self.now += seconds + late
        self.spent += calls * CALL
        timer()
        return seconds

    def in_calm(self, seconds: float = 0.25) -> None:
        """Ticks on time."""
        until = self.now + seconds
        while self.now < until:
            self.passes(0, FEW if self.timers[0][0] == TICK_SECONDS else 10)

    def screened_at_once(self) -> int:
        """How many of a thousand calls that come now are screened, none of them answered."""
        overload, screened = self.overload, 0
        for _ in range(1000):
            if self.now >= overload.late_at and overload.sheds(self.now):
                overload.decision_id()
            else:
                overload.enter()
                screened += 1
        for _ in range(screened):
            overload.leave()
        return screened


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop(monkeypatch)
    made.in_calm()
    return made


def test_a_loop_that_stood_still_screens_what_came_meanwhile(loop: Loop) -> None:
    loop.passes(0.020, FEW)
    assert loop.overload.lagging
    assert loop.screened_at_once() == SCREENED_AT_FIRST


def test_making_up_for_a_stall_is_no_overload(loop: Loop) -> None:
    """Its calls take the loop a tick and a half; nothing is shed, and calm returns."""
    loop.passes(0.015, FEW)
    loop.passes(0.004, 320)
    loop.passes(0.001, 150)
    assert loop.screened_at_once() == SCREENED_AT_FIRST
    loop.passes()
    loop.in_calm(CALM_SECONDS + 2 * TICK_SECONDS)
    assert not loop.overload.lagging
    assert sum(loop.told) == 1000 - SCREENED_AT_FIRST


def test_calls_that_make_the_loop_late_are_shed_at_once(loop: Loop) -> None:
    loop.passes(0.006, 400)
    assert loop.screened_at_once() == SCREENED_AT_ONCE


def test_as_much_as_there_is_time_for_is_no_overload(loop: Loop) -> None:
    """A hundred connections that ask again at once, their turns of the loop almost as long as the
    limit."""
    for _ in range(50):
        loop.passes(0.004, 350)
    assert not loop.overload.lagging
    assert loop.screened_at_once() == 1000


@pytest.mark.parametrize(("times", "screened"), [(4, SCREENED_AT_FIRST), (5, SCREENED_AT_ONCE)])
def test_a_loop_that_is_kept_from_its_core_again_and_again_is_behind(
    loop: Loop, times: int, screened: int
) -> None:
    """Though calls take but little of the time that passes: it gets no more of it."""
    for _ in range(times):
        loop.passes(0.020, FEW)
    assert loop.screened_at_once() == screened


def test_stalls_with_calm_between_them_are_stalls(loop: Loop) -> None:
    for _ in range(4):
        loop.passes(0.020, FEW)
        assert loop.screened_at_once() == SCREENED_AT_FIRST
        loop.passes()
        loop.in_calm(CALM_SECONDS + 2 * TICK_SECONDS)
        assert not loop.overload.lagging


def test_calls_that_are_shed_take_time_too(loop: Loop) -> None:
    """Where they take most of it, more come than can be screened."""
    loop.passes(0.020, FEW)
    for _ in range(1200):
        loop.overload.decision_id()
    loop.passes(0.006, 20)
    assert loop.screened_at_once() == SCREENED_AT_ONCE


def test_what_follows_a_small_stall_is_no_overload(loop: Loop) -> None:
    """One too short to be late by; what it held back makes the next tick overdue."""
    loop.passes(0.004, FEW)
    assert not loop.overload.lagging
    for _ in range(400):
        loop.overload.enter()
        loop.overload.leave()
    loop.now += TICK_SECONDS + LIMIT + 0.001
    assert loop.screened_at_once() == SCREENED_AT_FIRST


def test_a_stall_after_an_overload_is_a_stall(loop: Loop) -> None:
    loop.passes(0.006, 400)
    loop.in_calm(CALM_SECONDS + 2 * TICK_SECONDS)
    assert not loop.overload.lagging
    loop.passes(0.020, FEW)
    assert loop.screened_at_once() == SCREENED_AT_FIRST


def test_within_a_tick_that_is_overdue(loop: Loop) -> None:
    """A call that comes later than the limit after the tick was due knows it, too."""
    for _ in range(400):
        loop.overload.enter()
        loop.overload.leave()
    loop.now += TICK_SECONDS + LIMIT + 0.001
    assert loop.screened_at_once() == SCREENED_AT_ONCE


def test_fewer_while_it_stays_behind_and_more_when_it_is_not(loop: Loop) -> None:
    """Half of them, and half as many more; at last all."""
    loop.passes(0.006, 400)
    found = []
    for late in (0.004, 0.0015, 0.0011, 0.004, 0.004, 0.004):
        loop.passes(late, 10)
        found.append(loop.screened_at_once())
    assert found == [32, 16, 8, SCREENED_AT_LEAST, SCREENED_AT_LEAST, SCREENED_AT_LEAST]
    found = []
    for _ in range(9):
        loop.passes()
        found.append(loop.screened_at_once())
    assert found == [8, 12, 18, 27, 40, 60, SCREENED_AT_ONCE, SCREENED_AT_ONCE, SCREENED_AT_ONCE]
    loop.passes()
    began = loop.now
    while loop.overload.lagging:
        loop.passes(0, 10)
    assert loop.now - began == pytest.approx(CALM_SECONDS, abs=2 * FINE_TICK_SECONDS)
    assert loop.screened_at_once() == 1000


def test_ticks_are_fine_while_more_come_than_can_be_screened(loop: Loop) -> None:
    assert loop.passes(0.020, FEW) == TICK_SECONDS
    assert loop.passes() == TICK_SECONDS, "a stall is no reason"
    loop.in_calm()
    loop.passes(0.006, 400)
    for _ in range(200):
        for _ in range(60):
            loop.overload.decision_id()
        assert loop.passes(0, 4) == FINE_TICK_SECONDS
    assert loop.screened_at_once() == SCREENED_AT_ONCE


def test_a_loop_is_behind_until_all_that_comes_can_be_screened(loop: Loop) -> None:
    """Though it still sheds what is too much at once, until it is calm."""
    loop.passes(0.006, 400)
    began = loop.now
    while loop.passes(0, 10) == FINE_TICK_SECONDS:
        assert loop.overload.lagging
    assert loop.now - began == pytest.approx(WEIGHED_SECONDS, abs=2 * TICK_SECONDS)
    assert loop.overload.lagging
    assert loop.screened_at_once() == SCREENED_AT_FIRST


def on_their_way(loop: Loop, calls: int) -> None:
    for _ in range(calls):
        loop.overload.enter()


def test_more_than_there_is_time_for_is_an_overload_before_the_loop_is_late(loop: Loop) -> None:
    """Seven milliseconds' worth of calls in a tick of six, six of it on its way."""
    on_their_way(loop, 240)
    loop.passes(0.001, 60)
    assert loop.overload.lagging
    assert loop.screened_at_once() == 0


def test_nor_does_a_stall_before_it_hide_it(loop: Loop) -> None:
    loop.passes(0.020, FEW)
    loop.passes(0, FEW)
    assert loop.screened_at_once() == SCREENED_AT_FIRST
    loop.passes()
    on_their_way(loop, 240)
    loop.passes(0.001, 60)
    assert loop.screened_at_once() == 0


def test_a_slow_index_is_no_overload(loop: Loop) -> None:
    """As many are on their way, of calls that there is time for."""
    for _ in range(3):
        on_their_way(loop, FEW)
        loop.passes(0.001, 40)
    assert not loop.overload.lagging


def test_what_comes_at_once_after_a_stall_is_no_overload(loop: Loop) -> None:
    loop.passes(0.004, FEW)
    on_their_way(loop, 300)
    loop.passes(0.001)
    assert not loop.overload.lagging


def test_who_does_not_know_what_a_call_costs_sheds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is flooded as it starts."""
    loop = Loop(monkeypatch)
    loop.passes(0.020, FEW)
    assert loop.screened_at_once() == SCREENED_AT_ONCE
