"""The service as a process of its own, started and stopped for tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
START_SECONDS = 40


def wait_for(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Return as soon as the condition holds; fail with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            message = f"waited {seconds} s for {what}"
            raise AssertionError(message)
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run still."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def command_of(pid: int) -> str:
    """The words that a process was started with; "" for one that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@dataclass
class Running:
    """A service that runs: its base URL, state folder, process and environment."""

    url: str
    state: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    @property
    def log(self) -> str:
        """Everything it wrote so far."""
        return (self.state / "service.log").read_text("utf-8", "replace")

    @property
    def first_key(self) -> str:
        """The key made on the first start; it has every role."""
        return (self.state / "first-key").read_text().strip()

    def port(self, name: str) -> int:
        """Where a listener beside HTTP is: `rpc`, `grpc`."""
        return int((self.state / f"{name}.port").read_text())

    def workers(self) -> list[int]:
        """The processes that answer calls, those that start or drain included."""
        return [pid for pid in children(self.process.pid) if "screening.worker" in command_of(pid)]

    def screen(self, **fields: object) -> dict[str, object]:
        """The answer to one question, asked by POST with the first key."""
        headers = {"Authorization": f"Bearer {self.first_key}"}
        answer = httpx.post(self.url + "/v1/screen", json=fields, headers=headers, timeout=5)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ready(self) -> dict[str, object]:
        """The body of /readyz."""
        return dict(httpx.get(self.url + "/readyz", timeout=5).json())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels; 0 when there is none."""
        total = 0.0
        for line in httpx.get(self.url + "/metrics", timeout=5).text.splitlines():
            sample = line.split(" ")[0]
            if line.startswith("#") or sample.split("{")[0] != name:
                continue
            if all(f'{label}="{value}"' in sample for label, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def cli(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A `screening` command on the same state."""
        return command(*words, environment=self.environment, check=check)


def command(
    *words: str, environment: dict[str, str], check: bool = True
) -> subprocess.CompletedProcess[str]:
    """A `screening` command; fails the test with its output when it exits other than 0."""
    done = subprocess.run(
        [sys.executable, "-m", "screening", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def environment_of(state: Path, *, redis_url: str = "", **settings: str) -> dict[str, str]:
    """The environment of a service over `state`, without what the outside says of one."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCREENING_")}
    environment |= {
        "PYTHONPATH": str(ROOT / "src"),
        "SCREENING_STATE_DIR": str(state),
        "SCREENING_PORT": "0",
        "SCREENING_RPC_PORT": "0",
        "SCREENING_GRPC_PORT": "0",
        "SCREENING_WATCH_INTERVAL_MS": "100",
        # What is asked of the verdicts must not depend on how busy the machine is; the tests of
        # failures and of overload set what they are about.
        "SCREENING_FACTS_BUDGET_MS": "500",
        "SCREENING_SHED_LAG_MS": "0",
    }
    if redis_url:
        environment["SCREENING_REDIS_URL"] = redis_url
    return environment | {f"SCREENING_{name.upper()}": value for name, value in settings.items()}


@contextlib.contextmanager
def running_service(
    state: Path, *options: str, redis_url: str = "", **settings: str
) -> Iterator[Running]:
    """`screening serve` over `state` on a free port, ready; stopped when the block ends."""
    state.mkdir(parents=True, exist_ok=True)
    environment = environment_of(state, redis_url=redis_url, **settings)
    port_file = state / "http.port"
    port_file.unlink(missing_ok=True)
    with (state / "service.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "screening", "serve", *options],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = Running("", state, process, environment)

    def answers() -> bool:
        assert process.poll() is None, f"the service ended: {running.log}"
        if not running.url and port_file.exists() and (port := port_file.read_text().strip()):
            running.url = f"http://127.0.0.1:{port}"
        if not running.url:
            return False
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(running.url + "/readyz", timeout=5).status_code == 200
        return False

    try:
        wait_for(answers, seconds=START_SECONDS, what="the service to be ready")
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
