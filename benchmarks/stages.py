"""Where does a call's processor time go? Each stage of the decision by itself, in µs.

A stage is timed over a thousand calls at once by the thread's own clock, so neither the cost of
a clock nor what else the machine does is in the figure. Facts are read from the running index,
as many at once as a busy worker has under way; the rest of a call (kernel, event loop, HTTP) is
what the worker used in all, less these.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from benchmarks.nation import Nation
from benchmarks.path import FactsAtHand
from benchmarks.traffic import questions
from consent.index import IndexReader
from consent.index import Question as Read
from screening.access import Client
from screening.screener import Decision, Question
from screening.service import Service
from screening.settings import Settings
from screening.state import open_state
from screening.wire import read_json, write_answer

CALLS: Final = 1_000
ROUNDS: Final = 9
AT_ONCE: Final = 32
STAGES: Final = ("parse", "rules", "facts", "answer", "metrics")


class Noting(FactsAtHand):
    """Facts at hand, and what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Read] = []

    def read(self, question: Read, *, deadline: float, done: Callable[..., None]) -> None:
        self.asked.append(question)
        super().read(question, deadline=deadline, done=done)


def _us(work: Callable[[], object]) -> float:
    """Processor time of this thread, a call."""
    began = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began) / 1e3 / CALLS


async def read_all(reader: IndexReader, asked: list[Read]) -> None:
    """Ask the index, some at once, until all is read."""
    loop = asyncio.get_running_loop()
    waiting, done = iter(asked), loop.create_future()
    left = len(asked)

    def answered(_facts: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)
        elif (following := next(waiting, None)) is not None:
            reader.read(following, deadline=loop.time() + 5, done=answered)

    for each in islice(waiting, AT_ONCE):
        reader.read(each, deadline=loop.time() + 5, done=answered)
    await done


async def _measure(service: Service, nation: Nation) -> dict[str, float]:
    await service.take_in()
    client = Client("benchmark", vouches=True)
    real, noting = service.reader, Noting()
    service.screener.reader = noting
    stream = questions(7, nation)
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    share = []
    for _ in range(ROUNDS):
        bodies = [orjson.dumps(each) for each in islice(stream, CALLS)]
        asked: list[Question] = []
        decided: list[Decision] = []
        noting.asked = []

        def parse(bodies: list[bytes] = bodies, asked: list[Question] = asked) -> None:
            now = time.time()
            asked.extend(read_json(body, client=client, region="", now=now) for body in bodies)

        def rules(asked: list[Question] = asked, decided: list[Decision] = decided) -> None:
            for each in asked:
                service.screener.screen(each, arrived=0.0, done=decided.append)

        def answer(decided: list[Decision] = decided) -> None:
            for each in decided:
                write_answer(each, latency_us=41)

        def metrics(asked: list[Question] = asked, decided: list[Decision] = decided) -> None:
            for question, decision in zip(asked, decided, strict=True):
                for observer in service.lookup.observers:
                    observer(question, decision, 0.0001, "http")

        times["parse"].append(_us(parse))
        times["rules"].append(_us(rules))
        times["answer"].append(_us(answer))
        times["metrics"].append(_us(metrics))
        share.append(len(noting.asked) / CALLS)
        began = time.thread_time_ns()
        await read_all(real, noting.asked)
        times["facts"].append((time.thread_time_ns() - began) / 1e3 / CALLS)
    await service.stop()
    told = {stage: round(statistics.median(took), 2) for stage, took in times.items()}
    return told | {"reads_a_call": round(statistics.mean(share), 3)}


def stages(folder: Path, nation: Nation) -> dict[str, Any]:
    """Of a call over a nation's folder, whose index server runs."""
    # The settings of a worker, without what it would write beside the one that runs.
    settings = Settings(state_dir=folder, recall_calls=0)
    with open_state(settings) as state:
        return uvloop.run(_measure(Service(state), nation))
