"""What do signals and the record add to a worker's call, and what is left of one that is shed?

A worker's whole answer but its sockets: the body read, both walks, the facts from a running index,
the answer's bytes, metrics and what is handed to a running recorder. With signals and the record
and without, in turns. Calls come so many at once, as a busy worker has them; the time is the
thread's own, so the recorder's is not in it.
"""

import asyncio
import copy
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from benchmarks.contestants import cores, pinned
from benchmarks.nation import Nation
from benchmarks.recorder import recorder
from benchmarks.traffic import questions
from rules.ruleset import ReadPlan, RuleSet
from rules.schema import CALLED_NAMES
from rules.walk import compile_walk
from rules.walker import Walker
from screening.access import Client
from screening.garbage import settle
from screening.lookup import Answered
from screening.service import Service
from screening.settings import Settings
from screening.state import open_state
from screening.wire import MalformedCall

CALLS: Final = 2_048
ROUNDS: Final = 25
AT_ONCE: Final = 32
BOTH, NO_RECORD, NO_SIGNALS, NEITHER = "both", "no record", "no signals", "neither"
VARIANTS: Final = (BOTH, NO_RECORD, NO_SIGNALS, NEITHER)
SWAMPED: Final = 1 << 30
"""Calls being screened, for the next to be shed."""

PATIENCE_SECONDS: Final = 5.0
HANDED_OVER_SECONDS: Final = 0.02
"""How often the outbox is looked at, whose own clock sends what waits."""


class Collections:
    """How long Python's collector stopped this process, in seconds each time."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._began = 0.0

    def __call__(self, phase: str, _about: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.pauses.append(time.perf_counter() - self._began)


class Worker:
    """A service in this process, asked as a transport asks it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # Nobody vouches: then the signals of a number are looked at.
        self._client = Client("benchmark")
        packs = service.screener.packs
        assert packs is not None, "the service has taken rules in"
        self._sets = [
            (ruleset, (ruleset.plan, ruleset.before_facts), _without_signals(ruleset))
            for ruleset in (pack.ruleset for pack in packs.packs.values())
        ]

    def become(self, variant: str) -> None:
        """Read signals, and hand calls over to the recorder, or not."""
        signals = variant in (BOTH, NO_RECORD)
        for ruleset, having, lacking in self._sets:
            # A set is immutable to all others: here it is another one, whose rules use no signals.
            plan, before_facts = having if signals else lacking
            object.__setattr__(ruleset, "plan", plan)
            object.__setattr__(ruleset, "before_facts", before_facts)
        observers, observe = self._service.lookup.observers, self._service.outbox.observe
        observers[:] = [each for each in observers if each != observe]
        if variant in (BOTH, NO_SIGNALS):
            observers.append(observe)

    async def answer(self, bodies: list[bytes]) -> float:
        """Answer them all; microseconds of this thread for one."""
        lookup, loop = self._service.lookup, asyncio.get_running_loop()
        began = time.thread_time_ns()
        for first in range(0, len(bodies), AT_ONCE):
            some = bodies[first : first + AT_ONCE]
            done, reply = _all_of(len(some), loop.create_future())
            arrived = lookup.clock() + PATIENCE_SECONDS
            for body in some:
                lookup.ask_json(body, client=self._client, arrived=arrived, reply=reply)
            await done
        while self._service.outbox.waiting:  # noqa: ASYNC110 - its own clock tells nobody
            await asyncio.sleep(HANDED_OVER_SECONDS)
        return (time.thread_time_ns() - began) / 1e3 / len(bodies)

    def shed(self, bodies: list[bytes]) -> float:
        """Shed them all; microseconds of this thread for one that can be shed."""
        lookup, overload = self._service.lookup, self._service.lookup.overload
        overload.screening += SWAMPED
        began, arrived = time.thread_time_ns(), lookup.clock()
        answers = [lookup.shed_json(body, arrived) for body in bodies]
        spent = time.thread_time_ns() - began
        overload.screening -= SWAMPED
        return spent / 1e3 / sum(answer is not None for answer in answers)


def _without_signals(ruleset: RuleSet) -> tuple[ReadPlan, Walker]:
    """The plan and the walk before facts of a set whose rules use none."""
    compiled = copy.copy(ruleset.compiled)
    compiled.plan = replace(ruleset.plan, signals=False)
    walk = compile_walk(
        compiled,
        default=ruleset.default,
        label=ruleset.label,
        unknown=CALLED_NAMES,
        before_facts=True,
    )
    return compiled.plan, walk


def _all_of(
    count: int, done: asyncio.Future[None]
) -> tuple[asyncio.Future[None], Callable[[Answered | MalformedCall], None]]:
    left = count

    def reply(answered: Answered | MalformedCall) -> None:
        nonlocal left
        if isinstance(answered, Answered):
            answered.body()
        left -= 1
        if not left:
            done.set_result(None)

    return done, reply


async def _measure(service: Service, nation: Nation) -> dict[str, Any]:
    await service.take_in()
    worker = Worker(service)
    settle()
    collections = Collections()
    gc.callbacks.append(collections)
    stream = questions(time.time_ns() >> 20, nation)
    took: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(ROUNDS + 2):
        for at in range(len(VARIANTS)):
            # Each round begins with another one: what comes first meets another machine.
            variant = VARIANTS[(turn + at) % len(VARIANTS)]
            worker.become(variant)
            bodies = [orjson.dumps(asked) for asked in islice(stream, CALLS)]
            spent = await worker.answer(bodies)
            if turn >= 2:
                took[variant].append(spent)
    # Not in turns: what it frees at once the others would have to ask of the kernel again.
    shed = [
        worker.shed([orjson.dumps(asked) for asked in islice(stream, CALLS)]) for _ in range(ROUNDS)
    ]
    gc.callbacks.remove(collections)
    worker.become(BOTH)
    dropped = dict(service.outbox.dropped)
    await service.stop()
    told = {variant: round(statistics.median(each), 2) for variant, each in took.items()}
    return {
        "us_a_call": told,
        "signals_us": _added(took[BOTH], took[NO_SIGNALS]),
        "record_us": _added(took[BOTH], took[NO_RECORD]),
        "shed_us": round(statistics.median(shed), 2),
        "dropped": dropped,
        "collections": {
            "calls": (ROUNDS + 2) * len(VARIANTS) * CALLS,
            "count": len(collections.pauses),
            "longest_ms": round(1e3 * max(collections.pauses, default=0.0), 2),
        },
    }


def _added(having: list[float], lacking: list[float]) -> float:
    """The median of what each round had more."""
    pairs = zip(having, lacking, strict=True)
    return round(statistics.median(one - other for one, other in pairs), 2)


def growth(folder: Path, nation: Nation, *, url: str) -> dict[str, Any]:
    """Of a worker over a nation's folder, whose index server runs at `url`."""
    answering, asking = cores()
    settings = Settings(state_dir=folder, recall_calls=0)
    with recorder(folder, asking, url=url), pinned(answering), open_state(settings) as state:
        return uvloop.run(_measure(Service(state), nation))
