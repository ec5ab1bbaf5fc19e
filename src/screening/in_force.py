"""The rules that a worker runs: what is active in the record, else the folder.

Invariants:
- rules are swapped in by one assignment and only when whole: loaded, their cases passed, and of a
  bundle the digest and the signature checked, by this worker itself;
- while calls are decided rules are loaded in a process apart (`screening.apart`);
- what cannot be run leaves the last good rules in force, and `failure` says why;
- a record that has forgotten what is in force (emptied, or an old one restored) is not followed
  back: only a person's next activation decides;
- the bundle in force lies in the state folder too, and a start without the record runs it.
"""

import asyncio
import base64
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from consent.private import replace_private
from consent.record import BEFORE_THE_FIRST, FOLDER, Activation, RecordError, RecordUnavailable
from consent.signing import TrustedKeys
from rules.loading import HERE, Loader, Packs, load_packs
from screening.apart import Apart, let_go_slowly
from screening.blast_radius import FORCE_FILE
from screening.distribution import REFUSED, ActivationRefused, Report, check_bundle
from screening.metrics import Metrics
from screening.state import State

log = logging.getLogger(__name__)

COPY: Final = "rules.bundle"
KEPT: Final = "rules.kept"
"""The bundle that ran on when the guard refused the folder, for who wants to see why."""

RETRY_SECONDS: Final = 10.0
"""Until a bundle that was refused is tried again: its row may have been mended."""


class RulesInForce:
    """Follows what is active. `take` puts packs in force; `noted` hears each outcome, "" if good.

    Belongs to one event loop; what takes time runs in threads.
    """

    def __init__(
        self,
        state: State,
        metrics: Metrics,
        *,
        take: Callable[[Packs], None],
        noted: Callable[[str], None],
        guard: Callable[[Packs | None, Packs], str],
    ) -> None:
        self.failure: Exception | None = None
        """Why what is active is not in force; None when it is."""
        self.running: Activation | None = None
        self.took_seconds: float | None = None
        """From the last activation until it was in force here; None where that was not seen."""
        self._state = state
        self._metrics = metrics
        self._take = take
        self._noted = noted
        self._guard = guard
        self._packs: Packs | None = None
        self._apart = Apart()
        self._folder = state.settings.rules_dir
        self._copy = state.folder / COPY
        self._alone = asyncio.Lock()
        self._known: Activation | None = None
        """What the record said last, None before its first word."""
        self._awaited: Activation | None = None
        """Came into force while this worker followed, and is to be measured."""
        self._attempt: object = None
        self._again_at = 0.0
        self._loaded: dict[str, Packs] = {}
        """Of the bundle in force and the one before, so that a rollback need not load."""

    @property
    def loader(self) -> Loader:
        """Apart as soon as calls are decided here, whose time loading would take."""
        return HERE if self._packs is None else self._apart

    def stop(self) -> None:
        """End loading; nothing more comes into force."""
        self._apart.stop()

    async def start(self) -> None:
        """Run what this disk has, then what is active."""
        async with self._alone:
            await asyncio.to_thread(self._start_from_copy)
        await self.look()

    async def look(self, *, again: bool = False, forced: bool = False) -> None:
        """Take in what has changed; `again` also what has not, as a person may wish.

        `forced` takes in a folder that the guard is against.
        """
        async with self._alone:
            wanted = await self._wanted()
            stamp = await asyncio.to_thread(self._stamp, wanted)
            attempt = (wanted.sequence, wanted.digest, stamp)
            waits = self.failure is None or time.monotonic() < self._again_at
            if attempt == self._attempt and waits and not again:
                return
            self._attempt = attempt
            try:
                packs = await asyncio.to_thread(self._load, wanted)
                if not forced:
                    await asyncio.to_thread(self._ask_guard, wanted, packs)
            except Exception as refused:  # noqa: BLE001 - a database can hold what breaks a loader
                self._refuse(wanted, refused)
                if self.running is None and wanted.digest != FOLDER:
                    await self._fall_back()
            else:
                self._run(wanted, packs)

    async def _wanted(self) -> Activation:
        try:
            active = await asyncio.to_thread(self._active)
        except (RecordUnavailable, RecordError):
            # Whoever follows the record says that it is gone; what it said last holds.
            return self._known or self.running or BEFORE_THE_FIRST
        if self._known is not None and self._known.sequence != active.sequence:
            self._awaited = active
        self._known = active
        return active

    def _active(self) -> Activation:
        return self._state.record().rulebook.active()

    def _load(self, wanted: Activation) -> Packs:
        running = self.running
        if running and wanted.sequence < running.sequence and wanted.at < running.at:
            raise RecordError(
                f"the record ends at activation {wanted.sequence} and has forgotten "
                f"{running.sequence}, which is in force here: activate what shall be"
            )
        if wanted.digest == FOLDER:
            return self.loader.folder(self._folder)
        rulebook = self._state.record().rulebook
        signature = rulebook.find(wanted.digest).signature
        content = rulebook.content(wanted.digest)
        packs = self._open(wanted.digest, content, signature)
        self._keep_copy(wanted, content, signature)
        return packs

    def _ask_guard(self, wanted: Activation, packs: Packs) -> None:
        """Whether a folder that changed may come into force. Raises ActivationRefused."""
        running = self.running
        if wanted.digest != FOLDER or running is None or running.sequence != wanted.sequence:
            return  # an activation was compared where it was made
        against = self._guard(self._packs, packs)
        if not against:
            return
        if self._packs is not None:
            with contextlib.suppress(OSError):
                replace_private(self._state.folder / KEPT, self._packs.content)
        raise ActivationRefused(
            f"{against}. `screening rules replay {self._folder}` shows the calls. To take it in "
            "all the same: `screening rules force --reason …`, or "
            "POST /v1/admin/rules/reload?force=true&reason=…"
        )

    def _open(self, digest: str, content: bytes, signature: bytes) -> Packs:
        trusted = TrustedKeys.load(self._state.settings.rule_keys)
        check_bundle(content, digest=digest, signature=signature, trusted=trusted)
        return self._loaded.get(digest) or self.loader.bundle(content)

    def _let_go(self, known: list[Packs]) -> None:
        """Free those of `known` that are not kept any more, by and by, in a thread that rests."""
        kept = [self._packs, *self._loaded.values()]
        gone = [packs for packs in known if not any(packs is each for each in kept)]
        known.clear()
        if gone:
            asyncio.get_running_loop().run_in_executor(None, let_go_slowly, gone)

    def _run(self, activation: Activation, packs: Packs) -> None:
        known = [each for each in (self._packs, *self._loaded.values()) if each is not None]
        self._take(packs)
        self._packs = packs
        before, self.running, self.failure = self.running, activation, None
        if before is not None:
            (self._state.folder / KEPT).unlink(missing_ok=True)
        if activation.digest == FOLDER:
            source = f"the folder {self._folder}"
            if self._known is not None:
                self._copy.unlink(missing_ok=True)
        else:
            source = f"bundle {activation.digest[:12]} of activation {activation.sequence}"
            if before is None or before.digest == FOLDER:
                log.info("the folder %s is not used: a bundle is active", self._folder)
        kept = [digest for digest in self._loaded if digest != activation.digest][-1:]
        self._loaded = {digest: self._loaded[digest] for digest in kept}
        if activation.digest != FOLDER:
            self._loaded[activation.digest] = packs
        self._metrics.rules_mismatch.set(0)
        self._metrics.rules_revision.clear()
        self._metrics.rules_revision.labels(activation.digest or "folder").set(1)
        self.took_seconds = None
        if self._awaited is not None and self._awaited.sequence == activation.sequence:
            self.took_seconds = max(0.0, time.time() - activation.at)
            self._metrics.activation_seconds.observe(self.took_seconds)
            self._awaited = None
        self._noted("")
        names = ", ".join(pack.ruleset.label for pack in packs.packs.values())
        log.info("rules in force: %s, from %s", names, source)
        self._let_go(known)

    def _refuse(self, wanted: Activation, refused: Exception) -> None:
        self.failure = refused
        self._metrics.rules_mismatch.set(1)
        what = "" if wanted.digest == FOLDER else f"activation {wanted.sequence}: "
        known = (*REFUSED, ActivationRefused, RecordUnavailable, RecordError, OSError)
        kind = "" if isinstance(refused, known) else f"{type(refused).__name__}: "
        self._noted(f"{what}{kind}{refused}")
        # A folder is tried again when one of its files changes, and not before.
        gone = isinstance(refused, RecordUnavailable)
        wait = float("inf") if wanted.digest == FOLDER else 0.0 if gone else RETRY_SECONDS
        self._again_at = time.monotonic() + wait

    async def _fall_back(self) -> None:
        """Nothing runs and what is active cannot: the folder is better than no rules at all."""
        try:
            packs = await asyncio.to_thread(load_packs, self._folder)
        except Exception as broken:  # noqa: BLE001
            log.error("the folder %s cannot be run either: %s", self._folder, broken)
            return
        self._take(packs)
        self._packs = packs
        self.running = BEFORE_THE_FIRST
        self._metrics.rules_revision.labels("folder").set(1)
        log.warning("rules of the folder %s are in force until the bundle can be", self._folder)

    def describe(self) -> dict[str, object]:
        """What is in force: the source is "record", "folder" or, before either, "none"."""
        running = self.running
        if running is None:
            return {"source": "none", "digest": None, "activation": None}
        source = "folder" if running.digest == FOLDER else "record"
        return {"source": source, "digest": running.digest or None, "activation": running.sequence}

    def report(self) -> Report:
        """What came of the last activation here, for the person who waits for it."""
        worker = f"{socket.gethostname()}/{os.getpid()}"
        return Report(worker, self.took_seconds or 0.0, str(self.failure or ""))

    # The copy on this disk

    def _keep_copy(self, activation: Activation, content: bytes, signature: bytes) -> None:
        copy = {
            "digest": activation.digest,
            "sequence": activation.sequence,
            "at": activation.at,
            "signature": base64.b64encode(signature).decode(),
            "content": content.decode(),
        }
        try:
            replace_private(self._copy, json.dumps(copy).encode())
        except OSError as error:
            log.error("a start without the record would not have these rules: %s", error)

    def _start_from_copy(self) -> None:
        try:
            copy = json.loads(self._copy.read_bytes())
            digest, sequence, at = copy["digest"], int(copy["sequence"]), float(copy["at"])
            signature = base64.b64decode(copy["signature"])
            packs = self._open(digest, copy["content"].encode(), signature)
        except FileNotFoundError:
            return
        except Exception as refused:  # noqa: BLE001 - a file on a disk can hold anything
            log.error("%s is not used: %s", self._copy, refused)
            return
        activation = Activation(sequence, digest, 0, at, "", "", forced=False)
        self._attempt = (sequence, digest, self._stamp(activation))
        self._run(activation, packs)

    def _stamp(self, wanted: Activation) -> object:
        """Changes when the files that decide about these rules do."""
        if wanted.digest == FOLDER:
            forced = self._state.folder / FORCE_FILE
            return stamps([forced, *sorted(self._folder.rglob("*.toml"))])
        keys = self._state.settings.rule_keys
        return stamps([keys, *sorted(keys.glob("*"))]) if keys else ()


def stamps(paths: list[Path]) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files that there are."""
    found = []
    for path in paths:
        try:
            about = path.stat()
        except OSError:
            continue
        found.append((str(path), about.st_mtime_ns, about.st_size))
    return tuple(found)
