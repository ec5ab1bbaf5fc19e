"""What callers notice when the lookup fails: nothing, but a few milliseconds."""

import contextlib
import os
import signal
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.e2e.conftest import rpc_port
from tests.e2e.phone import Phone
from tests.e2e.switch import Switch, connected, running_switch
from tests.running import Running, running_service, wait_for
from tests.servers import free_ports

CALLED, CALLING = "+12125550101", "+12015550199"
FORWARDED_SECONDS = 0.075
"""In which a call goes on where the service is frozen: 50 ms of budget and what Kamailio adds."""


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Running]:
    """A service of this test alone, to be frozen and killed."""
    (port,) = free_ports(1)
    state = tmp_path / "state"
    with running_service(state, "--sample", rpc_port=str(port)) as running:
        yield running
        freeze(running, signal.SIGCONT)
    # Its own index server outlives a service that was killed.
    with contextlib.suppress(redis.ConnectionError):
        redis.Redis(unix_socket_path=str(state / "valkey.sock")).shutdown(nosave=True)


@pytest.fixture
def onward() -> Iterator[Phone]:
    with Phone(towards=0) as phone:
        yield phone


@pytest.fixture
def switch(failing: Running, onward: Phone, tmp_path: Path) -> Iterator[Switch]:
    """The proxy with the budgets that it ships with; both lookup servers are the one service."""
    port = rpc_port(failing)
    with running_switch(
        tmp_path / "k", "proxy.cfg", first=port, second=port,
        NEXT_HOP=f'"sip:127.0.0.1:{onward.port}"',
    ) as running:  # fmt: skip
        wait_for(lambda: connected(running, port), seconds=20, what="Kamailio to find the service")
        onward.towards = running.port
        yield running


def through(switch: Switch, onward: Phone) -> float:
    """The seconds after which a call was forwarded."""
    with Phone(towards=switch.port) as caller:
        call = caller.invite(CALLED, CALLING)
        invite = onward.hear("INVITE", call=call)
        onward.answer(invite, "486 Busy Here")
        assert caller.final(call).first == "SIP/2.0 486 Busy Here"
    return invite.at - call.sent


def freeze(running: Running, number: signal.Signals) -> None:
    """Signal the supervisor and every worker."""
    for pid in (running.process.pid, *running.workers()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def test_frozen(failing: Running, switch: Switch, onward: Phone) -> None:
    """A frozen service costs a call its budget, then nothing is waited for; it comes back."""
    through(switch, onward)
    freeze(failing, signal.SIGSTOP)
    took = [through(switch, onward) for _ in range(15)]
    counted = switch.counters()
    freeze(failing, signal.SIGCONT)
    assert statistics.median(took) <= FORWARDED_SECONDS
    assert counted["fail_open"] >= 15
    assert counted["dead_first"] >= 1

    def screened() -> bool:
        before = switch.counters()["allowed"]
        through(switch, onward)
        return switch.counters()["allowed"] > before

    wait_for(screened, seconds=20, what="calls to be screened again")


def test_killed(failing: Running, switch: Switch, onward: Phone) -> None:
    """The service dies while calls are being set up: each goes on, and so do those after it."""
    with Phone(towards=switch.port) as caller:
        freeze(failing, signal.SIGSTOP)
        calls = [caller.invite(CALLED, CALLING) for _ in range(20)]
        freeze(failing, signal.SIGKILL)
        for call in calls:
            onward.answer(onward.hear("INVITE", call=call), "486 Busy Here")
        for call in calls:
            assert caller.final(call).first == "SIP/2.0 486 Busy Here"
    through(switch, onward)
    assert switch.counters()["fail_open"] >= 21


def test_second_server(failing: Running, onward: Phone, tmp_path: Path) -> None:
    """Where the first server is gone the second one decides."""
    port = rpc_port(failing)
    (nobody,) = free_ports(1)
    with running_switch(
        tmp_path / "k", "proxy.cfg", first=nobody, second=port,
        NEXT_HOP=f'"sip:127.0.0.1:{onward.port}"', SECOND_TRY='"route=ANSWERED;timeout=5000"',
        ONLY_TRY='"route=ANSWERED;timeout=5000"',
    ) as switch:  # fmt: skip
        wait_for(lambda: connected(switch, port), seconds=20, what="Kamailio to find the service")
        onward.towards = switch.port
        for _ in range(6):
            through(switch, onward)
        counted = switch.counters()
    assert counted["allowed"] == 6
    assert counted["fail_open"] == 0
    assert 1 <= counted["asked_second"] <= 4  # then the first is known to be dead


def test_cancel_while_asking(failing: Running, onward: Phone, tmp_path: Path) -> None:
    """CANCEL is answered at once: one final answer, and no INVITE goes on."""
    port = rpc_port(failing)
    slow = '"route=ANSWERED;timeout=800"'
    with running_switch(
        tmp_path / "k", "proxy.cfg", first=port, second=port,
        NEXT_HOP=f'"sip:127.0.0.1:{onward.port}"', FIRST_TRY=slow, SECOND_TRY=slow, ONLY_TRY=slow,
    ) as switch:  # fmt: skip
        wait_for(lambda: connected(switch, port), seconds=20, what="Kamailio to find the service")
        onward.towards = switch.port
        with Phone(towards=switch.port) as caller:
            freeze(failing, signal.SIGSTOP)
            call = caller.invite(CALLED, CALLING)
            caller.hear("SIP/2.0 100", call=call)
            caller.cancel(call)
            assert caller.hear("SIP/2.0 200", call=call).header("CSeq") == "1 CANCEL"
            assert caller.final(call).first.startswith("SIP/2.0 487 ")
            freeze(failing, signal.SIGCONT)
            # Answers come in the order of the questions: the cancelled call's was before this.
            through(switch, onward)
            assert onward.invites(call) == []
            while caller.listen(seconds=0) is not None:
                pass
            finals = {each.first for each in caller.heard if each.header("CSeq") == "1 INVITE"}
            assert finals - {"SIP/2.0 100 Trying"} == {"SIP/2.0 487 Request canceled"}
