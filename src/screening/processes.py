"""What the kernel says of a process of ours: the processor time and the memory it takes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Since the process began; `resident` is what it holds in memory now, in bytes."""

    cpu_seconds: float
    resident: int


def usage(pid: int) -> Usage | None:
    """None for a process that is gone. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""
    folder = Path("/proc") / str(pid)
    try:
        # The name, in brackets, may hold anything.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        pages = int((folder / "statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, pages * _PAGE)
