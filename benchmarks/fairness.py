"""Are a switch's few connections shared out between workers? Beside SO_REUSEPORT, many times over.

So many connections are opened one after the other to a service of four workers, each asks one
question, and the kernel tells which worker holds it. The same is done with four listening sockets
of one port, among which the kernel chooses by a hash of the addresses (SO_REUSEPORT).

    python -m benchmarks.fairness     # half a minute
"""

import argparse
import contextlib
import http.client
import os
import select
import socket
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks import processes
from benchmarks.contestants import Contestant, index_server, serving
from benchmarks.nation import SMALL, Nation

WORKERS: Final = 4
CONNECTIONS: Final = (4, 8, 16, 64)
TRIES: Final = 25
BODY: Final = '{"calling": "+12125550123", "called": "+12125550101"}'


def holders(service: Contestant) -> Counter[int]:
    """How many connections over HTTP each process of the service has open."""
    established = processes.sockets(service.port, processes.ESTABLISHED)
    held: Counter[int] = Counter()
    for pid in service.pids:
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                held[pid] += os.readlink(each) in established  # noqa: PTH115
    return held


@contextlib.contextmanager
def asked(port: int, count: int) -> Iterator[None]:
    """So many connections on which a question was answered, all open at once."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            one = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            stack.callback(one.close)
            one.request("POST", "/v1/screen", BODY)
            if one.getresponse().read()[:1] != b"{":
                sys.exit("a question was not answered")
        yield


def shared_by_the_service(service: Contestant, count: int) -> list[int]:
    """The connections of each worker."""
    with asked(service.port, count):
        held = sorted(holders(service).values(), reverse=True)[:WORKERS]
    if sum(held) != count:
        sys.exit(f"{count} connections are open, and workers hold {sum(held)}")
    processes.until(
        lambda: not sum(holders(service).values()), "the service has closed its connections"
    )
    return held


def shared_by_the_kernel(count: int) -> list[int]:
    """The connections of each of as many sockets of one port."""
    with contextlib.ExitStack() as stack:
        listening: list[socket.socket] = []
        for _ in range(WORKERS):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", listening[0].getsockname()[1] if listening else 0))
            one.listen(256)
            listening.append(one)
        held = [0] * WORKERS
        for _ in range(count):
            stack.enter_context(socket.create_connection(listening[0].getsockname()))
            (ready,) = select.select(listening, [], [], 5)[0]
            stack.enter_context(ready.accept()[0])
            held[listening.index(ready)] += 1
    return held


def figures(every: list[list[int]]) -> tuple[str, str]:
    """Of many tries: the busiest worker over its even share, and tries that left one with none."""
    busiest = statistics.mean(max(held) * WORKERS / sum(held) for held in every)
    idle = sum(min(held) == 0 for held in every) / len(every)
    return f"{busiest:.2f}", f"{idle:.0%}"


def main() -> int:
    """Run it; see --help."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    shown = Table(title=f"{TRIES} tries, {WORKERS} workers")
    for head in ("connections", "service: busiest / its share", "a worker has none",
                 "SO_REUSEPORT: busiest / its share", "a socket has none"):  # fmt: skip
        shown.add_column(head, justify="right")
    with tempfile.TemporaryDirectory(prefix="fairness-") as name:
        folder = Path(name)
        Nation(SMALL).settle_in(folder)
        cores = sorted(os.sched_getaffinity(0))
        with (
            index_server(folder, cores[0]),
            serving(folder, on=cores, workers=WORKERS) as service,
        ):
            for count in CONNECTIONS:
                ours = [shared_by_the_service(service, count) for _ in range(TRIES)]
                theirs = [shared_by_the_kernel(count) for _ in range(TRIES)]
                shown.add_row(str(count), *figures(ours), *figures(theirs))
    Console(highlight=False).print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
