"""Who is compared: the service, nginx with Lua and Redis, and FastAPI; started, checked, weighed.

All of them run over one index server and one registry, on the same core as that server; the
programs that ask have another core, and the recorder of the service runs there too: no answer
waits for it, and what it costs is told beside. A contestant whose answers are wrong is not
timed.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from benchmarks import processes
from benchmarks.nation import CODE, Nation
from benchmarks.peers import nginx
from benchmarks.traffic import ID
from screening.embedded import EmbeddedServer
from screening.settings import Settings
from screening.state import open_files

ROOT: Final = Path(__file__).parents[1]
START_SECONDS: Final = 60
CHECKED: Final = 600
TRIES: Final = 20

NOT_IN_FULL: Final = "screening_degraded_total"
"""Counts the calls that were answered without all facts, or without being screened at all."""

SERVICE, NGINX, FASTAPI = "service", "nginx + Lua + Redis", "FastAPI + pydantic"


RECORDER: Final = "screening.recording.recorder"


class WrongAnswer(Exception):
    """A contestant does not answer what it must; it is not worth timing."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that listens on `port` of this machine; `ready_seconds` from its start to that."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    ready_seconds: float

    @property
    def pids(self) -> list[int]:
        """Its processes that answer."""
        recorders = self.recorders
        return [pid for pid in processes.family(self.process.pid) if pid not in recorders]

    @property
    def recorders(self) -> list[int]:
        """Its processes that record what was answered, after it was."""
        family = processes.family(self.process.pid)
        return [pid for pid in family if RECORDER in processes.command_line(pid)]

    def cpu_us(self) -> float:
        """Processor time that those who answer have used so far."""
        return sum(processes.cpu_us(pid) for pid in self.pids)

    def recorder_cpu_us(self) -> float:
        """That of those who record."""
        return sum(processes.cpu_us(pid) for pid in self.recorders)

    def record_on(self, core: int) -> None:
        """Have the recorder run on another core than those who answer."""
        for pid in self.recorders:
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {core})

    def memory(self) -> list[processes.Memory]:
        """Of each of its processes, the largest first."""
        every = processes.family(self.process.pid)
        return sorted(map(processes.Memory.of, every), key=lambda each: -each.pss)

    def metric(self, *names: str) -> float:
        """The sum of all samples of these names in the service's metrics."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] in names
        )

    def ask(self, connection: http.client.HTTPConnection, body: str) -> tuple[int, dict[str, Any]]:
        """The status of one answer, and the answer."""
        connection.request("POST", "/v1/screen", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def cores() -> tuple[int, int]:
    """The core of who answers, and that of who asks; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextlib.contextmanager
def pinned(*to: int) -> Iterator[None]:
    """Run this process, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def index_server(folder: Path, core: int) -> Iterator[tuple[str, int]]:
    """The index server of a nation's folder on a core: its URL and its process."""
    server = EmbeddedServer(folder)
    with pinned(core):
        url = server.start()
    try:
        with redis.Redis.from_url(url) as client:
            pid = int(client.info("server")["process_id"])
            # An index of a whole nation is written anew when it has grown by as much as it is. A
            # small one would be every quarter of a minute, by a process on the answering core.
            client.config_set("auto-aof-rewrite-min-size", "1gb")
        os.sched_setaffinity(pid, {core})
        yield url, pid
    finally:
        server.stop()


@contextlib.contextmanager
def started(
    name: str,
    words: Sequence[str],
    *,
    folder: Path,
    on: Sequence[int],
    port: int = 0,
    **settings: str,
) -> Iterator[Contestant]:
    """A contestant, ready; stopped when the block ends. Port 0: the service finds one."""
    port_file = folder / "http.port"
    if not port:
        port_file.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCREENING_")}
    environment |= {
        "SCREENING_STATE_DIR": str(folder),
        "SCREENING_PORT": "0",
        "SCREENING_RPC_PORT": "off",
        "SCREENING_GRPC_PORT": "off",
    } | settings
    log = folder / f"{name.split(maxsplit=1)[0].lower()}.log"
    began = time.monotonic()
    with log.open("wb") as out, pinned(*on):
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        while not _ready(port or _number_in(port_file), name):
            if process.poll() is not None or time.monotonic() > began + START_SECONDS:
                sys.exit(f"{name} did not start:\n{log.read_text('utf-8', 'replace')}")
            time.sleep(0.005)
        yield Contestant(name, port or _number_in(port_file), process, time.monotonic() - began)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _number_in(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _ready(port: int, name: str) -> bool:
    """Whether it takes calls: where there is no /readyz, whether it answers."""
    if not port:
        return False
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
        return status == (404 if name == NGINX else 200)
    return False


def serving(
    folder: Path, *, on: Sequence[int], workers: int = 0, **settings: str
) -> contextlib.AbstractContextManager[Contestant]:
    """`screening serve` over a folder; `workers` 0 leaves the number to the service."""
    words = [sys.executable, "-m", "screening", "serve"]
    if workers:
        words += ["--workers", str(workers)]
    return started(SERVICE, words, folder=folder, on=on, **settings)


def fastapi(folder: Path, *, on: Sequence[int]) -> contextlib.AbstractContextManager[Contestant]:
    """The same decision by a route of FastAPI."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.peers.fastapi_peer", str(port)]
    # One recall a folder: the service has it.
    return started(FASTAPI, words, folder=folder, on=on, port=port, SCREENING_RECALL_CALLS="0")


@contextlib.contextmanager
def lua(folder: Path, nation: Nation, *, redis_url: str, on: Sequence[int]) -> Iterator[Contestant]:
    """The raw lookup by nginx."""
    port = free_port()
    with open_files(Settings(state_dir=folder)) as state:
        file = nginx.write_configuration(
            folder / "nginx", nation, record=state.record(), redis_url=redis_url, port=port
        )
    words = ["/usr/sbin/nginx", "-e", str(folder / "nginx" / "error.log"), "-c", str(file)]
    with started(NGINX, words, folder=folder, on=on, port=port) as contestant:
        yield contestant


def check(contestant: Contestant, nation: Nation, questions: Path) -> int:
    """How many answers were compared with what must be said. Raises WrongAnswer."""
    by_number = {each.number: each for each in nation.businesses}
    prefers = {each.called for each in nation.events() if each.kind == "preferences.set"}
    connection = http.client.HTTPConnection("127.0.0.1", contestant.port, timeout=5)
    compared = 0
    with questions.open(encoding="utf-8") as lines:
        for n, line in zip(range(CHECKED), lines, strict=False):
            asked = json.loads(line[1:])
            for _ in range(TRIES):
                status, answer = contestant.ask(connection, line[1:].replace(ID, f"check-{n:06}"))
                # A machine with other work may let the index's deadline pass; what is asked
                # here is what is answered with all facts.
                if status != 200 or not answer.get("degraded"):
                    break
            if status != 200 or answer.get("degraded"):
                raise WrongAnswer(f"{contestant.name}: status {status}, {answer} to {asked}")
            business = by_number.get(_digits(asked["calling"]))
            called = _digits(asked["called"])
            if business is None or called < CODE or called in prefers:
                continue
            expected = _expected(
                nation, called, business.number, business.category, contestant.name
            )
            got = {name: answer.get(name) for name in expected}
            if got != expected:
                raise WrongAnswer(f"{contestant.name}: {got} to {asked}, expected {expected}")
            compared += 1
    connection.close()
    if not compared:
        raise WrongAnswer(f"none of {CHECKED} questions could be compared")
    return compared


def _digits(text: str) -> int:
    return int(text[1:]) if text[:1] == "+" and text[1:].isdigit() else 0


def _expected(
    nation: Nation, called: int, calling: int, category: str, name: str
) -> dict[str, object]:
    """What a business's call comes to, computed from what was drawn."""
    listed = nation.refuses(called, "all") or (
        category in nation.listed and nation.refuses(called, category)
    )
    consented = (called, calling) in nation.consented
    if name == NGINX:
        return {"known": True, "listed": listed, "consent": consented, "personal": False}
    if consented:
        return {"action": "allow", "cause": "consented"}
    if listed:
        return {"action": "block", "cause": "subscriber_refusal"}
    return {"action": "warn", "cause": "no_consent"}
