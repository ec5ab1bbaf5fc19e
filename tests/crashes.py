"""Writers that are killed: processes that take down decisions and get SIGKILL on the way.

    python -m tests.crashes --kills 1000 --seed 1

with the settings of a service whose index server runs. One warm process forks a writer for each
kill, which dies at one of the steps of a write, within the bytes of one, or is killed from outside
at any instant; what it was told is in force it says through a pipe before. Now and then another
writer, that nobody kills, writes at the same time. In between a process that starts from nothing
looks whether all that was acknowledged is in force, brings the index up, and compares the two.
"""

import argparse
import gc
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from redis.connection import AbstractConnection
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from consent.comparison import compare
from consent.event import Event, EventKind
from consent.index import layout
from consent.projection import catch_up
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State, open_files

FIRST: Final = 441632960000
NUMBERS: Final = [FIRST + at * layout.BLOCK for at in range(layout.SHARDS)]
"""One of each shard."""

ENTITY: Final = "crashes"
CHECK_EVERY: Final = 100
DRIVERS: Final = (psycopg,)
"""Loaded here, once, and not in each writer."""


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# Steps: each makes the writer die in its next write.


def at_insert(_: random.Random) -> None:
    """Some of the rows are in the transaction."""

    def executed(*given: Any) -> None:
        if given[2].startswith("INSERT INTO event"):
            die()

    sa.event.listen(Engine, "after_cursor_execute", executed)


def before_commit(_: random.Random) -> None:
    """All of the rows are in the transaction."""
    sa.event.listen(Engine, "commit", die)


def after_commit(_: random.Random) -> None:
    """The ledger has it, and nobody knows."""
    sa.event.listen(Pool, "checkin", die)


def in_what_is_sent(choice: random.Random) -> None:
    """The index server gets a part of what one exchange sends: some shards, or none, or all."""
    left, share = (
        choice.choice([1, choice.randint(1, 4)]),
        choice.choice([0.0, choice.random(), 1.0]),
    )
    send = AbstractConnection.send_packed_command

    def cut(self: Any, command: Any, *given: Any, **named: Any) -> None:
        nonlocal left
        left -= 1
        if left:
            send(self, command, *given, **named)
            return
        content = command if isinstance(command, bytes) else b"".join(command)
        self.connect()
        self._sock.sendall(content[: round(share * len(content))])
        die()

    AbstractConnection.send_packed_command = cut  # type: ignore[method-assign]


def in_what_is_answered(choice: random.Random) -> None:
    """The index server has done it, and its answers were not all read."""
    left = choice.choice([choice.randint(1, 5), choice.randint(1, 600)])
    read = AbstractConnection.read_response

    def cut(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            die()
        return read(self, *given, **named)

    AbstractConnection.read_response = cut  # type: ignore[method-assign]


def from_outside(_: random.Random) -> None:
    """Any instant."""


def before_the_answer(_: random.Random) -> None:
    """It is in force, and nobody was told: see `write`."""


STEPS: Final[dict[str, Callable[[random.Random], None]]] = {
    each.__name__: each
    for each in (
        at_insert,
        before_commit,
        after_commit,
        in_what_is_sent,
        in_what_is_answered,
        before_the_answer,
        from_outside,
    )
}


def decision(choice: random.Random, called: int, entity: int) -> Event:
    """What a subscriber may say."""
    kind, body = choice.choice(
        [
            (
                EventKind.CONSENT_GRANTED,
                {
                    "entity": entity,
                    "categories": choice.sample(["loans", "visas", "property"], 2),
                    "expires": choice.choice([0, 2_000_000_000]),
                },
            ),
            (EventKind.CONSENT_REVOKED, {"entity": entity}),
            (EventKind.REFUSED_ALL, {}),
            (EventKind.PREFERENCES_SET, {"refused": [choice.choice(["all", "loans"])]}),
            (EventKind.PREFERENCES_SET, {}),
            (EventKind.PERSONAL_SET, {"calling": choice.randint(1, 3), "action": "block"}),
            (EventKind.PERSONAL_CLEARED, {"calling": choice.randint(1, 3)}),
            (EventKind.REASSIGNED, {"since": 0}),
        ]
    )
    return Event(0, time.time(), kind, called, body)


def write(state: State, step: str, seed: int, pipe: int) -> None:
    """Take down decisions, one request after the other, and die in the last one."""
    choice = random.Random(seed)
    registrar = Registrar(state)
    entity = state.record().entities.id_of(ENTITY)
    last = choice.choice([0, 0, 1])
    for n in range(last + 1):
        if n == last and step:
            if choice.choice([True, False]):
                registrar.in_force(0)  # else it opens the index for this write, whole
            os.write(pipe, b"ready\n")
            STEPS[step](choice)
        called = choice.sample(NUMBERS, choice.choice([1, 3, 20]))
        events = [decision(choice, number, entity) for number in called]
        taken = registrar.take(events, actor="crashes")
        if n == last and step == before_the_answer.__name__:
            die()
        if taken.in_force:
            said = [[each.sequence, each.kind, each.called] for each in taken.events]
            os.write(pipe, json.dumps(said).encode() + b"\n")


def check(settings: Settings, acknowledged: list[list[Any]]) -> list[str]:
    """What is wrong: acknowledged and not in force, lost, or different in ledger and index."""
    wrong = []
    with open_files(settings) as state, state.index() as store:
        record = state.record()
        applied = store.sequences()
        for sequence, _, called in acknowledged:
            shard = layout.shard_of(called)
            if applied[shard] < sequence:
                wrong.append(f"event {sequence} was acknowledged, its shard has {applied[shard]}")
        oldest = min((each[0] for each in acknowledged), default=1)
        kept = {each.sequence: each for each in record.ledger.events(oldest - 1)}
        for sequence, kind, called in acknowledged:
            event = kept.get(sequence)
            if event is None or (event.kind, event.called) != (kind, called):
                wrong.append(f"event {sequence} was acknowledged and is not in the ledger")
        catch_up(record, store)
        wrong += [each.what for each in compare(record, store, NUMBERS)]
    return wrong


class Forked:
    """A process that runs a function of ours and what it says through a pipe."""

    def __init__(self, run: Callable[[int], None]) -> None:
        self.said, mine = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.said)
                run(mine)
                status = 0
            except BaseException as broken:  # noqa: BLE001 - it must not go on as its parent
                print(f"{type(broken).__name__}: {broken}", file=sys.stderr)
            os._exit(status)
        os.close(mine)

    def until_ready(self) -> bytes:
        """What it says until it is ready, or has ended."""
        said = b""
        while not said.endswith(b"ready\n"):
            select.select([self.said], [], [])
            more = os.read(self.said, 65536)
            if not more:
                break
            said += more
        return said

    def end(self) -> tuple[int, list[str]]:
        """How it ended (negative: by which signal), and the whole lines that it said."""
        with os.fdopen(self.said, "rb") as file:
            lines = file.read().decode().splitlines(keepends=True)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), [line for line in lines if line.endswith("\n")]


def prepare(state: State) -> None:
    """A record and an index to begin with, and everything loaded that writers need.

    What it leaves has no connection: each writer opens its own.
    """
    record = state.record()
    entity = record.entities.put(ENTITY, title=ENTITY, categories=["loans"], actor="crashes").id
    registrar = Registrar(state)
    choice = random.Random(0)
    for number in NUMBERS[:40]:
        registrar.take([decision(choice, number, entity)], actor="crashes")
    registrar.close()
    record.close()
    gc.collect()
    gc.freeze()


def acknowledged(lines: list[str]) -> list[list[Any]]:
    return [each for line in lines if line != "ready\n" for each in json.loads(line)]


def kill_writers(settings: Settings, *, kills: int, seed: int) -> tuple[Counter[str], int]:
    """How many writers were killed at each step, and how many events were acknowledged.

    Raises AssertionError for what must not be.
    """
    with open_files(settings) as state:
        prepare(state)
        return _kill(state, kills=kills, seed=seed)


def _kill(state: State, *, kills: int, seed: int) -> tuple[Counter[str], int]:
    choice = random.Random(seed)
    killed: Counter[str] = Counter()
    told = 0
    fresh: list[list[Any]] = []
    names = list(STEPS)
    tries = 0
    while killed.total() < kills:
        step = names[tries % len(names)]
        tries += 1
        mine = choice.random()
        writer = Forked(lambda pipe, s=step, m=mine: write(state, s, hash(m), pipe))  # type: ignore[misc]
        beside = None
        if choice.random() < 0.1:
            beside = Forked(lambda pipe, m=mine: write(state, "", hash(m) + 1, pipe))  # type: ignore[misc]
        before = writer.until_ready()
        if step == from_outside.__name__:
            time.sleep(choice.random() * 0.03)
            os.kill(writer.pid, signal.SIGKILL)
        status, lines = writer.end()
        assert status in (0, -signal.SIGKILL), f"a writer ended with {status}"
        killed[step] += status == -signal.SIGKILL
        fresh += acknowledged(before.decode().splitlines(keepends=True) + lines)
        if beside is not None:
            status, lines = beside.end()
            assert status == 0, f"a writer that nobody killed ended with {status}"
            fresh += acknowledged(lines)
        if tries % CHECK_EVERY == 0 or killed.total() == kills:
            told += len(fresh)
            _expect_equal(state.settings, fresh)
            fresh = []
    return killed, told


def _expect_equal(settings: Settings, fresh: list[list[Any]]) -> None:
    def run(pipe: int) -> None:
        for line in check(settings, fresh)[:20]:
            os.write(pipe, f"{line}\n".encode())

    status, wrong = Forked(run).end()
    assert (status, wrong) == (0, []), f"ledger and index: {status}, {wrong}"


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--kills", type=int, default=1000)
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    began = time.monotonic()
    killed, told = kill_writers(Settings(), kills=given.kills, seed=given.seed)
    print(
        f"{killed.total()} writers killed in {time.monotonic() - began:.0f} s, "
        f"{told} events acknowledged, none lost: {json.dumps(killed)}"
    )


if __name__ == "__main__":
    main()
