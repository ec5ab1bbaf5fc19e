"""The process above the workers: it answers no call, and keeps those that do running.

It holds what must outlive a worker: the sockets, the embedded index server, what dead workers
had counted. It imports nothing that decides a call, so that it is small and has little to fail.

- A worker that dies is started again, at once the first time, later each time that the new one
  dies young; one that hangs is killed first.
- SIGUSR2 replaces worker after worker, each by one that is ready before the old one drains; they
  run the code and the settings' files as they are then.
- SIGHUP is passed on. SIGTERM and SIGINT drain and end, a second one at once.
- Its own death ends the channels to the workers, which then drain and end.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from enum import Enum, auto
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from screening.acceptor import Seats
from screening.channel import Channel, Message
from screening.listeners import Sockets, listen, port_file, write_port
from screening.merging import Snapshot, Tally, exposition, merged
from screening.processes import Usage, usage
from screening.settings import Settings

log = logging.getLogger(__name__)

START_SECONDS: Final = 120.0
"""A worker that is not ready by then is taken as broken."""

SETTLED_SECONDS: Final = 30.0
"""A worker that lived so long died of something new: the next is started at once."""

FIRST_DELAY_SECONDS: Final = 0.25
LONGEST_DELAY_SECONDS: Final = 15.0
COLLECT_SECONDS: Final = 1.0
"""A worker that does not give its metrics by then is shown as it last was."""

LOOK_SECONDS: Final = 5.0
HUNG_SECONDS: Final = 30.0
"""A worker that says nothing for so long answers no call either."""

MARGIN_SECONDS: Final = 3.0
"""Beyond `drain_seconds`, to close what is open; then the process is killed."""

_REPLY_SECONDS: Final = 60.0


class Stage(Enum):
    """Where the life of a worker stands."""

    STARTING = auto()
    READY = auto()
    DRAINING = auto()


class Process:
    """One worker process, from its start to its end."""

    def __init__(
        self, slot: int, seat: int, process: subprocess.Popen[bytes], end: socket.socket
    ) -> None:
        self.slot = slot
        self.seat = seat
        self.process = process
        self.end = end
        self.channel: Channel | None = None
        self.listening: asyncio.Task[None] | None = None
        """Hears what it says, to its end."""
        self.stage = Stage.STARTING
        self.started = time.monotonic()
        self.heard = self.started
        self.gone = False
        self.hung = False
        self.counted: Snapshot = []
        self.usage = Usage(0.0, 0)

    @property
    def name(self) -> str:
        return f"worker {self.slot} (process {self.process.pid})"

    def send(self, message: Message) -> None:
        if self.channel is not None:
            self.channel.send(message)

    def kill(self) -> None:
        if not self.gone:
            self.process.kill()

    @property
    def is_up(self) -> bool:
        return self.stage is Stage.READY and not self.gone


class Supervisor:
    """Keeps `workers` processes running over the sockets. Made before its event loop runs."""

    def __init__(self, settings: Settings, sockets: Sockets, *, workers: int) -> None:
        self._settings = settings
        self._sockets = sockets
        self._seats = Seats.make(4 * workers + 4)
        self._free_seats = set(range(self._seats.count))
        self._began: Message = {}
        self._ready: Callable[[], None] = lambda: None
        self._current: list[Process] = []
        self._all: set[Process] = set()
        self._locks = [asyncio.Lock() for _ in range(workers)]
        self._delays = [0.0] * workers
        self._dead = Tally()
        self._cpu = [0.0] * workers
        """Seconds that the dead of each slot had used."""
        self._restarts: Counter[tuple[int, str]] = Counter()
        self._listening = False
        self._stopping = False
        self._changed = asyncio.Event()
        self._rolling = False
        self._failed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._collecting: asyncio.Task[None] | None = None
        self._asked: dict[int, tuple[set[int], asyncio.Event]] = {}
        self._replies: dict[int, list[Message]] = {}
        self._numbers = itertools.count(1)
        for slot in range(workers):
            self._current.append(self._spawn(slot))

    # Life

    def run(self, began: Message, *, ready: Callable[[], None]) -> int:
        """Until it is told to stop; the answer is the exit code.

        `began` is what workers must know and nobody knew when they were started; `ready` is
        called when calls are answered.
        """
        self._began, self._ready = began, ready
        return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on_hangup)
        loop.add_signal_handler(signal.SIGUSR2, self._start_rolling)
        for each in self._current:
            await self._attend(each)
        self._do(self._look())
        for slot in range(len(self._current)):
            self._do(self._keep(slot))
        try:
            await self._until(lambda: self._stopping)
            await self._drain_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for name in self._sockets:
                port_file(self._settings.state_dir, name).unlink(missing_ok=True)
        return 1 if self._failed else 0

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (broken := task.exception()) is not None:
            # Without one of its parts it would only seem to watch: what restarts services shall.
            log.critical("the supervisor ends itself", exc_info=broken)
            self._end(failed=True)

    def _stop(self) -> None:
        if self._stopping:
            log.warning("told to stop again: workers are killed")
            for each in self._all:
                each.kill()
        self._end()

    def _end(self, *, failed: bool = False) -> None:
        self._failed = self._failed or failed
        self._stopping = True
        self._note()

    def _note(self) -> None:
        """Wake who waits for something of this to have changed."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _until(self, holds: Callable[[], bool], *, seconds: float | None = None) -> bool:
        """Whether a condition came to hold in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not holds():
                    await self._changed.wait()
        return holds()

    async def _drain_all(self) -> None:
        """Every worker at once; the queue is taken by them first, and closed by the last."""
        for bound in self._sockets.values():
            for each in bound:
                each.close()
        for worker in tuple(self._all):
            if worker.stage is Stage.READY:
                worker.stage = Stage.DRAINING
                worker.send({"what": "drain", "leave_queue": False})
            elif worker.stage is Stage.STARTING:
                worker.kill()
        await self._await_end(tuple(self._all))

    async def _await_end(self, workers: Collection[Process]) -> None:
        """Until all are gone, killing those that are not within the bound."""

        def ended() -> bool:
            return all(each.gone for each in workers)

        if await self._until(ended, seconds=self._settings.drain_seconds + MARGIN_SECONDS):
            return
        for worker in workers:
            if not worker.gone:
                log.error("%s did not end in time and is killed", worker.name)
                worker.kill()
        await self._until(ended, seconds=MARGIN_SECONDS)

    # One worker

    def _spawn(self, slot: int) -> Process:
        ours, theirs = socket.socketpair()
        seat = self._free_seats.pop()
        given = {
            "slot": slot,
            "workers": len(self._locks),
            "seat": seat,
            "seats": [self._seats.fd, self._seats.count],
            "channel": theirs.fileno(),
            "sockets": {
                name: [each.fileno() for each in bound] for name, bound in self._sockets.items()
            },
        }
        descriptors = [
            theirs.fileno(),
            self._seats.fd,
            *(each.fileno() for bound in self._sockets.values() for each in bound),
        ]
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-m", "screening.worker", json.dumps(given)],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we tell them
            )
        worker = Process(slot, seat, process, ours)
        self._all.add(worker)
        return worker

    async def _attend(self, worker: Process) -> None:
        """Talk to it, and notice its end."""
        worker.channel = channel = await Channel.over(worker.end)
        worker.send({"what": "begin", **self._began})
        descriptor = os.pidfd_open(worker.process.pid)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._do(self._bury(worker))

        loop.add_reader(descriptor, ended)
        worker.listening = asyncio.create_task(self._listen(worker, channel))

    async def _listen(self, worker: Process, channel: Channel) -> None:
        async for message in channel.messages():
            worker.heard = time.monotonic()
            self._hear(worker, message)

    def _hear(self, worker: Process, message: Message) -> None:
        match message["what"]:
            case "ready":
                self._admit(worker)
            case "metrics":
                worker.counted = message["families"]
                self._answered(worker, message.get("number", 0))
            case "scrape":
                self._do(self._answer_scrape(worker, message["number"]))
            case "tell_all":
                self._do(self._tell_all(worker, message))
            case "reply":
                self._replies.setdefault(message["number"], []).append(message["answer"])
                self._answered(worker, message["number"])

    def _admit(self, worker: Process) -> None:
        if self._stopping:
            return
        first, self._listening = not self._listening, True
        if first:
            for name, bound in self._sockets.items():
                listen(bound)
                write_port(self._settings.state_dir, name, bound)
        worker.stage = Stage.READY
        worker.send({"what": "accept"})
        self._note()
        if first:
            self._ready()

    async def _bury(self, worker: Process) -> None:
        """Keep what it had counted, and give its place free."""
        if (last := usage(worker.process.pid)) is not None:
            worker.usage = last
        worker.process.wait()
        # What it sent before it ended may not have been read yet.
        if worker.listening is not None:
            await asyncio.wait([worker.listening], timeout=COLLECT_SECONDS)
        if worker.channel is not None:
            worker.channel.close()
        self._dead.add(worker.counted)
        self._cpu[worker.slot] += worker.usage.cpu_seconds
        self._seats.clear(worker.seat)
        self._free_seats.add(worker.seat)
        self._all.discard(worker)
        for number in tuple(self._asked):
            self._answered(worker, number)
        worker.gone = True
        self._note()

    async def _keep(self, slot: int) -> None:
        """Start a worker again whenever it dies."""
        while True:
            worker = self._current[slot]
            await self._until(lambda: worker.gone or self._current[slot] is not worker)  # noqa: B023
            async with self._locks[slot]:
                if self._current[slot] is not worker:
                    continue
                if self._stopping:
                    return
                ending = _ending(worker.process.returncode)
                if not self._listening and all(each.gone for each in self._current):
                    # None ever worked: who started it shall see that.
                    log.error("%s ended at start with %s", worker.name, ending)
                    self._end(failed=True)
                    return
                reason = "hung" if worker.hung else "died"
                self._restarts[slot, reason] += 1
                delay = self._delay(slot, worker)
                log.error(
                    "%s %s with %s, another is started in %g s", worker.name, reason, ending, delay
                )
                if not await self._until(lambda: self._stopping, seconds=delay):
                    self._current[slot] = self._spawn(slot)
                    await self._attend(self._current[slot])

    def _delay(self, slot: int, worker: Process) -> float:
        if time.monotonic() - worker.started >= SETTLED_SECONDS:
            self._delays[slot] = 0.0
        delay = self._delays[slot]
        self._delays[slot] = min(LONGEST_DELAY_SECONDS, max(FIRST_DELAY_SECONDS, 2 * delay))
        return delay

    # Signals

    def _pass_on_hangup(self) -> None:
        for worker in self._all:
            if not worker.gone:
                worker.process.send_signal(signal.SIGHUP)

    def _start_rolling(self) -> None:
        if self._rolling or self._stopping:
            log.warning("SIGUSR2: workers are being replaced already")
            return
        self._rolling = True
        self._do(self._roll())

    async def _roll(self) -> None:
        """Replace worker after worker; the first that does not come up ends it."""
        log.info("SIGUSR2: replacing %d worker(s), one after the other", len(self._current))
        try:
            for slot in range(len(self._current)):
                if self._stopping or not await self._replace(slot):
                    return
            log.info("every worker has been replaced")
        finally:
            self._rolling = False

    async def _replace(self, slot: int) -> bool:
        async with self._locks[slot]:
            old, new = self._current[slot], self._spawn(slot)
            await self._attend(new)
            await self._until(lambda: new.is_up or new.gone, seconds=START_SECONDS)
            if not new.is_up:
                log.error("%s did not come up, %s goes on", new.name, old.name)
                new.kill()
                self._restarts[slot, "failed"] += 1
                return False
            self._current[slot] = new
            self._restarts[slot, "replaced"] += 1
            if not old.gone:
                old.stage = Stage.DRAINING
                old.send({"what": "drain", "leave_queue": True})
            self._note()  # who keeps this slot looks to the new one
        await self._await_end([old])
        return True

    # Seen by operations

    async def _look(self) -> None:
        """Keep what workers count before they may die, and notice one that hangs."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._collect()
            now = time.monotonic()
            for worker in tuple(self._all):
                limit = START_SECONDS if worker.stage is Stage.STARTING else HUNG_SECONDS
                if now - worker.heard > limit and not worker.gone:
                    log.error("%s has not been heard of for %d s: killed", worker.name, limit)
                    worker.hung = True
                    worker.kill()

    async def _collect(self) -> None:
        """Ask every worker for its metrics; several who want them at once share one question."""
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(self._ask({"what": "metrics"}, COLLECT_SECONDS))
        await asyncio.shield(self._collecting)
        for worker in self._all:
            worker.usage = usage(worker.process.pid) or worker.usage

    async def _ask(
        self, message: Message, seconds: float, *, but: Process | None = None, number: int = 0
    ) -> None:
        """Send to every worker that runs, and wait until all have answered or are gone."""
        number = number or next(self._numbers)
        asked = {
            each for each in self._all
            if each is not but and each.channel is not None and each.stage is not Stage.STARTING
        }  # fmt: skip
        if not asked:
            return
        done = asyncio.Event()
        self._asked[number] = ({each.seat for each in asked}, done)
        for each in asked:
            each.send({**message, "number": number})
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await done.wait()
        finally:
            del self._asked[number]

    def _answered(self, worker: Process, number: int) -> None:
        if number in self._asked:
            waiting, done = self._asked[number]
            waiting.discard(worker.seat)
            if not waiting:
                done.set()

    async def _answer_scrape(self, worker: Process, number: int) -> None:
        await self._collect()
        text = exposition([*self._metrics(), *self._own_metrics()]).decode()
        worker.send({"what": "scraped", "number": number, "text": text})

    async def _tell_all(self, worker: Process, message: Message) -> None:
        """Pass a message on to every other worker, and their answers back."""
        number = next(self._numbers)
        await self._ask(message["message"], _REPLY_SECONDS, but=worker, number=number)
        answers = self._replies.pop(number, [])
        worker.send({"what": "told_all", "number": message["number"], "answers": answers})

    def _metrics(self) -> list[Metric]:
        return merged(
            [each.counted for each in self._all],
            self._dead,
            speaking={str(each.slot): each.counted for each in self._current if not each.gone},
        )

    def _own_metrics(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "screening_worker_up", "1 while this worker answers calls.", labels=("worker",)
        )
        memory = GaugeMetricFamily(
            "screening_worker_resident_bytes", "Memory that a worker holds.", labels=("worker",)
        )
        cpu = CounterMetricFamily(
            "screening_worker_cpu_seconds",
            "Processor time of a worker and those before it, in seconds.",
            labels=("worker",),
        )
        restarts = CounterMetricFamily(
            "screening_worker_restarts",
            "Workers started anew: one died or hung, was replaced when asked to (SIGUSR2), or the "
            "replacement failed to come up.",
            labels=("worker", "reason"),
        )
        for slot, current in enumerate(self._current):
            worker = str(slot)
            up.add_metric((worker,), float(current.is_up))
            memory.add_metric((worker,), current.usage.resident if not current.gone else 0)
            living = sum(each.usage.cpu_seconds for each in self._all if each.slot == slot)
            cpu.add_metric((worker,), self._cpu[slot] + living)
            for reason in ("died", "hung", "replaced", "failed"):
                restarts.add_metric((worker, reason), self._restarts[slot, reason])
        return up, memory, cpu, restarts

    def kill_all(self) -> None:
        """End the workers at once: the service did not come up."""
        for each in tuple(self._all):
            each.kill()
            each.process.wait()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
