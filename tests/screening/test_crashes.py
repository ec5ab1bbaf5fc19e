"""Writers killed at every step of a write: ledger and index are equal, nothing told is lost."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import server_program
from tests.crashes import STEPS
from tests.postgres import Postgres
from tests.running import ROOT, environment_of
from tests.servers import IndexServer

KILLS = int(os.environ.get("SCREENING_TEST_KILLS", "140"))
"""On each database: twenty at each step; `make crash-test` has a thousand."""


@pytest.fixture
def state() -> Iterator[Path]:
    """In memory, where there is a place for it: a killed process leaves the same as on a disk."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_each_step(
    tmp_path: Path, state: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Whatever step it was, the index catches up without a person; see `tests.crashes`."""
    server = IndexServer(server_program("valkey"), tmp_path)
    server.start()
    url = ""
    if kind == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    environment = environment_of(state, redis_url=server.url, database_url=url)
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
