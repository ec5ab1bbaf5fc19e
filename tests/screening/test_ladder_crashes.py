"""Writers of steps of the ladder that are killed: no step is lost, none is taken twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ladder_crashes import KINDS
from tests.postgres import Postgres
from tests.running import ROOT, environment_of


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_each_step(in_memory: Path, kind: str, request: pytest.FixtureRequest) -> None:
    """Wherever it was, ledger, stage and audit say the same, and whoever looks next takes the step
    that was not taken, once; see `tests.ladder_crashes`."""
    url = ""
    if kind == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    done = subprocess.run(
        [sys.executable, "-m", "tests.ladder_crashes"],
        cwd=ROOT,
        env=environment_of(in_memory, database_url=url) | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    killed = json.loads(done.stdout.partition(": ")[2])
    # A writer dies at each of the three statements, and around each of its commits.
    assert killed.keys() == set(KINDS)
    assert min(killed.values()) >= 5, done.stdout
