"""How many calls a second does one worker answer to Locust, and how fast?

Starts the service on a free port with a state folder of its own and the sample registry, drives
it for a bounded time, prints the table, stops what it started. Exit code 1 when a call failed.
"""

import argparse
import contextlib
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
START_SECONDS = 60


@contextlib.contextmanager
def service(state: Path, **settings: str) -> Iterator[str]:
    """The service on a free port over `state`, with the sample registry; its base URL."""
    port_file = state / "http.port"
    log = (state / "service.log").open("wb")
    environment = {**os.environ, "SCREENING_STATE_DIR": str(state), "SCREENING_PORT": "0"}
    environment |= {"SCREENING_RPC_PORT": "0", "SCREENING_GRPC_PORT": "0"} | settings
    process = subprocess.Popen(
        [sys.executable, "-m", "screening", "serve", "--sample"],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        url = ""
        while not url:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the service did not start:\n" + (state / "service.log").read_text())
            with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
                candidate = f"http://127.0.0.1:{int(port_file.read_text())}"
                with urllib.request.urlopen(candidate + "/readyz", timeout=1):  # noqa: S310
                    url = candidate
            time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def drive(url: str, *, users: int, seconds: int, results: Path) -> dict[str, str]:
    """Locust against `url`; the aggregated row of its statistics."""
    subprocess.run(
        [
            sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless",
            "--host", url, "-u", str(users), "-r", str(users), "-t", f"{seconds}s",
            "--csv", str(results / "locust"), "--only-summary", "--loglevel", "ERROR",
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=seconds + 60,
        check=False,
    )  # fmt: skip
    with (results / "locust_stats.csv").open(newline="") as rows:
        return next(row for row in csv.DictReader(rows) if row["Name"] == "Aggregated")


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=16, help="connections at once (16)")
    parser.add_argument("--seconds", type=int, default=20, help="how long, in seconds (20)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="screening-load-") as folder:
        state = Path(folder)
        with service(state) as url:
            row = drive(url, users=asked.users, seconds=asked.seconds, results=state)
    table = Table(title=f"Locust, {asked.users} connections, {asked.seconds} s, closed loop")
    for head in ("requests", "failures", "requests/s", "p50 ms", "p95 ms", "p99 ms", "max ms"):
        table.add_column(head, justify="right")
    table.add_row(
        row["Request Count"],
        row["Failure Count"],
        f"{float(row['Requests/s']):.0f}",
        row["50%"],
        row["95%"],
        row["99%"],
        f"{float(row['Max Response Time']):.0f}",
    )
    Console().print(table)
    return 1 if int(row["Failure Count"]) or not int(row["Request Count"]) else 0


if __name__ == "__main__":
    sys.exit(main())
