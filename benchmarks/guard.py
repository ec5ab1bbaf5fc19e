"""Has a call become dearer? Instructions of the decision path against the committed baseline.

A noisy machine changes seconds, not instructions: valgrind's callgrind counts those of a fixed,
seeded set of questions from their bytes to the bytes of their answers. One interpreter is started
and warmed, and forks for each count; what two run lengths have in common, the start included,
falls out of their difference.

    python -m benchmarks.guard            # 1 when a call costs over 5 % more than the baseline
    python -m benchmarks.guard --new      # write what was measured as the baseline

An entry of the baseline is of one interpreter, one processor family and one version of each
library on the path; where this machine has no entry, that is said, and fails only in CI.
"""

import argparse
import gc
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).parents[1]
BASELINE: Final = Path(__file__).parent / "baseline.json"
LIBRARIES: Final = ("orjson", "google-re2")
"""Those whose code a call runs through."""

SEED: Final = 20_261_124
WARM: Final = 300
SHORT, LONG = 100, 600
STEPS: Final = ("read", "decide", "write")
LIMIT_PERCENT: Final = 5.0
TOLD_PERCENT: Final = 1.0
"""From here on a change is worth a word; twice the same code differs by a hundredth of it."""

_SUMMARY: Final = re.compile(r"^summary: (\d+)", re.MULTILINE)


def key() -> str:
    """What a count is good for: interpreter, processor, libraries."""
    parts = [f"{platform.python_implementation()} {platform.python_version()}", platform.machine()]
    return ", ".join(parts + [f"{name} {version(name)}" for name in LIBRARIES])


def works(path: Any) -> list[Callable[[bytes], object]]:
    """The way of a call up to and with each step."""
    return [
        path.read,
        lambda body: path.decide(path.read(body)),
        path.answer,
    ]


def asked_digest(bodies: list[bytes]) -> str:
    """Names the questions: counts of others are not to be compared."""
    return hashlib.sha256(b"\n".join(bodies)).hexdigest()[:16]


def run_counted(folder: Path) -> None:
    """Under valgrind: one child for each step and length, each with a count of its own."""
    from benchmarks.path import DecisionPath, bodies

    path = DecisionPath()
    asked = bodies(SEED, LONG)
    for body in bodies(SEED + 1, WARM):
        path.answer(body)
    gc.collect()
    gc.freeze()
    gc.disable()
    children = {}
    for step, work in zip(STEPS, works(path), strict=True):
        for length in (SHORT, LONG):
            child = os.fork()
            if not child:
                for body in asked[:length]:
                    work(body)
                os._exit(0)
            os.waitpid(child, 0)
            children[f"{step} {length}"] = child
    (folder / "children.json").write_text(json.dumps(children))


def count() -> dict[str, int]:
    """Instructions a call, by step and in all."""
    with tempfile.TemporaryDirectory(prefix="bench-guard-") as name:
        folder = Path(name)
        words = [
            # Where objects lie decides how some sets and dictionaries are filled.
            *(["setarch", "-R"] if shutil.which("setarch") else []),
            "valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={folder}/%p",
            sys.executable, "-m", "benchmarks.guard", "--counted", str(folder),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"callgrind ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        children = json.loads((folder / "children.json").read_text())
        totals = {each: _instructions(folder / str(pid)) for each, pid in children.items()}
    upto = [
        (totals[f"{step} {LONG}"] - totals[f"{step} {SHORT}"]) // (LONG - SHORT) for step in STEPS
    ]
    steps = [now - before for now, before in zip(upto, [0, *upto], strict=False)]
    return dict(zip(STEPS, steps, strict=True)) | {"call": upto[-1]}


def _instructions(file: Path) -> int:
    found = _SUMMARY.search(file.read_text())
    if found is None:
        sys.exit(f"{file} has no summary line, expected callgrind's format")
    return int(found[1])


def compare(before: dict[str, int], now: dict[str, int]) -> tuple[Table, float]:
    """The table for people, and by how many percent a call became dearer."""
    shown = Table(title="Instructions a call")
    for head in ("step", "baseline", "now", "change"):
        shown.add_column(head, justify="left" if head == "step" else "right")
    for step, was in before.items():
        change = 100 * (now[step] / was - 1)
        shown.add_row(step, f"{was:,}", f"{now[step]:,}", f"{change:+.2f} %")
    return shown, 100 * (now["call"] / before["call"] - 1)


def judge(baseline: Path, now: dict[str, int], *, asked: str, in_ci: bool) -> tuple[int, str]:
    """The exit code and what to say of a count against the file of baselines."""
    entries = json.loads(baseline.read_text()) if baseline.exists() else {}
    entry = entries.get(key())
    again = "`make bench-guard BASELINE=new` writes what was measured; commit it with its reason."
    if entry is None or entry["questions"] != asked:
        why = (
            f"no baseline for {key()}"
            if entry is None
            else "the questions are others than those of the baseline"
        )
        return int(in_ci), f"{'FAILED' if in_ci else 'skipped'}: {why}. {again}"
    out = Console(highlight=False, width=72)
    with out.capture() as captured:
        table, change = compare(entry["instructions"], now)
        out.print(table)
    said = captured.get()
    if change > LIMIT_PERCENT:
        more = f"a call costs {change:.1f} % more, {LIMIT_PERCENT:g} % is the limit"
        return 1, f"{said}FAILED: {more}. {again}"
    if change < -TOLD_PERCENT:
        return 0, f"{said}A call costs {-change:.1f} % less. {again}"
    return 0, f"{said}As the baseline, within {LIMIT_PERCENT:g} %."


def write_baseline(baseline: Path, now: dict[str, int], *, asked: str) -> None:
    """Keep a count as the entry of this machine's kind, beside those of others."""
    entries = json.loads(baseline.read_text()) if baseline.exists() else {}
    entries[key()] = {"questions": asked, "instructions": now}
    baseline.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", action="store_true", help="write the baseline anew")
    parser.add_argument("--counted", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.counted:
        run_counted(asked.counted)
        return 0
    in_ci = bool(os.environ.get("CI"))
    if shutil.which("valgrind") is None:
        why = "valgrind is not installed: apt-get install valgrind"
        print(f"{'FAILED' if in_ci else 'skipped'}: {why}")
        return int(in_ci)
    from benchmarks.path import bodies

    digest = asked_digest(bodies(SEED, LONG))
    now = count()
    if asked.new:
        write_baseline(BASELINE, now, asked=digest)
        print(f"{now['call']:,} instructions a call are now the baseline of {key()}")
        return 0
    code, said = judge(BASELINE, now, asked=digest, in_ci=in_ci)
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
