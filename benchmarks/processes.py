"""What Linux says of processes: their processor time and their memory."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they live."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def cpu_us(pid: int) -> float:
    """User and system time of one process in µs, 0 once it is gone; by the scheduler's own clock
    where it tells."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3
    except (OSError, ValueError, IndexError):
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_US


def command_line(pid: int) -> str:
    """The words that a process was started with, "" once it is gone."""
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: `rss` has shared pages in full, `pss` each process's part of them."""

    rss: int
    pss: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Of one process; nothing once it is gone."""
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return cls(0, 0)
        sizes = {
            line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")
        }
        return cls(sizes["Rss"], sizes["Pss"])


LISTENING, ESTABLISHED = "0A", "01"
"""States of a TCP socket, as /proc/net/tcp has them."""


def sockets(port: int, state: str) -> set[str]:
    """The sockets of a TCP port of this machine in a state, as links of descriptors name them."""
    wanted = f":{port:04X}"
    return {
        f"socket:[{fields[9]}]"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(wanted) and fields[3] == state
    }


def until(holds: Callable[[], object], what: str, *, seconds: float = 30.0) -> None:
    """Wait until something holds; who waits in vain ends, and says for what."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.005)


def listener(port: int) -> list[int]:
    """The processes that listen on a TCP port of this machine."""
    listening = sockets(port, LISTENING)
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            links = [os.readlink(each) for each in (folder / "fd").iterdir()]  # noqa: PTH115
        except OSError:
            continue
        if not listening.isdisjoint(links):
            found.append(int(folder.name))
    return found
