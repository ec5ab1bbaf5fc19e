"""What a process of a node last said of itself, for the metrics of whichever worker is asked."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_status(path: Path, said: Mapping[str, Any]) -> None:
    """Say it anew, with "at", epoch seconds. What a full disk refuses goes stale."""
    beside = path.with_name(path.name + ".new")
    with contextlib.suppress(OSError):
        beside.write_text(json.dumps(said))
        beside.replace(path)


def read_status(path: Path, *, stale_seconds: float) -> dict[str, Any] | None:
    """What it said, None where that is older, or no such process has ever run."""
    try:
        status = json.loads(path.read_bytes())
        return dict(status) if abs(time.time() - status["at"]) < stale_seconds else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
