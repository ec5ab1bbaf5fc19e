"""Services for the tests of the service: see tests/conftest.py for those of a whole session."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import server_program
from tests.running import Running, running_service
from tests.servers import IndexServer

from consent.keyring import PURPOSES, _dump
from consent.private import create_private


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory, where there is a place for it: a killed process leaves the same there as
    on a disk."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session", params=["valkey", "redis"])
def golden_service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A service whose keys are known, so that its decision ids are, and whose client may all.

    Over Valkey it answers in the fast lane, over Redis by uvicorn's own protocol alone.
    """
    lane = "on" if request.param == "valkey" else "off"
    folder = tmp_path_factory.mktemp(f"golden-{request.param}")
    server = IndexServer(server_program(request.param), folder)
    server.start()
    try:
        with known_service(folder / "state", redis_url=server.url, fast_lane=lane) as running:
            yield running
    finally:
        server.kill()


@contextlib.contextmanager
def known_service(state: Path, *, redis_url: str, **settings: str) -> Iterator[Running]:
    """A service with the sample registry whose keys are known, and whose client may all."""
    keys = {purpose: {1: bytes([at + 1]) * 32} for at, purpose in enumerate(PURPOSES)}
    create_private(state / "secrets.json", _dump(keys))
    (state / "clients.toml").write_text(
        '[golden]\nkeys = ["first"]\nnetworks = ["127.0.0.1"]\nmay = ["explain", "at"]\n'
        'asserts = ["trunk", "priority", "purpose", "screening", "cpc", "roaming"]\n'
    )
    with running_service(state, "--sample", redis_url=redis_url, **settings) as running:
        yield running


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Running]:
    """A service of this test alone, over the embedded server, with the sample registry."""
    with running_service(tmp_path / "state", "--sample") as running:
        yield running
