"""`screening serve` as a process: started, stopped, started again, started with nothing there."""

import os
import signal
from pathlib import Path

import httpx
import pytest
import redis
from tests.conftest import server_program
from tests.running import running_service, wait_for
from tests.servers import IndexServer

CONSENTED = {
    "calling": "+12125550123",
    "called": "+12125550101",
    "attestation": "A",
    "verstat": "TN-Validation-Passed",
}
REPORTED = {"calling": "+441632960077", "called": "+441632960001"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, the embedded server gone with it, nothing left but the data."""
    state = tmp_path / "state"
    with running_service(state, "--sample") as service:
        with redis.Redis(unix_socket_path=str(state / "valkey.sock")) as index:
            pid = int(index.info("server")["process_id"])
        os.kill(service.process.pid, number)
        assert service.process.wait(timeout=20) == 0
        assert "Traceback" not in service.log
    assert not (state / "http.port").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_second_start_finds_the_data(tmp_path: Path) -> None:
    """Lists, entities and consents are there without the sample being loaded again."""
    state = tmp_path / "state"
    with running_service(state, "--sample") as service:
        first = service.screen(**CONSENTED, call_id="same")
        assert first["cause"] == "consented"
        assert service.screen(**REPORTED)["cause"] == "network_list"
    with running_service(state) as service:
        again = service.screen(**CONSENTED, call_id="same")
        assert again["cause"] == "consented"
        assert again["decision_id"] == first["decision_id"]
        assert service.screen(**REPORTED)["cause"] == "network_list"


def test_it_starts_with_the_index_and_the_record_gone(tmp_path: Path) -> None:
    """Calling-side lists and rules stand on local disk; the facts are unknown, nobody waits."""
    state, servers = tmp_path / "state", tmp_path / "servers"
    servers.mkdir()
    server = IndexServer(server_program("valkey"), servers)
    server.start()
    with running_service(state, "--sample", redis_url=server.url) as service:
        assert service.screen(**REPORTED)["cause"] == "network_list"
    server.kill()
    (state / "record.db").rename(tmp_path / "record.db")
    (state / "record.db").mkdir()  # a database that cannot be opened
    with running_service(state, redis_url=server.url) as service:
        assert service.screen(**REPORTED)["cause"] == "network_list"
        verdict = service.screen(**CONSENTED)
        assert (verdict["action"], verdict["degraded"]) == ("allow", True)
        assert service.ready()["failures"]
        key = {"Authorization": f"Bearer {service.first_key}"}
        refused = httpx.post(service.url + "/v1/admin/rules/reload", headers=key)
        assert refused.status_code == 503
        (state / "record.db").rmdir()
        (tmp_path / "record.db").rename(state / "record.db")
        wait_for(lambda: "record" not in service.ready()["failures"], seconds=10, what="the record")


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """A second service on the port of the first ends with a message, not with a traceback."""
    with running_service(tmp_path / "one") as first:
        port = first.url.rsplit(":", 1)[1]
        with (
            pytest.raises(AssertionError, match="the service ended") as ended,
            running_service(tmp_path / "two", port=port),
        ):
            pass
        assert "Traceback" not in str(ended.value)
        assert "Address already in use" in " ".join(str(ended.value).split())


def test_an_index_server_that_may_evict_is_refused_by_name(tmp_path: Path) -> None:
    """An evicted refusal would read as none: such a server is reported and not used."""
    server = IndexServer(
        server_program("valkey"), tmp_path, "--maxmemory", "50mb", "--maxmemory-policy",
        "allkeys-lru",
    )  # fmt: skip
    server.start()
    try:
        with (
            pytest.raises(AssertionError, match="noeviction"),
            running_service(tmp_path / "state", redis_url=server.url),
        ):
            pass
    finally:
        server.kill()
