"""What workers hand over, taken in: counted once a call, made records of, and passed on to be kept.

Apart from the process that listens (`recorder`), so that it can be compiled: a module that is run
as a program cannot be.
"""

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from consent.keyring import Keyring
from rules.verdict import Cause
from screening.decision_id import RecentCalls
from screening.recording.decision import Records, Tokens, members
from screening.recording.outbox import OWN
from screening.recording.segments import Log, segments
from screening.recording.writer import Writer
from screening.signals.counting import KEPT, Counting
from screening.signals.publishing import Publisher
from screening.snapshot import FILE as CATALOGUE
from screening.snapshot import Catalogue

REMEMBERED_CALLS: Final = 500_000
REMEMBERED_SECONDS: Final = 180.0
"""A call asked again later is another one: SIP gives up on a request after 32 s (RFC 3261)."""

_ID: Final = OWN.index("id")
_CALL_ID: Final = OWN.index("call_id")
_VERDICT: Final = len(OWN)
_LISTS: Final = len(OWN) + 1
_TAIL_BYTES: Final = 64 << 20


class Recorder:
    """What the workers say, taken in: counted once a call, and written to the log."""

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        kept: Log,
        *,
        redis_url: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.calls = 0
        self.repeats = 0
        self.writer = Writer(kept)
        self.counting = Counting(clock=clock)
        self._folder = folder
        self._keyring = keyring
        self._records = Records(Tokens(keyring))
        self._token_key = keyring.version("token")
        self._lists = ListNames(folder, now=now)
        self._recent = RecentCalls(capacity=REMEMBERED_CALLS, horizon_seconds=REMEMBERED_SECONDS)
        self._clock = clock
        self._now = now
        node = f"{socket.gethostname()}:{folder.resolve()}".encode()
        self.publisher = Publisher(
            folder,
            self.counting,
            url=redis_url,
            node=hashlib.sha256(node).hexdigest()[:8],
            clock=clock,
            wall=now,
        )

    def remember(self, decisions: Path) -> int:
        """Take in which calls were decided just before a restart, so that none counts twice."""
        since, clock = self._now() - REMEMBERED_SECONDS, self._clock()
        count = 0
        for segment in segments(decisions)[-2:]:
            for line in segment.lines(tail=_TAIL_BYTES):
                if b'"kind":"call"' not in line:
                    continue
                with contextlib.suppress(ValueError, KeyError):
                    about = orjson.loads(line)
                    if about["instant"] >= since and about["call_key"]:
                        self._recent.attempt(about["id"], clock)
                        count += 1
        return count

    def take(self, message: bytes) -> None:
        """One batch of a worker. Raises ValueError, KeyError, TypeError for what is none."""
        batch = orjson.loads(message)
        written, recent, counting, clock = self._records, self._recent, self.counting, self._clock()
        own = {"instance": batch["instance"], "rules": batch["rules"]}
        verdicts = batch["verdicts"]
        made = [written.verdict(**own, **verdict) for verdict in verdicts]
        bands = [verdict["cause"] == Cause.TIME_BAND for verdict in verdicts]
        lists = [self._lists.of(read) for read in batch["lists"]]
        records = []
        for call in batch["calls"]:
            attempt = recent.attempt(call[_ID], clock) if call[_CALL_ID] else 1
            at = call[_VERDICT]
            if attempt == 1:
                counting.call(call, verdicts[at])
            else:
                self.repeats += 1
            records.append(
                written.of(
                    call,
                    attempt=attempt,
                    verdict=made[at],
                    lists=lists[call[_LISTS]],
                    time_band=bands[at],
                )
            )
        for kind, told in batch["told"]:
            self._hear(kind, told)
        self.calls += len(records)
        self.writer.put(records)
        if batch["lost"]:
            self.writer.lose("outbox", int(batch["lost"]))
            self.publisher.give_way()

    def _hear(self, kind: str, told: dict[str, Any]) -> None:
        match kind:
            case "ends":
                if self.counting.end(told):
                    self.writer.put([self._records.heard("end", told, at=self._now())])
            case "complaints":
                self.counting.complaint(told)
                self.writer.put([self._records.heard("complaint", told, at=self._now())])
            case "reset":
                party, key = told["party"], told["key"]
                self.counting.tally.drop(party, key)
                self.publisher.forget(party, key)

    def keep_signals(self) -> None:
        """Keep what is counted for the next start. Raises OSError."""
        self.counting.keep(self._folder / KEPT, self._keyring, wall=self._now())

    def restore_signals(self) -> None:
        """Take in what was kept."""
        self.counting.restore(self._folder / KEPT, self._keyring, wall=self._now())

    def reload(self) -> None:
        """Take in keys that were added and lists that were switched."""
        self._keyring.reload()
        if self._keyring.version("token") != self._token_key:
            self._records = Records(Tokens(self._keyring))
            self._token_key = self._keyring.version("token")
        self._lists.reload()

    def status(self) -> dict[str, Any]:
        """What it has done since its start, for metrics."""
        writer = self.writer
        return {
            "pid": os.getpid(),
            "at": self._now(),
            "cpu_seconds": time.process_time(),
            "calls": self.calls,
            "repeats": self.repeats,
            "written": writer.written,
            "lost": dict(writer.lost),
            "waiting_bytes": writer.waiting_bytes,
            "log_bytes": writer.log_bytes,
            "failure": writer.failure,
            "signals": {
                "calls": self.counting.counted,
                "ends": self.counting.ends,
                "parties": {k: len(each) for k, each in self.counting.tally.tables.items()},
                "forgotten": sum(e.forgotten for e in self.counting.tally.tables.values()),
                "failure": self.publisher.failure,
            },
        }


class ListNames:
    """The lists in force by their ids, as the service last wrote them down."""

    def __init__(self, folder: Path, *, now: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now
        self._seen = 0
        self._known: dict[tuple[str, int], tuple[str, float]] = {}
        self._made: dict[tuple[tuple[str, int], ...], bytes] = {}
        self.reload()

    def reload(self) -> None:
        """Look again; ages are as of now."""
        self._made = {}
        with contextlib.suppress(OSError):
            seen = (self._folder / CATALOGUE).stat().st_mtime_ns
            if seen != self._seen:
                self._seen = seen
                self._known = {
                    (str(each.list_id), each.generation): (each.name, each.since)
                    for each in Catalogue.load(self._folder).lists
                }

    def of(self, pairs: Sequence[Sequence[Any]]) -> bytes:
        """The `members` of a record for (list id, generation) pairs.

        One that is known no more goes by its id.
        """
        key = tuple((each[0], each[1]) for each in pairs)
        made = self._made.get(key)
        if made is None:
            now = self._now()
            lists = []
            for list_id, generation in key:
                name, since = self._known.get((list_id, generation), (list_id, now))
                lists.append({"name": name, "generation": generation, "age_s": round(now - since)})
            made = self._made[key] = members({"lists": lists})
        return made
