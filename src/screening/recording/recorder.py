"""The recorder: one process a node that takes what all workers hand over.

`python -m screening.recording.recorder` is that process; it ends when its standard input does,
with whoever started it. Hashing, counting each call once, chaining and compression happen here,
so that they cost a call nothing.
"""

import contextlib
import gc
import hashlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from consent.keyring import Keyring
from consent.signing import SigningKey
from rules.verdict import Cause
from screening.decision_id import RecentCalls
from screening.logs import log_to_stderr, log_where
from screening.process_status import write_status
from screening.recording.counts import STATUS
from screening.recording.decision import Records, Tokens
from screening.recording.outbox import OWN, SOCKET, short_path
from screening.recording.segments import FOLDER, Limits, Log, LogError, segments
from screening.recording.writer import Writer
from screening.settings import Settings
from screening.signals.counting import EVERY_SECONDS, KEPT, KEPT_SECONDS, Counting, Publisher
from screening.snapshot import FILE as CATALOGUE
from screening.snapshot import Catalogue
from screening.state import open_files

log = logging.getLogger(__name__)

STATUS_SECONDS: Final = 1.0
NICER: Final = 5
"""Where cores are few calls go first: beside a busy worker it still has a quarter of one."""

REMEMBERED_CALLS: Final = 500_000
REMEMBERED_SECONDS: Final = 180.0
"""A call asked again later is another one: SIP gives up on a request after 32 s (RFC 3261)."""

_RECEIVE_BYTES: Final = 1 << 20
_MESSAGES_AT_ONCE: Final = 16
_TICK_SECONDS: Final = 0.1
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
        own = {"instance": batch["instance"], "rules": batch["rules"]}
        written = self._records
        verdicts = [written.members(**own, **verdict) for verdict in batch["verdicts"]]
        bands = [verdict["cause"] == Cause.TIME_BAND for verdict in batch["verdicts"]]
        lists = [self._lists.of(read) for read in batch["lists"]]
        clock, recent = self._clock(), self._recent
        records = []
        for call in batch["calls"]:
            attempt = recent.attempt(call[_ID], clock) if call[_CALL_ID] else 1
            if attempt > 1:
                self.repeats += 1
            at = call[_VERDICT]
            if attempt == 1:
                self.counting.call(call, batch["verdicts"][at])
            records.append(
                written.of(
                    call,
                    attempt=attempt,
                    verdict=verdicts[at],
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
        self._made: dict[tuple[tuple[str, int], ...], str] = {(): ""}
        self.reload()

    def reload(self) -> None:
        """Look again; ages are as of now."""
        self._made = {(): ""}
        with contextlib.suppress(OSError):
            seen = (self._folder / CATALOGUE).stat().st_mtime_ns
            if seen != self._seen:
                self._seen = seen
                self._known = {
                    (str(each.list_id), each.generation): (each.name, each.since)
                    for each in Catalogue.load(self._folder).lists
                }

    def of(self, pairs: Sequence[Sequence[Any]]) -> str:
        """The member of a record for (list id, generation) pairs; "" for none.

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
            made = self._made[key] = orjson.dumps({"lists": lists})[1:-1].decode()
        return made


class Server:
    """Listens for workers, and ends with the standard input."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._folder = folder
        self._recorder = recorder
        self._selector = selectors.DefaultSelector()
        self._ending = False
        self._status_at = 0.0
        self._publish_at = 0.0
        self._keep_at = time.monotonic() + KEPT_SECONDS

    def run(self) -> None:
        """Take in what comes until it is told to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        path = self._folder / SOCKET
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            old = os.umask(0o177)
            try:
                with short_path(path) as short:
                    listener.bind(short)
            finally:
                os.umask(old)
            listener.listen(64)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, self._accept)
            with contextlib.suppress(PermissionError):  # a file or /dev/null never ends
                self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._closed)
            while not self._ending:
                self._turn(_TICK_SECONDS)
            path.unlink(missing_ok=True)
            for _ in range(64):  # what workers have sent before they left
                if not self._turn(0):
                    break
        self._recorder.writer.stop()
        self._recorder.publisher.stop()
        with contextlib.suppress(OSError):
            self._recorder.keep_signals()
        self._write_status()

    def _turn(self, seconds: float) -> int:
        ready = self._selector.select(seconds)
        for key, _ in ready:
            key.data(key.fileobj)
        now = time.monotonic()
        if now >= self._publish_at:
            self._publish_at = now + EVERY_SECONDS
            self._recorder.publisher.turn()
        if now >= self._status_at:
            self._status_at = now + STATUS_SECONDS
            self._look()
        if now >= self._keep_at:
            self._keep_at = now + KEPT_SECONDS
            self._keep_apart()
        return sum(key.data == self._receive for key, _ in ready)

    def _end(self, *_: object) -> None:
        self._ending = True

    def _closed(self, _stdin: object) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._selector.unregister(sys.stdin.fileno())
            self._ending = True

    def _accept(self, listener: Any) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            link, _ = listener.accept()
            link.setblocking(False)
            self._selector.register(link, selectors.EVENT_READ, self._receive)

    def _receive(self, link: Any) -> None:
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                message = link.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._selector.unregister(link)
                link.close()
                return
            try:
                self._recorder.take(message)
            except (ValueError, KeyError, TypeError, IndexError) as broken:
                log_where(log, "a worker sent what is no batch", broken)

    def _look(self) -> None:
        try:
            self._recorder.reload()
        except Exception as broken:  # noqa: BLE001 - what is in force stays in force
            log_where(log, "keys or lists were not taken in", broken)
        self._write_status()

    def _keep_apart(self) -> None:
        """Keep the signals from a copy of this process: writing them down takes seconds."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if os.fork() == 0:
            with contextlib.suppress(BaseException):
                os.closerange(3, 4096)  # the log's lock among them, which ends with its writer
                os.nice(10)
                self._recorder.keep_signals()
            os._exit(0)

    def _write_status(self) -> None:
        write_status(self._folder / STATUS, self._recorder.status())


def main() -> None:
    """Runs until its standard input ends."""
    settings = Settings()
    log_to_stderr(settings.log_level)
    os.nice(NICER)
    # Batches hold no cycles: what is searched for here would only take time.
    gc.set_threshold(200_000, 50, 1000)
    limits = Limits(
        most_bytes=int(settings.record_gib * 2**30),
        most_seconds=settings.record_days * 86_400.0,
    )
    with open_files(settings) as state:
        key = SigningKey.load(settings.record_key) if settings.record_key else None
        try:
            kept = Log(state.folder / FOLDER, limits=limits, key=key)
        except LogError as refused:
            sys.exit(str(refused))
        recorder = Recorder(state.folder, state.keyring, kept, redis_url=settings.redis_url)
        recorder.remember(state.folder / FOLDER)
        recorder.restore_signals()
        recorder.writer.start()
        recorder.publisher.start()
        gc.freeze()
        Server(state.folder, recorder).run()


if __name__ == "__main__":
    main()
