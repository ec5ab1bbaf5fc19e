"""The embedded server: started once, shared, found again, left as the last one leaves."""

import os
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from tests.servers import eventually

from consent.index import IndexStore, name_epoch
from screening.embedded import EmbeddedServer, EmbeddedServerError

SOURCE = str(Path(__file__).parents[2] / "src")


def about(url: str) -> dict[str, object]:
    with redis.Redis.from_url(url, protocol=2) as client:
        info: dict[str, object] = client.info()
        return info


def answers(server: EmbeddedServer) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(server.socket_path)) == 0


def written(server: EmbeddedServer) -> bool:
    """Whether all that it answered is in its file: it answers first, and while the disk is slow
    it writes up to two seconds later, which outlives no kill."""
    return about(server.url)["aof_buffer_length"] == 0


def test_serves_an_index_and_finds_it_again(tmp_path: Path) -> None:
    """It is fit for the index, closed to others, and its data outlive a stop."""
    epoch = name_epoch("9f3a")
    with EmbeddedServer(tmp_path / "state") as server:
        IndexStore(server.url).create(epoch)
        found = about(server.url)
        assert (found["maxmemory_policy"], found["aof_enabled"]) == ("noeviction", 1)
        mode = (tmp_path / "state" / "valkey.sock").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        files = [f for f in (tmp_path / "state").rglob("*") if f.is_file()]
        assert not [f for f in files if f.stat().st_mode & 0o077]
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert not answers(EmbeddedServer(tmp_path / "state"))
    with EmbeddedServer(tmp_path / "state") as server:
        store = IndexStore(server.url)
        assert epoch == store.epoch()
        store.close()


def test_the_last_to_leave_shuts_it_down(tmp_path: Path) -> None:
    """Who started it may leave first: it runs until nobody uses it."""
    first, second = EmbeddedServer(tmp_path), EmbeddedServer(tmp_path)
    pid = about(first.start())["process_id"]
    assert pid == about(second.start())["process_id"]
    assert first.start() == second.url
    first.stop()
    first.stop()
    assert pid == about(second.url)["process_id"]
    second.stop()
    assert not answers(second)
    assert not second.socket_path.exists()


def test_starters_do_not_race(tmp_path: Path) -> None:
    """Many at once start one server, and the last of many that leave at once stops it."""
    servers = [EmbeddedServer(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        pids = set(pool.map(lambda server: about(server.start())["process_id"], servers))
        assert len(pids) == 1
        list(pool.map(EmbeddedServer.stop, servers))
    assert not answers(servers[0])


def test_server_of_a_killed_service_is_taken_over(tmp_path: Path) -> None:
    """Ctrl-C does not reach the server; a service that died without leaving hands it on."""
    program = (
        "import signal, sys, time, pathlib; from screening.embedded import EmbeddedServer\n"
        # A shell that runs the tests in the background has SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "EmbeddedServer(pathlib.Path(sys.argv[1])).start(); print('up', flush=True)\n"
        "time.sleep(600)"
    )
    service = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert service.stdout is not None
    assert service.stdout.readline() == b"up\n"
    server = EmbeddedServer(tmp_path)
    pid = about(server.url)["process_id"]
    os.killpg(service.pid, signal.SIGINT)
    service.wait(timeout=30)
    service.stdout.close()
    assert pid == about(server.start())["process_id"]
    server.stop()
    assert not answers(server)


def test_killed_server_is_started_again(tmp_path: Path) -> None:
    """A socket left by a server that was killed does not keep the next from starting."""
    server = EmbeddedServer(tmp_path)
    pid = about(server.start())["process_id"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not answers(server))
    assert server.socket_path.exists()
    again = EmbeddedServer(tmp_path)
    assert pid != about(again.start())["process_id"]
    server.stop()
    again.stop()
    assert not answers(again)


def test_a_server_in_use_is_revived_where_it_has_ended(tmp_path: Path) -> None:
    """With its data, once, however many see that it is gone; one that answers is left alone."""
    epoch = name_epoch("9f3a")
    with EmbeddedServer(tmp_path) as server:
        beside = EmbeddedServer(tmp_path)
        beside.start()
        IndexStore(server.url).create(epoch)
        eventually(lambda: written(server))
        assert not server.revive()
        pid = about(server.url)["process_id"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not answers(server))
        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(EmbeddedServer.revive, [server, beside])) == [False, True]
        store = IndexStore(server.url)
        assert store.epoch() == epoch
        store.close()
        beside.stop()
    assert not answers(server)
    assert not server.revive(), "nobody uses it any more"


def test_folder_with_a_long_name(tmp_path: Path) -> None:
    """Where the socket's path would not fit, it lies in a private folder of /tmp instead."""
    folder = tmp_path / ("state-" + "x" * 100)
    with EmbeddedServer(folder) as server:
        assert EmbeddedServer(folder).url == server.url
        assert len(os.fsencode(server.socket_path)) <= 107
        assert stat.S_IMODE(server.socket_path.parent.stat().st_mode) == 0o700
        assert about(server.url)["process_id"]
    server.socket_path.parent.rmdir()


def test_broken_data_are_named(tmp_path: Path) -> None:
    """A server that cannot read its data says so at once, with the end of its log."""
    with EmbeddedServer(tmp_path) as server:
        IndexStore(server.url).create(name_epoch("9f3a"))
    manifest = next((tmp_path / "appendonlydir").glob("*.manifest"))
    manifest.write_text("no manifest")
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended at start with status 1.*valkey\.log"):
        EmbeddedServer(tmp_path).start()
    assert not answers(EmbeddedServer(tmp_path))


def test_frozen_server_is_named(tmp_path: Path) -> None:
    """A server that listens and does not answer is waited for, then named."""
    with EmbeddedServer(tmp_path) as server:
        pid = about(server.url)["process_id"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(
                EmbeddedServerError, match=r"did not answer PING .* answer: nothing"
            ):
                EmbeddedServer(tmp_path, start_timeout_s=0.1).start()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A state folder that is a file is named as such."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="cannot be"):
        EmbeddedServer(tmp_path / "file").start()
