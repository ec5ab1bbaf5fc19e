"""The README's own commands, run as they stand there."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.running import ROOT, Running

README = (ROOT / "README.md").read_text("utf-8")
CURL = re.compile(r"^curl .*$", re.MULTILINE)
SHOWN = re.compile(r"```sh\n(curl [^`]*?)```\s*```json\n(.*?)```", re.DOTALL)
ADDRESS = "http://127.0.0.1:8080"


def run(service: Running, line: str) -> dict[str, object]:
    """What a curl line of the README answers, asked of this service."""
    assert ADDRESS in line
    done = subprocess.run(
        ["bash", "-c", line.replace(ADDRESS, service.url)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("line", CURL.findall(README))
def test_every_curl_line_answers(service: Running, line: str) -> None:
    """Each line works as it stands and gets a verdict."""
    assert run(service, line)["action"] in ("allow", "warn", "block")


def test_the_shown_answer_is_the_answer(service: Running) -> None:
    """What the first screen shows is what comes, but for what differs from call to call."""
    (line, shown), *_ = SHOWN.findall(README)
    expected, answer = json.loads(shown), run(service, line.strip())
    for each in (expected, answer):
        # Random without a call id; clock; a rule in shadow that looks at the hour.
        del each["decision_id"], each["latency_us"], each["shadow"]
    assert answer == expected


def test_the_first_screen_says_how(tmp_path: Path) -> None:
    """What it does, both commands, and one curl stand before the first heading below the title."""
    first = README.split("\n## ")[0]
    for words in ("allow, warn or block", "make run", "make test", "curl -s"):
        assert words in first
