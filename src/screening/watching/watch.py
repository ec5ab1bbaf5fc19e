"""The watch of a node: one process that follows the decision record and warns of campaigns.

`python -m screening.watching.watch` is that process, which ends with its standard input; `screening
watch run` is the same by hand. A lock sees to it that a node has one.

Invariants: what is known is kept together with the place in the record that it was known at, and
only once every warning from before that place is in the record of decisions; so a restart counts
nothing twice and loses no warning. A warning's id is that of its kind, party and beginning.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import zstandard

from consent.durable import written_whole
from consent.keyring import Keyring, KeyringError
from consent.record import RecordError, RecordUnavailable, Warned
from consent.record.warnings import DISMISSED, OPEN, Warnings
from screening.logs import log_to_stderr, log_where
from screening.process_status import write_status
from screening.recording.segments import FOLDER
from screening.settings import Settings
from screening.state import State, open_files
from screening.watching.counts import STATUS
from screening.watching.detector import Detector, Finding
from screening.watching.events import number_of, token_of
from screening.watching.following import Follower
from screening.watching.party import BLOCK, ENTITY, NUMBER
from screening.watching.proposal import rule
from screening.watching.warned import body_of
from screening.webhook import Telling, Webhook

log = logging.getLogger(__name__)

KEPT: Final = "watch.kept"
LOCK: Final = "watch.lock"
KEPT_SECONDS: Final = 300.0
STATUS_SECONDS: Final = 1.0
HISTORY_DAYS: Final = 28.0
OLD_SECONDS: Final = 86_400.0
"""A campaign found so late, in the record of before the watch began, is learned and not told."""

QUIET_DAYS: Final = 7
"""A party whose warning was dismissed is not warned of again for so long."""

_IDLE_SECONDS: Final = 0.5
_LATE_SECONDS: Final = 5.0
_AAD: Final = b"watch"


class WatchRuns(Exception):
    """Another watch runs on this node."""


class Watch:
    """Follows a log, keeps what it finds. Of one thread."""

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        *,
        detector: Detector | None = None,
        node: str = "",
        days: float = HISTORY_DAYS,
        tells: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.detector = detector or Detector()
        self.found = 0
        self.failure = ""
        self._folder = folder
        self._keyring = keyring
        self._node = node
        self._tells = tells
        self._now = now
        self._waiting: list[Warned] = []
        self._dismissed: set[str] = set()
        self.last = 0.0
        """The instant of the newest event."""
        after = self._restore()
        self.follower = Follower(
            folder / FOLDER, after=after, since=0.0 if after else now() - days * 86_400
        )

    def step(self, warnings: Warnings) -> bool:
        """Take in what the record has, keep what was found; whether there may be more to read.

        What the record of decisions cannot take now waits, and nothing more is read meanwhile.
        """
        if not self._waiting:
            events = self.follower.read()
            findings = self.detector.take(events)
            if events:
                self.last = events[-1].at
            elif not self.follower.more and self.last:
                # A minute ends by the clock where no call ends it, a little late.
                findings += self.detector.look(self._now() - _LATE_SECONDS)
            more = self.follower.more
            self._waiting = [each for each in map(self._warned, findings) if each is not None]
        else:
            more = False
        try:
            while self._waiting:
                self.found += warnings.keep(self._waiting[0])
                self._waiting.pop(0)
            self.failure = ""
        except RecordUnavailable as gone:
            self.failure = str(gone)
            return False
        return more

    def hear(self, warnings: Warnings) -> None:
        """Be quiet of whom people dismissed the warning."""
        for each in warnings.latest(200, state=DISMISSED):
            if each.id not in self._dismissed:
                self._dismissed.add(each.id)
                key: int | str = each.party
                if each.kind in (NUMBER, BLOCK):
                    key = number_of(each.party)
                elif each.kind == ENTITY:
                    key = int(each.party)
                self.detector.dismiss(each.kind, key, minutes=QUIET_DAYS * 1440)

    def _warned(self, finding: Finding) -> Warned | None:
        now = self._now()
        if now - finding.at > OLD_SECONDS:
            return None
        party = token_of(int(finding.key)) if finding.kind in (NUMBER, BLOCK) else str(finding.key)
        said = f"{self._node}\0{finding.kind}\0{party}\0{finding.since:.0f}".encode()
        name = f"W-{hashlib.sha256(said).hexdigest()[:16]}"
        about = {
            "score": finding.score,
            "sure": finding.sure,
            "hourly": finding.hourly,
            "expected_hourly": finding.expected_hourly,
            "evidence": finding.evidence,
            "examples": list(finding.examples),
            "node": self._node,
        }
        return Warned(
            id=name,
            kind=finding.kind,
            party=party,
            since=finding.since,
            at=finding.at,
            about=about,
            rule=rule(finding, name),
            next=now if self._tells else None,
        )

    # What outlives it

    def keep(self) -> None:
        """Keep what is known, sealed, with the place in the record. Raises OSError."""
        if self._waiting:
            return
        state = self.detector.state()
        blobs = [state[name].pop(half) for name in ("pairs", "numbers") for half in _HALVES]
        kept = {
            "position": self.follower.position,
            "last": self.last,
            "dismissed": sorted(self._dismissed),
            "detector": state,
            "blobs": [len(each) for each in blobs],
        }
        head = json.dumps(kept).encode()
        plain = b"".join([b"%d\n" % len(head), head, *blobs])
        packed = zstandard.ZstdCompressor(level=1).compress(plain)
        with written_whole(self._folder / KEPT) as file:
            file.write(self._keyring.encrypt(packed, _AAD))

    def _restore(self) -> int:
        """The place in the record of what was kept, 0 where nothing can be taken in."""
        try:
            packed = self._keyring.decrypt((self._folder / KEPT).read_bytes(), _AAD)
            plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 32)
            length, _, rest = plain.partition(b"\n")
            kept, blobs = json.loads(rest[: int(length)]), rest[int(length) :]
            state, at = kept["detector"], 0
            for number, size in enumerate(kept["blobs"]):
                name = ("pairs", "numbers")[number // 2]
                state[name][_HALVES[number % 2]] = blobs[at : at + size]
                at += size
            self.detector.restore(state)
            self.last = kept["last"]
            self._dismissed = set(kept["dismissed"])
            return int(kept["position"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError, KeyringError, zstandard.ZstdError) as bad:
            log_where(log, "what the watch kept is not taken in: it learns from the record", bad)
            self.detector = Detector(self.detector.weights, self.detector.limits)
            return 0

    def status(self) -> dict[str, Any]:
        """What it does, for metrics."""
        detector = self.detector
        return {
            "pid": os.getpid(),
            "at": self._now(),
            "cpu_seconds": time.process_time(),
            "calls": detector.calls,
            "position": self.follower.position,
            "last": self.last,
            "missed": self.follower.missed,
            "clock_steps": detector.steps,
            "found": self.found,
            "parties": {kind: len(table) for kind, table in detector.tables.items()},
            "forgotten": sum(table.forgotten for table in detector.tables.values()),
            "heavy": [
                {"party": token_of(number), "least": least, "most": most}
                for number, least, most in detector.heavy()
            ],
            "failure": self.failure,
        }


_HALVES: Final = ("young", "old")


@contextlib.contextmanager
def only(folder: Path) -> Any:
    """Be the node's one watch. Raises WatchRuns."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise WatchRuns(f"a watch runs on {folder} already") from None
    finally:
        os.close(fd)


def run(
    state: State, *, days: float = HISTORY_DAYS, once: bool = False, by_input: bool = False
) -> None:
    """Watch until it is told to end: by signal, `once` the record's end is reached, or `by_input`
    with the standard input. Raises WatchRuns, and ValueError for a webhook that is none."""
    settings = state.settings
    webhook = None
    if settings.watch_webhook:
        url, secret = settings.watch_webhook, settings.watch_secret
        webhook = Webhook.signed_by(url, secret, body=body_of)
    ending = _Ending(by_input=by_input)
    with only(state.folder), contextlib.ExitStack() as telling:
        if webhook is not None:
            telling.enter_context(Telling(webhook, lambda: state.record().warnings))
        watch = Watch(
            state.folder,
            state.keyring,
            node=socket.gethostname(),
            days=days,
            tells=webhook is not None,
        )
        keep_at = time.monotonic() + KEPT_SECONDS
        status_at = 0.0
        counts: dict[tuple[str, str], int] = {}
        while not ending.asked:
            more = False
            try:
                warnings = state.record().warnings
                more = watch.step(warnings)
                if time.monotonic() >= status_at:
                    watch.hear(warnings)
                    counts = warnings.counts()
            except (RecordUnavailable, RecordError, OSError) as gone:
                watch.failure = str(gone)
            if time.monotonic() >= status_at:
                status_at = time.monotonic() + STATUS_SECONDS
                _write_status(state.folder, watch, webhook, counts)
            if time.monotonic() >= keep_at:
                keep_at = time.monotonic() + KEPT_SECONDS
                with contextlib.suppress(OSError):
                    watch.keep()
            if not more:
                if once:
                    break
                ending.wait(_IDLE_SECONDS)
        watch.follower.close()
        with contextlib.suppress(OSError):
            watch.keep()
        _write_status(state.folder, watch, webhook, counts)


def _write_status(
    folder: Path, watch: Watch, webhook: Webhook[Warned] | None, counts: dict[tuple[str, str], int]
) -> None:
    said = watch.status()
    said["open"] = {kind: count for (kind, state), count in counts.items() if state == OPEN}
    if webhook is not None:
        said["webhook"] = {
            "sent": webhook.sent,
            "failed": webhook.failed,
            "given_up": webhook.given_up,
            "failure": webhook.failure,
        }
    write_status(folder / STATUS, said)


class _Ending:
    """Whether the process is to end."""

    def __init__(self, *, by_input: bool) -> None:
        self.asked = False
        self._input = [sys.stdin] if by_input else []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True

    def wait(self, seconds: float) -> None:
        """A pause, which the end of the input cuts short."""
        ready, _, _ = select.select(self._input, [], [], seconds)
        if ready and not os.read(sys.stdin.fileno(), 4096):
            self.asked = True


def main() -> None:
    """Runs until its standard input ends."""
    settings = Settings()
    log_to_stderr(settings.log_level)
    with open_files(settings) as state:
        try:
            run(state, by_input=True)
        except (WatchRuns, ValueError) as refused:
            sys.exit(str(refused))


if __name__ == "__main__":
    main()
