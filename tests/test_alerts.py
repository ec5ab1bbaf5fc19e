"""The alert rules: each fires in its own test, and a person who is woken finds what to do."""

import os
import re
import shutil
import subprocess

import pytest
from tests.running import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
ALERTS = (FOLDER / "alerts.yml").read_text()
TESTS = (FOLDER / "alerts_test.yml").read_text()
NAMES = re.findall(r"^ +- alert: (\w+)$", ALERTS, re.MULTILINE)


def promtool(*words: str) -> str:
    """What Prometheus's own tool says; skips where it is missing, fails in CI."""
    if shutil.which("promtool") is None:
        reason = "promtool is not installed: apt-get install --no-install-recommends prometheus"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    done = subprocess.run(
        ["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_are_valid_and_fire_as_their_tests_say() -> None:
    """Prometheus reads them, and each alert fires for the series that it is about."""
    assert "18 rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "rules", "recording.yml")
    promtool("test", "rules", "alerts_test.yml")


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_tested_and_explained(name: str) -> None:
    """It has a test of its own in which it fires, and a place in the runbook that it names."""
    fires = re.search(rf"alertname: {name}\n +exp_alerts:\n +- exp_labels:", TESTS)
    assert fires, "no test in which it fires"
    assert f"runbook: runbook.md#{name.lower()}\n" in ALERTS
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert re.search(rf"^### {name}\n\S", runbook, re.MULTILINE)
