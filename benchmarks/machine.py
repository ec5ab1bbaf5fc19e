"""What figures were taken on: without it they say nothing."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Final

from screening.compiled import is_compiled

ROOT: Final = Path(__file__).parents[1]


def machine() -> dict[str, Any]:
    """Commit, processor, memory, what else ran, the versions that matter everywhere, and whether
    the decision path is machine code."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, check=False
    )
    with Path("/proc/cpuinfo").open() as lines:
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return {
        "commit": commit.stdout.decode().strip(),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiled": is_compiled(),
    }


def in_words(about: dict[str, Any]) -> str:
    """The same as one line."""
    return (
        f"commit {about['commit']}, {about['cores']} × {about['cpu'] or 'unknown processor'}, "
        f"{about['memory_gib']:g} GiB, Linux {about['kernel']}, Python {about['python']}, "
        f"decision path {'compiled' if about['compiled'] else 'interpreted'}, "
        f"load average before {about['load_average_before']:g}"
    )
