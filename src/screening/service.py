"""The service: what it holds, how it takes in changes while calls run, and how it stops.

Rules, lists, entities and keys are looked at every `watch_interval_ms`; what has changed is made
ready beside what is in force and swapped in by one assignment. What cannot be read leaves the
last good one in force and says so in the log, in /readyz and in the metrics.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, TypeVar

from consent.calling import (
    CallingLists,
    CallingSide,
    CallingSideError,
    Registry,
    load_entities,
    load_exceptions,
    load_numbers,
)
from consent.event import Event
from consent.index import IndexReader, announcements
from consent.loading import prepare_callers
from consent.number import parse_number
from consent.record import AuditEntry, Notice, Once, Record, RecordError, RecordUnavailable
from consent.record.notices import STATES as NOTICE_STATES
from consent.record.notices import Notices
from consent.zones import zones_of
from rules.document import RuleSetError
from rules.handover import NotReady
from rules.ladder import Ladder, load_ladders
from rules.loading import Packs
from screening.access import AccessError, Callers, Client, Principal, bearer_of
from screening.appeals import Appellate
from screening.blast_radius import Guard
from screening.call_ends import EndReader
from screening.channel import Message
from screening.checkpoints import Checkpoints
from screening.conduct import AUTOMATIC, Conduct
from screening.distribution import CHANNEL, answer
from screening.endpoint import Scope
from screening.enforcement import Enforcement
from screening.false_positives import FalsePositives
from screening.garbage import settle
from screening.in_force import KEPT, RulesInForce, stamps
from screening.keeper import Keeper
from screening.limit import Limit
from screening.logs import log_where
from screening.lookup import Lookup
from screening.metrics import Metrics
from screening.news import CHANNEL as NEWS
from screening.notices import body_of
from screening.problem import Refused
from screening.recall import Recall, remove_rings, ring_folder
from screening.recording.counts import RecordingCounts
from screening.recording.keeping import WATCH, NodeProcess
from screening.recording.outbox import Outbox
from screening.registrar import Registrar, Taken
from screening.screener import DncList, DncPlan, Screener
from screening.settings import Settings
from screening.siblings import Siblings
from screening.signals.view import ConductView
from screening.snapshot import Catalogue, ListInForce
from screening.state import State
from screening.steward import Steward
from screening.wash import Honey
from screening.watching.counts import WatchCounts
from screening.webhook import Telling, Webhook

log = logging.getLogger(__name__)
T = TypeVar("T")

KEEPER_INTERVAL_SECONDS: Final = 1.0
KEEPER_GONE_SECONDS: Final = 0.25
"""Once a replica has taken over it may lack what was acknowledged: it is told at once."""

ANNOUNCED_AGAIN_SECONDS: Final = 1.0
LADDER_INTERVAL_SECONDS: Final = 10.0
TIMINGS_INTERVAL_SECONDS: Final = 30.0
CONDUCT_INTERVAL_SECONDS: Final = 0.2
RECORDER_SECONDS: Final = 15.0
RECALL_INTERVAL_SECONDS: Final = 1.0
CHECKPOINT_INTERVAL_SECONDS: Final = 1.0
WRITERS: Final = 8
"""Threads for what goes to the record: one that is slow must not hold up what follows it."""

RELOAD_RULES: Final = "reload_rules"
SIBLINGS_SECONDS: Final = 60.0
"""For the other workers to take in rules: the longest that loading them takes."""

LOOKS_BEFORE_PREPARING: Final = 2
"""A loader makes the calling-side file just before the record switches: give it that instant."""


class Service:
    """Everything one worker holds. Made once, started and stopped by the application."""

    def __init__(self, state: State, *, slot: int = 0, workers: int = 1) -> None:
        settings = state.settings
        self.slot = slot
        """Which of the node's `workers` this is, from 0."""
        self._workers = workers
        self.steward = Steward(state.folder)
        self.siblings: Siblings | None = None
        """The way to the other workers; None in a process that has none."""
        self.settings: Settings = settings
        self.metrics = Metrics()
        self.state = self._state = state
        self._catalogue = Catalogue.load(state.folder)
        self.reader = IndexReader(state.redis_url, epoch=self._catalogue.epoch)
        self.metrics.follow(self.reader)
        self.recall = Recall(
            ring_folder(state.folder, slot),
            state.keyring,
            capacity=settings.recall_calls // workers,
        )
        self.metrics.follow_recall(self.recall)
        self.screener = Screener(
            reader=self.reader,
            decision_key=state.keyring.decision_key,
            facts_budget_ms=settings.facts_budget_ms,
            kept=self.recall,
        )
        self.lookup = Lookup(
            self.screener,
            self.metrics,
            self.recall,
            region=settings.region,
            shed_lag_ms=settings.shed_lag_ms,
        )
        self.outbox = Outbox(
            state.folder, instance=f"{socket.gethostname()}/{os.getpid()}", rules=self._rules_digest
        )
        self.ends = EndReader(
            region=settings.region,
            key=state.keyring.decision_key,
            entity_of=lambda: self.screener.calling_side.entity_of,
        )
        self.lookup.observers.append(self.outbox.observe)
        self.lookup.shed_observers.append(self.outbox.missed)
        self.recorder = NodeProcess(state.folder, state.environment)
        self._watch_process = NodeProcess(state.folder, state.environment, kind=WATCH)
        self.conduct = ConductView(state.folder)
        self.screener.conduct = self.conduct
        self.metrics.registry.register(RecordingCounts(state.folder, self.outbox))
        self.metrics.registry.register(WatchCounts(state.folder, configured=settings.watch))
        self.guard = Guard(
            state.folder, limit_percent=settings.blast_radius_percent, flush=self.recall.keep
        )
        self.rules = RulesInForce(
            state,
            self.metrics,
            take=self._take_rules,
            noted=lambda said: self._noted("rules", said),
            guard=self.guard.against,
        )
        self._keeper = Keeper(state)
        self.enforcement = Enforcement(
            lambda facts, seconds: self.metrics.enforcement_seconds.labels(facts).observe(seconds)
        )
        self._taking_in = asyncio.Lock()
        self.registrar = Registrar(state)
        self.ladder = Conduct(state, self._ladders())
        self.appellate = Appellate(self.ladder, self.registrar)
        self.false_positives = FalsePositives()
        self.metrics.registry.register(self.false_positives)
        self._notices = self._telling()
        self._lookups = Limit(settings.lookups_per_minute, seconds=60)
        self.honey = Honey(settings.honey, region=settings.region)
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._checkpoints = Checkpoints(state)
        self.callers = Callers(state.keys_path, settings.clients)
        self._seen: dict[str, object] = {}
        self._failures: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False
        self._unprepared = 0
        self._answered = False
        """Whether the index has been read once, or a snapshot of it was taken in."""

    # Life

    async def take_in(self) -> None:
        """Take in what there is: rules, lists, entities, the index when it is there."""
        self._take_in(self._catalogue, await asyncio.to_thread(self._last_known_side))
        await asyncio.to_thread(_warm)
        await self.reader.start()
        await self.rules.start()
        await self._keeper.look(within_seconds=KEEPER_INTERVAL_SECONDS)
        await self._follow_record()

    async def start(self) -> None:
        """Take in what there is and follow it from then on."""
        if self.steward.holds():
            (self._state.folder / KEPT).unlink(missing_ok=True)
            await asyncio.to_thread(remove_rings, self._state.folder, beyond=self._workers)
        # First, since it starts while this process takes in what it needs itself.
        recorder = asyncio.create_task(self.recorder.keep())
        await self.take_in()
        await self._await_recorder()
        settle()
        self.lookup.overload.start()
        every = self.settings.watch_interval_ms / 1000
        self._tasks = [
            recorder,
            # A task of its own: loading a list must not hold up an activation.
            asyncio.create_task(self._repeat(self.rules.look, every)),
            asyncio.create_task(self._repeat(self._follow_announcements, ANNOUNCED_AGAIN_SECONDS)),
            asyncio.create_task(self._repeat(self._follow_news, ANNOUNCED_AGAIN_SECONDS)),
            asyncio.create_task(self._repeat(self._watch, every)),
            asyncio.create_task(self._follow_index()),
            asyncio.create_task(self._repeat(self._keep_recall, RECALL_INTERVAL_SECONDS)),
            asyncio.create_task(self._repeat(self._keep_checkpoints, CHECKPOINT_INTERVAL_SECONDS)),
            asyncio.create_task(self._repeat(self._look_at_ladder, LADDER_INTERVAL_SECONDS)),
            asyncio.create_task(self._repeat(self._look_at_conduct, CONDUCT_INTERVAL_SECONDS)),
            asyncio.create_task(self._repeat(self._keep_timings, TIMINGS_INTERVAL_SECONDS)),
        ]
        if self._notices is not None:
            self._notices.__enter__()
        if self.settings.watch:
            self._tasks.append(asyncio.create_task(self._watch_process.keep()))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _telling(self) -> Telling[Notice] | None:
        """Who tells callers of steps of the ladder: the worker that holds the node's lock."""
        url, secret = self.settings.notice_webhook, self.settings.notice_secret
        if not url:
            return None

        def due() -> Notices | None:
            return self.record().notices if self.steward.holds() else None

        try:
            webhook: Webhook[Notice] = Webhook.signed_by(
                url, secret, body=lambda each: body_of(each, self.record())
            )
        except (ValueError, OSError) as refused:
            log.error("nobody is told of steps of the ladder: %s", refused)
            return None
        return Telling(webhook, due)

    def _ladders(self) -> dict[str, Ladder]:
        folder = self.settings.ladder_dir
        try:
            return load_ladders(folder) if folder.is_dir() else {}
        except (RuleSetError, OSError) as refused:
            log.error("no ladder is in force, complaints are only kept: %s", refused)
            return {}

    async def _look_at_ladder(self) -> None:
        """Take the steps that are due, once on a node; follow what appeals say of our rules."""
        failure = ""
        try:
            if self.steward.holds():
                await self.on_record(self.appellate.look, actor=AUTOMATIC)
                await self.on_record(self.ladder.look)
            await self.count_false_positives()
            counts = await self.on_record(self.record().notices.counts)
            for state in NOTICE_STATES:
                self.metrics.notices.labels(state).set(counts.get(state, 0))
        except (RecordUnavailable, RecordError, OSError) as gone:
            failure = str(gone)
        if failure != self._failures.get("ladder", ""):
            self._noted("ladder", failure)

    async def _keep_timings(self) -> None:
        """Write down how long changes took to be in force; while the record is gone they wait."""
        counts = self.enforcement.take_counts()
        if not counts:
            return
        try:
            await self.on_record(lambda: self.record().timings.add(counts))
        except (RecordUnavailable, RecordError):
            self.enforcement.put_back(counts)

    async def count_false_positives(self) -> None:
        """Take in what appeals and called parties have said."""
        judged = await self.on_record(lambda: dict(self.record().appeals.judged()))
        self.false_positives.judged = judged

    async def _look_at_conduct(self) -> None:
        self.conduct.look()

    async def _await_recorder(self) -> None:
        """Give the recorder a moment: until it is there, signals are unknown."""
        deadline = time.monotonic() + RECORDER_SECONDS
        while not self.conduct.known and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            self.conduct.look()

    async def stop(self) -> None:
        """Stop following, close what is open."""
        self.lookup.overload.stop()
        self._draining = True
        # Before the recorder ends: what waits is taken in by it.
        self.outbox.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._notices is not None:
            await asyncio.to_thread(self._notices.__exit__)
        self.guard.stop()
        self.rules.stop()
        await self._keeper.stop()
        await self._keep_timings()
        await asyncio.to_thread(self._writers.shutdown)
        self.registrar.close()
        # What was appended since the last one shall not wait for the next start.
        await self._keep_checkpoints(sign=True)
        await asyncio.to_thread(self.recall.close)
        await self.reader.close()
        self.steward.leave()

    def drain(self) -> None:
        """From now on /readyz says 503, so that no new calls are sent here."""
        self._draining = True

    async def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._once(step)

    async def _once(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as broken:  # noqa: BLE001 - what follows the record must not end
            log_where(log, "taking in a change broke off", broken)

    def _on_hangup(self) -> None:
        log.info("SIGHUP: taking in rules, lists and keys")
        self._tasks.append(asyncio.create_task(self._once(self.reload_all)))

    def _noted(self, kind: str, failure: str) -> None:
        """Remember whether taking in `kind` held; log a failure when it is a new one."""
        failed = bool(failure)
        self.metrics.reloads.labels(kind, "failed" if failed else "taken_in").inc()
        self.metrics.reload_failed.labels(kind).set(failed)
        if not failed:
            self._failures.pop(kind, None)
        elif self._failures.get(kind) != failure:
            self._failures[kind] = failure
            log.error("%s not taken in, the last good one stays: %s", kind, failure)

    # Rules

    def _take_rules(self, packs: Packs) -> None:
        self.screener.packs = packs
        self.metrics.rulesets_in_force(
            (name, pack.ruleset.revision) for name, pack in packs.packs.items()
        )

    async def reload_rules(self, *, forced: bool = False) -> None:
        """Load anew what is active, in every worker, as a person wishes: raises why it is not in
        force.

        `forced` takes in a folder that the guard is against.
        """
        await self.rules.look(again=True, forced=forced)
        if self.rules.failure is not None:
            raise self.rules.failure
        if self.siblings is not None:
            message = {"what": RELOAD_RULES, "forced": forced}
            failures = await self.siblings.tell_all(message, seconds=SIBLINGS_SECONDS)
            if failed := next(filter(None, failures), ""):
                raise NotReady(f"in force here, and not in another worker: {failed}")

    async def told(self, message: Message) -> str:
        """Do what another worker was asked to do in all; the answer is what went wrong, or ""."""
        if message["what"] != RELOAD_RULES:
            return ""
        await self.rules.look(again=True, forced=message["forced"])
        return str(self.rules.failure or "")

    async def _follow_announcements(self) -> None:
        """Look at once when an activation is announced, and say what came of it."""
        async with aclosing(announcements(self.redis_url, CHANNEL)) as heard:
            async for sequence in heard:
                await self.rules.look()
                if sequence.isdigit():
                    report = self.rules.report()
                    await asyncio.to_thread(answer, self.redis_url, sequence.decode(), report)

    async def _keep_recall(self) -> None:
        await asyncio.to_thread(self.recall.keep)
        if self.recall.failure != self._failures.get("recall", ""):
            self._noted("recall", self.recall.failure)

    def _rules_digest(self) -> str:
        packs = self.screener.packs
        return packs.digest if packs is not None else ""

    async def _keep_checkpoints(self, *, sign: bool = False) -> None:
        failure = ""
        if not self.steward.holds():
            return
        try:
            await asyncio.to_thread(self._checkpoints.step, sign=sign)
        except (RecordUnavailable, RecordError, OSError) as gone:
            failure = str(gone)
        if failure != self._failures.get("checkpoints", ""):
            self._noted("checkpoints", failure)

    def revisions(self) -> dict[str, str]:
        """The rule sets in force: name to name@revision."""
        packs = self.screener.packs
        if packs is None:
            return {}
        return {name: pack.ruleset.label for name, pack in packs.packs.items()}

    # Lists, entities, keys

    async def _watch(self) -> None:
        """One look at everything that can change outside of this process."""
        await self._follow_record()
        self.reload_keys(only_if_changed=True)

    async def reload_all(self) -> None:
        """Rules, lists, entities and keys, as SIGHUP asks for."""
        await self.rules.look(again=True)
        self._catalogue = replace(self._catalogue, revision=-1)
        await self._follow_record()
        self.reload_keys(only_if_changed=False)

    def reload_keys(self, *, only_if_changed: bool) -> None:
        """Take in the key file and the clients file."""
        paths = (self._state.keys_path, self.settings.clients)
        seen = stamps(list(paths))
        if only_if_changed and seen == self._seen.get("keys"):
            return
        self._seen["keys"] = seen
        try:
            self.callers.reload()
        except AccessError as refused:
            self._noted("keys", str(refused))
            return
        self._noted("keys", "")

    async def _follow_news(self) -> None:
        """Look at the record at once when a change of it is announced."""
        async with aclosing(announcements(self.redis_url, NEWS)) as heard:
            async for _ in heard:
                await self._follow_record()

    async def _follow_record(self) -> None:
        """Take in lists and entities when the record says that they changed."""
        async with self._taking_in:
            await self._look_at_record()

    async def _look_at_record(self) -> None:
        try:
            record = await asyncio.to_thread(self._state.record)
            revision = await asyncio.to_thread(record.revision)
            if revision == self._catalogue.revision and "record" not in self._failures:
                return
            catalogue, side, entities_at = await asyncio.to_thread(self._read_record, record)
        except (RecordUnavailable, RecordError, CallingSideError, OSError) as gone:
            self._noted("record", str(gone))
            return
        if side.generations != catalogue.calling_generations():
            await self._prepare_calling()
            # Looked at again until both say the same.
            catalogue = replace(catalogue, revision=-1)
        else:
            self._unprepared = 0
        self._take_in(catalogue, side)
        if catalogue.revision >= 0:
            self.enforcement.taken_in(catalogue, entities_at=entities_at)
        self._noted("record", "")

    async def follow_record(self) -> None:
        """Take in a change of lists or entities at once: one made here is in force here."""
        await self._follow_record()

    async def run_apart(self, *words: str) -> str:
        """Run a command of ours on this state; the answer is what went wrong or ""."""
        return await self._keeper.run(*words)

    async def ask_apart(self, *words: str) -> tuple[str, str]:
        """Run it so, and give what it printed and what it complained of."""
        return await self._keeper.ask(*words)

    def _read_record(self, record: Record) -> tuple[Catalogue, CallingSide, float]:
        folder = self._state.folder
        catalogue = Catalogue.of(record)
        entities, numbers, exceptions = prepare_callers(record, folder)
        if self.steward.holds():
            catalogue.save(folder)
        side = CallingSide(CallingLists.load(folder), Registry(entities), numbers, exceptions)
        changed = max(record.entities.changed_at(), record.steps.numbers_changed_at())
        return catalogue, side, changed

    async def _prepare_calling(self) -> None:
        """Make the calling-side file anew where it is not of the generations in force.

        A loader on this machine makes it itself, an instant before the record switches; another
        node's list, or a loader that died between the two, leaves it to us.
        """
        self._unprepared += 1
        if self._unprepared > LOOKS_BEFORE_PREPARING and self.steward.holds():
            failure = await self._keeper.run("lists", "prepare")
            self._noted("calling", failure)

    def _last_known_side(self) -> CallingSide:
        """The calling side as this node last had it, whatever the record says."""
        folder = self._state.folder
        try:
            registry = Registry(load_entities(folder))
            numbers, exceptions = load_numbers(folder), load_exceptions(folder)
            return CallingSide(CallingLists.load(folder), registry, numbers, exceptions)
        except CallingSideError as damaged:
            self._noted("calling", str(damaged))
            return CallingSide()

    def _take_in(self, catalogue: Catalogue, side: CallingSide) -> None:
        """Swap in lists and entities; each is one assignment, so no call sees half of one."""
        self._catalogue = catalogue
        if self.reader.epoch != catalogue.epoch:
            self.reader.epoch = catalogue.epoch
        self.screener.dnc = DncPlan(
            tuple(
                DncList(
                    each.list_id,
                    each.generation,
                    each.category,
                    each.region,
                    each.name,
                    each.stale_at,
                )
                for each in catalogue.lists
                if each.kind == "dnc"
            )
        )
        self.screener.calling_side = side
        self.metrics.lists_in_force(catalogue.lists)

    async def _follow_index(self) -> None:
        while True:
            soon = KEEPER_GONE_SECONDS if self._keeper.gone else KEEPER_INTERVAL_SECONDS
            await asyncio.sleep(soon)
            await self._once(self._keep_index)

    async def _keep_index(self) -> None:
        """Bring the index up to the record; rebuild it when it was lost."""
        if self._keeper.epoch == self.reader.epoch:
            # What the step before this one saw: no read from before then is still on its way.
            self.reader.expect(self._keeper.applied)
        failure = await self._keeper.step(rebuild=self.steward.holds())
        if failure != self._failures.get("index", ""):
            self._noted("index", failure)
        if not failure:
            self.enforcement.applied(self._keeper.applied)
        if self._keeper.epoch and self._keeper.epoch != self.reader.epoch:
            self._catalogue = replace(self._catalogue, revision=-1)

    # Who asks

    def principal_of(self, scope: Scope) -> Principal | None:
        """The holder of the key that a request carries, None without a valid one."""
        return self.callers.principal(bearer_of(scope["headers"]))

    def client_of(self, scope: Scope) -> Client:
        """Who sends a lookup, and what it may assert."""
        address = scope.get("client")
        bearer = bearer_of(scope["headers"])
        return self.callers.client(bearer, address[0] if address else "")

    # Seen by operations

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether calls can be decided, and the state of each part.

        What is only degraded (index gone, a reload that failed) shows and does not count:
        taking every node out would end screening altogether.
        """
        if not self._answered:
            self._answered = bool(self._keeper.epoch or self._catalogue.epoch)
        loaded = self.screener.packs is not None
        ready = loaded and self._answered and not self._draining
        return ready, {
            "ready": ready,
            "worker": self.slot,
            "draining": self._draining,
            "rules": self.revisions(),
            "revision": self.rules.describe(),
            "index": {
                "breaker": self.reader.state,
                "error": self.reader.last_error if self.reader.state == "open" else None,
                "nodes": self.reader.nodes.states(),
            },
            "lists": {each.name: each.generation for each in self._catalogue.lists},
            "failures": dict(self._failures),
        }

    async def exposition(self) -> bytes:
        """The metrics of all workers as text; of this one alone where there are no others."""
        if self.siblings is not None:
            text = await self.siblings.metrics()
            if text is not None:
                return text
        return self.metrics.exposition()

    def lists(self) -> list[dict[str, Any]]:
        """The lists in force, with their ages in seconds."""
        now = time.time()
        return [
            {**asdict(each), "age_seconds": round(now - each.since)}
            for each in self._catalogue.lists
        ]

    def lists_in_force(self) -> tuple[ListInForce, ...]:
        """The lists in force."""
        return self._catalogue.lists

    # The record

    def record(self) -> Record:
        """Opened on first use. Raises RecordUnavailable, and RecordError for one not to be used."""
        return self._state.record()

    async def on_record(self, step: Callable[..., T], *given: Any, **named: Any) -> T:
        """What `step` gives, run in a thread that may wait for the record."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writers, partial(step, *given, **named))

    async def may_look_up(
        self, holder: Principal, action: str, subject: int | str, *, count: int = 1
    ) -> None:
        """Keep who looks up whom, a number by its token. Raises Refused beyond the key's limit."""
        wait = self._lookups.take(holder.name, min(count, self._lookups.most))
        if wait:
            raise Refused(
                429,
                "Too many look-ups",
                f"the key {holder.name!r} may look up {self._lookups.most} subscribers a minute",
                retry_after=wait,
            )
        if isinstance(subject, int):
            subject = self._state.keyring.token(subject)
        await self.on_record(self._audit, holder.name, action, subject, {})

    async def take(
        self,
        events: Iterable[Event],
        *,
        actor: str,
        once: Once | None = None,
        unchanged: Mapping[int, int] | None = None,
    ) -> Taken:
        """Commit decisions and bring them into force: see `Registrar.take`."""
        accepted = self.enforcement.accepted()
        taken: Taken = await self.on_record(
            self.registrar.take, events, actor=actor, once=once, unchanged=unchanged
        )
        if taken.events:
            self.enforcement.decided(taken.sequence, accepted=accepted, in_force=taken.in_force)
        return taken

    @property
    def redis_url(self) -> str:
        """Of the index server, the embedded one included."""
        return self._state.redis_url

    async def audit(self, actor: str, action: str, subject: str, **detail: str) -> None:
        """Keep who did what. Raises RecordUnavailable: what cannot be kept is not done."""
        await asyncio.to_thread(self._audit, actor, action, subject, detail)

    def _audit(self, actor: str, action: str, subject: str, detail: dict[str, str]) -> None:
        self._state.record().audit.append(action, subject=subject, actor=actor, detail=detail)

    def audit_log(self, limit: int) -> list[dict[str, Any]]:
        """Management actions, newest first. Raises RecordUnavailable."""
        entries: list[AuditEntry] = self._state.record().audit.latest(limit)
        return [asdict(each) for each in entries]


def _warm() -> None:
    """Load what the numbering library loads on first use: tens of milliseconds, not of a call."""
    zones_of(parse_number("01632 960001", region="GB").value)
