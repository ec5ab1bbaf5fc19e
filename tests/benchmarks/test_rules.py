"""The benchmarks run: their tables have their rows, whatever stands in them."""

import subprocess
import sys

from tests.running import ROOT


def test_rules_quickly() -> None:
    """Three tables, one ratio of latencies during reloads."""
    words = [sys.executable, "-m", "benchmarks.rules", "--quick"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    for words_of in (
        "A call, median (p99)",
        "registered",
        "Loading with a case a rule",
        "during 2 of a set of 50 rules",
        "ratio",
    ):
        assert words_of in told
