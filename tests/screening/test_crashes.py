"""Writers killed at every step of a write: ledger and index are equal, nothing told is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import server_program
from tests.crashes import STEPS
from tests.postgres import Postgres
from tests.running import ROOT, environment_of
from tests.servers import IndexServer

KILLS = int(os.environ.get("SCREENING_TEST_KILLS", "140"))
"""On each database: twenty at each step; `make crash-test` has a thousand."""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_each_step(
    tmp_path: Path, in_memory: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Whatever step it was, the index catches up without a person; see `tests.crashes`."""
    server = IndexServer(server_program("valkey"), tmp_path)
    server.start()
    url = ""
    if kind == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    environment = environment_of(in_memory, redis_url=server.url, database_url=url)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.crashes", "--kills", str(KILLS)],
            cwd=ROOT,
            env=environment | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    finally:
        server.kill()
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{KILLS} writers killed" in done.stdout
    assert all(f'"{step}": ' in done.stdout for step in STEPS), done.stdout
