"""Overload: what comes in while the loop is held up is answered at once, and screening returns."""

import contextlib
import os
import re
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from tests.running import Running, running_service, wait_for

from screening.overload import SCREENED_AT_FIRST

pytestmark = pytest.mark.timely

US = "+12125550142"
SWITCHES = 3 * SCREENED_AT_FIRST
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\Z")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that sheds at a lag that the noise of a busy machine does not reach."""
    # Of the sockets here, and there: the service takes the limit over.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = tmp_path_factory.mktemp("overload")
    with running_service(folder / "state", "--sample", shed_lag_ms="200") as running:
        yield running


def switches(service: Running, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Connections that have asked once and go on."""
    host, port = service.url.removeprefix("http://").split(":")
    found = []
    for _ in range(SWITCHES):
        switch = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        ask(switch, "112", "before")
        assert answer(switch)["cause"] == "emergency"
        found.append(switch)
    return found


def ask(switch: socket.socket, called: str, call_id: str) -> None:
    body = orjson.dumps({"calling": "+12125550123", "called": called, "call_id": call_id})
    head = b"POST /v1/screen HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    switch.sendall(head + body)


def answer(switch: socket.socket) -> dict[str, object]:
    received = b""
    while not received.endswith(b"}"):
        chunk = switch.recv(65_536)
        assert chunk, received
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK"), received
    return dict(orjson.loads(body))


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_calls_of_a_loop_held_up_are_shed_and_screening_returns(service: Running) -> None:
    """All are answered; the first are screened, emergencies pass as what they are, the rest
    is allowed, degraded, with an id of its own; it shows in the metrics, and it ends."""
    (pid,) = service.workers()
    with contextlib.ExitStack() as stack:
        asking = switches(service, stack)
        shed_before = service.metric("screening_shed_total")
        counted_before = service.metric("screening_decisions_total", ruleset="overload")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: stopped(pid), seconds=10, what="the service to stand still")
            for n, switch in enumerate(asking):
                ask(switch, "112" if n % 8 == 7 else US, f"held-up-{n}")
            # Longer than the lag that is borne; nothing can be waited for but time.
            with contextlib.suppress(TimeoutError):
                asking[0].settimeout(0.5)
                asking[0].recv(1)
                pytest.fail("a service that stands still has answered")
        finally:
            os.kill(pid, signal.SIGCONT)
        asking[0].settimeout(20)
        answers = [answer(switch) for switch in asking]
        assert all(each["cause"] == "emergency" for each in answers[7::8])
        others = [each for n, each in enumerate(answers) if n % 8 != 7]
        shed = [each for each in others if each["ruleset"] == "overload"]
        screened = [each for each in others if each["ruleset"] != "overload"]
        assert len(shed) > SWITCHES / 2
        assert len(screened) >= SCREENED_AT_FIRST / 2
        for each in shed:
            assert (each["action"], each["cause"], each["degraded"]) == ("allow", "degraded", True)
            assert (each["sip"], each["rule"], each["shadow"]) == (None, "default", [])
            assert ID.match(str(each["decision_id"]))
        assert len({each["decision_id"] for each in shed}) == len(shed)
        assert all(each["action"] == "block" for each in screened if not each["degraded"])

    wait_for(lambda: service.metric("screening_overloaded") == 0, seconds=20, what="calm")
    assert service.screen(calling="+12125550123", called=US)["action"] == "block"
    assert service.metric("screening_shed_total") - shed_before == len(shed)
    counted = service.metric("screening_decisions_total", ruleset="overload") - counted_before
    assert counted == len(shed)
    assert service.metric("screening_record_dropped_total", reason="shed") >= len(shed)


def test_one_call_at_a_time_is_never_shed(service: Running) -> None:
    """A loop that something else has held up screens what it can screen in time."""
    (pid,) = service.workers()
    before = service.metric("screening_shed_total")
    with contextlib.ExitStack() as stack:
        host, port = service.url.removeprefix("http://").split(":")
        switch = stack.enter_context(socket.create_connection((host, int(port)), timeout=1))
        os.kill(pid, signal.SIGSTOP)
        try:
            ask(switch, US, "alone")
            with pytest.raises(TimeoutError):
                switch.recv(1)
        finally:
            os.kill(pid, signal.SIGCONT)
        switch.settimeout(20)
        assert answer(switch)["ruleset"] != "overload"
    assert service.metric("screening_shed_total") == before
