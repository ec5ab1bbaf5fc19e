"""What a call leaves behind: nothing that only a search for cycles would free."""

import asyncio
import gc
import math
import time
from pathlib import Path

from benchmarks.path import DecisionPath, bodies

from consent.index import IndexReader, IndexStore, name_epoch
from consent.keyring import Keyring
from screening.lookup import Answered, Lookup
from screening.metrics import Metrics
from screening.recall import Recall
from screening.wire import MalformedCall

EPOCH = name_epoch("9f3a6d")


class Place:
    """Who asks, and keeps the answer, as a connection's line does."""

    def __init__(self) -> None:
        self.answered: Answered | MalformedCall | None = None

    def __call__(self, answered: Answered | MalformedCall) -> None:
        self.answered = answered


async def test_a_call_leaves_no_cycle(index_url: str, tmp_path: Path) -> None:
    """A collection looks at every object there is, and calls wait for it: at 20,000 calls a second
    a cycle for each would call for ten of them a second."""
    store = IndexStore(index_url)
    store.create(EPOCH)
    store.close()
    path = DecisionPath()
    path.screener.reader = reader = IndexReader(index_url, epoch=EPOCH)
    await reader.start()
    keyring = Keyring.load_or_create(tmp_path / "keys.json")
    recall = Recall(tmp_path, keyring, capacity=0)
    lookup = Lookup(path.screener, Metrics(), recall, region="")

    async def ask(asked: list[bytes]) -> list[Place]:
        places = [Place() for _ in asked]
        for body, place in zip(asked, places, strict=True):
            lookup.ask_json(body, client=path.client, arrived=time.monotonic() + 60, reply=place)
        while not all(place.answered for place in places):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)  # what follows the answers
        return places

    first, then = bodies(1, 200), [*bodies(2, 1_000), b"{", b'{"called": 5}']
    await ask(first)
    gc.collect()
    gc.disable()
    try:
        answered = [place.answered for place in await ask(then)]
        read = sum(isinstance(e, Answered) and e.decision.facts is not None for e in answered)
        assert read > 300
        lookup.overload.late_at = -math.inf
        answered += [place.answered for place in await ask(then)]
        assert lookup.overload.shed > 300
        del answered
        assert gc.collect() < len(then) // 10
    finally:
        gc.enable()
        await reader.close()
