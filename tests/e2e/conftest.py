"""A service with its netstring listener, and switches in front of it.

What a switch and a service wrote for a test that failed is kept in build/traces.
"""

import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.e2e.phone import Phone
from tests.e2e.switch import PATIENT, Switch, connected, running_switch
from tests.running import ROOT, Running, running_service, wait_for
from tests.servers import free_ports

from rules.verdict import Cause

BLOCKING = (
    Cause.SUBSCRIBER_REFUSAL, Cause.NO_CONSENT, Cause.TIME_BAND, Cause.FREQUENCY,
    Cause.UNREGISTERED_ENTITY, Cause.DNO, Cause.INVALID_NUMBER, Cause.SPOOFED, Cause.ANALYTICS,
    Cause.ESCALATION, Cause.ANONYMOUS_REJECTED, Cause.NETWORK_LIST,
)  # fmt: skip
"""Every cause that a call may be blocked for."""


def rules_by_name(folder: Path) -> Path:
    """The shipped packs, with rules before all others that decide by the caller's display name."""
    packs = folder / "rules"
    for source in (ROOT / "deploy" / "rules").rglob("*.toml"):
        target = packs / source.relative_to(ROOT / "deploy" / "rules")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text()
        if target.name == "rules.toml" and target.parent.name == "us":
            head, rule, rest = text.partition("[[rule]]")
            decide = [("block", cause) for cause in BLOCKING] + [("warn", Cause.ANALYTICS)]
            text = head + "".join(_rule(*each) for each in decide) + rule + rest
        target.write_text(text)
    return packs


def _rule(action: str, cause: Cause) -> str:
    label = '[rule.label]\nen = "Maybe spam"\nes = "Posible spam"\n' if action == "warn" else ""
    return (
        f'[[rule]]\nid = "us.named.{action}.{cause}"\n'
        f"when = 'call.display_name == \"{action} {cause}\"'\n"
        f'then = "{action}"\ncause = "{cause}"\nwhy = "Named by the caller."\n'
        f'source = "a test"\n{label}\n'
    )


@pytest.fixture(scope="module")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The service, with the sample registry and rules that decide by display name."""
    folder = tmp_path_factory.mktemp("lookup")
    (folder / "state").mkdir()
    (folder / "state" / "clients.toml").write_text(
        '[switch]\nnetworks = ["127.0.0.1/32"]\n'
        'asserts = ["trunk", "priority", "screening", "cpc"]\ntrunks_vouched = ["carrier-a"]\n'
    )
    (port,) = free_ports(1)
    with running_service(
        folder / "state", "--sample", rules_dir=str(rules_by_name(folder)), rpc_port=str(port)
    ) as running:
        yield running


def rpc_port(running: Running) -> int:
    return int(running.environment["SCREENING_RPC_PORT"])


@pytest.fixture(scope="module")
def callee() -> Iterator[Phone]:
    """Where calls go on to."""
    with Phone(towards=0) as phone:
        yield phone


@pytest.fixture(scope="module")
def proxy(
    lookup: Running, callee: Phone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Switch]:
    """The inline proxy in front of the service; its second lookup server is the same one."""
    folder, port = tmp_path_factory.mktemp("proxy"), rpc_port(lookup)
    next_hop = f'"sip:127.0.0.1:{callee.port}"'
    with running_switch(
        folder, "proxy.cfg", first=port, second=port, NEXT_HOP=next_hop, **PATIENT
    ) as switch:
        wait_for(lambda: connected(switch, port), seconds=20, what="Kamailio to find the service")
        callee.towards = switch.port
        yield switch


@pytest.fixture
def caller(proxy: Switch) -> Iterator[Phone]:
    """A telephone in front of the proxy."""
    with Phone(towards=proxy.port) as phone:
        yield phone


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the traces of a test that failed."""
    report = yield
    factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]
    if report.failed:
        kept = ROOT / "build" / "traces" / re.sub(r"[^\w.-]+", "_", item.name)
        for trace in factory.getbasetemp().rglob("*"):
            if trace.name in {"kamailio.log", "service.log"} or trace.name.startswith("trace-"):
                target = kept / trace.relative_to(factory.getbasetemp())
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(trace, target)
    return report
