"""Named failures of the index while calls run: an answer in time, never a harsher one."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.conftest import server_program
from tests.running import Running, running_service, wait_for
from tests.servers import IndexServer
from tests.switch import Traffic, traffic

pytestmark = pytest.mark.timely

LISTED = "+12125550142"
BLOCKED = {"calling": "+12125550123", "called": LISTED, "attestation": "A",
           "verstat": "TN-Validation-Passed"}  # fmt: skip
ANSWER_SECONDS = 0.060
"""By when every answer must be there while the index hangs: 20 ms budget, and the way."""


class Setting:
    """A service and the index server beneath it."""

    def __init__(self, service: Running, redis_url: str, pid: int) -> None:
        self.service = service
        self.redis = redis.Redis.from_url(redis_url)
        self.pid = pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


@pytest.fixture(params=["valkey", "redis"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setting]:
    """A service of this test over a server of its own, that can be hurt."""
    server = IndexServer(server_program(request.param), tmp_path, "--appendonly", "yes")
    server.start()
    assert server.process is not None
    try:
        with running_service(
            tmp_path / "state", "--sample", redis_url=server.url, facts_budget_ms="20"
        ) as service:
            setting = Setting(service, server.url, server.process.pid)
            setting.server = server  # type: ignore[attr-defined]
            yield setting
            setting.redis.close()
    finally:
        server.thaw()
        server.kill()


@contextlib.asynccontextmanager
async def calls_running(service: Running, *, called: str = LISTED) -> AsyncIterator[Traffic]:
    """200 calls a second while the block runs; the answers are complete after it."""
    until = asyncio.Event()
    seen = Traffic()

    def question(n: int) -> dict[str, Any]:
        return {**BLOCKED, "called": called, "call_id": f"load-{called}-{n}"}

    running = asyncio.create_task(
        traffic(
            service.url,
            questions=question,
            connections=10,
            calls_per_second=200,
            until=until,
            into=seen,
        )
    )
    try:
        yield seen
    finally:
        until.set()
        await running


async def until_seen(seen: Traffic, count: int) -> None:
    """Wait until so many more calls have been answered."""
    target = len(seen.exchanges) + count
    async with asyncio.timeout(30):
        while len(seen.exchanges) < target:
            await asyncio.sleep(0.01)


def holds(seen: Traffic, *, partly: bool = False) -> None:
    """No call failed, and each was blocked with its facts or allowed without.

    `partly`: of several nodes one may have the facts that block while another lacks those of the
    calling number, which makes a verdict degraded and none harsher.
    """
    assert not seen.errors
    for exchange in seen.exchanges:
        assert exchange.status == 200
        outcome = (exchange.verdict["action"], exchange.verdict["degraded"])
        expected = {("block", False), ("allow", True), ("block", partly)}
        assert outcome in expected, exchange.verdict


def recovered(service: Running) -> None:
    """Full screening is back."""
    wait_for(
        lambda: service.screen(**BLOCKED)["degraded"] is False, seconds=20, what="full screening"
    )
    assert service.screen(**BLOCKED)["action"] == "block"


async def test_frozen_for_three_seconds_under_load(setting: Setting) -> None:
    """A server that hangs costs the facts and nothing else; they are back when it is."""
    service = setting.service
    assert service.screen(**BLOCKED)["action"] == "block"
    async with calls_running(service) as seen:
        await until_seen(seen, 100)
        setting.signal(signal.SIGSTOP)
        frozen_from = len(seen.exchanges)
        await asyncio.sleep(3.0)  # the claim is about three seconds
        frozen_to = len(seen.exchanges)
        setting.signal(signal.SIGCONT)
        await until_seen(seen, 200)
    holds(seen)
    frozen = seen.exchanges[frozen_from:frozen_to]
    assert sum(each.verdict["degraded"] for each in frozen) > 0.9 * len(frozen)
    slowest = max(each.seconds for each in frozen)
    assert slowest < ANSWER_SECONDS
    recovered(service)


async def test_killed_and_restarted_under_load(setting: Setting) -> None:
    """A server that dies and comes back with its data is used again without a person."""
    async with calls_running(setting.service) as seen:
        await until_seen(seen, 50)
        setting.server.kill()  # type: ignore[attr-defined]
        await until_seen(seen, 200)
        assert seen.exchanges[-1].verdict["degraded"] is True
        setting.server.start()  # type: ignore[attr-defined]
        await until_seen(seen, 50)
    holds(seen)
    recovered(setting.service)


async def test_the_embedded_server_killed_under_load(tmp_path: Path) -> None:
    """Nobody but the service can start its own server anew: it does, with the data."""
    state = tmp_path / "state"
    with running_service(state, "--sample", facts_budget_ms="20") as service:
        async with calls_running(service) as seen:
            await until_seen(seen, 50)
            with redis.Redis(unix_socket_path=str(state / "valkey.sock")) as index:
                os.kill(int(index.info("server")["process_id"]), signal.SIGKILL)
            await until_seen(seen, 50)
        holds(seen)
        recovered(service)
        assert "started anew" in service.log


async def test_emptied_under_load(setting: Setting) -> None:
    """An emptied server is an outage, not a nation without refusals, and is filled again."""
    async with calls_running(setting.service) as seen:
        await until_seen(seen, 50)
        setting.redis.flushall()
        sent = len(seen.exchanges)
        await until_seen(seen, 50)
    holds(seen)
    # Those in flight when the flush was acknowledged may have been read before it.
    after = seen.exchanges[sent + 10 : sent + 20]
    assert all(each.verdict["degraded"] or each.verdict["action"] == "block" for each in after)
    recovered(setting.service)


def test_the_breaker_and_the_degraded_count_show(setting: Setting) -> None:
    """What operations must see: the breaker open, the calls decided without facts."""
    service = setting.service
    setting.signal(signal.SIGSTOP)
    wait_for(
        lambda: service.metric("screening_index_breaker_open") == 1,
        seconds=5,
        what="an open breaker",
    )
    before = service.metric("screening_degraded_total")
    assert service.screen(**BLOCKED)["degraded"] is True
    assert service.metric("screening_degraded_total") == before + 1
    assert service.ready()["index"]["breaker"] == "open"  # type: ignore[index]
    assert service.ready()["ready"] is True
    setting.signal(signal.SIGCONT)
    wait_for(
        lambda: service.metric("screening_index_breaker_open") == 0, seconds=5, what="a closed one"
    )
    recovered(service)


def test_emptied_and_restarted(tmp_path: Path) -> None:
    """FLUSHALL, stop and start: everything is back."""
    state = tmp_path / "state"
    with running_service(state, "--sample") as service:
        assert service.screen(**BLOCKED)["action"] == "block"
        with redis.Redis(unix_socket_path=str(state / "valkey.sock")) as index:
            index.flushall()
    with running_service(state) as service:
        recovered(service)


def test_killed_hard_and_started_again(tmp_path: Path) -> None:
    """SIGKILL of the service leaves a state that the next start takes up."""
    state = tmp_path / "state"
    with running_service(state, "--sample") as service:
        assert service.screen(**BLOCKED)["action"] == "block"
        service.process.kill()
        service.process.wait()
    with running_service(state) as service:
        recovered(service)


def test_an_emergency_call_needs_no_index(setting: Setting) -> None:
    """With the index frozen an emergency call is as certain as before."""
    setting.signal(signal.SIGSTOP)
    verdict = setting.service.screen(calling="+12125550123", called="911", region="US")
    assert (verdict["action"], verdict["cause"], verdict["degraded"]) == (
        "allow", "emergency", False,
    )  # fmt: skip
    setting.signal(signal.SIGCONT)
