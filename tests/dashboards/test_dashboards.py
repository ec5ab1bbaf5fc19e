"""What operations sees: a real Prometheus scrapes the service under load and is asked everything
that the dashboard's panels and the alerts ask."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.running import ROOT, Running, running_service, wait_for
from tests.servers import free_ports

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "screening.json").read_text())
ALERTS = (DEPLOY / "prometheus" / "alerts.yml").read_text()
INSTALL = "prometheus is not installed: apt-get install --no-install-recommends prometheus"
PANELS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
WAIT_SECONDS = 60
CALLS: tuple[dict[str, object], ...] = (
    {"calling": "+861012345678", "called": "+8613123456789"},
    {"calling": "+864001234567", "called": "+8613123456789"},
    {"calling": "+12015550123", "called": "+12125550101"},
    {"calling": "+12015550123", "called": "+12125550140", "region": "US"},
    {"calling": "+1201555012", "called": "+12125550101"},
    {"calling": "anonymous", "called": "112"},
)
"""Allowed, warned, blocked, decided in shadow, and an emergency."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The service, asked all the while the tests run, with a decision now and then."""
    folder = tmp_path_factory.mktemp("seen") / "state"
    with running_service(folder, "--sample", watch="true") as running:
        ended = threading.Event()

        def ask() -> None:
            headers = {"Authorization": f"Bearer {running.first_key}"}
            with httpx.Client(base_url=running.url, headers=headers, timeout=10) as client:
                at = 0
                while not ended.wait(0.02):
                    client.post("/v1/screen", json=CALLS[at % len(CALLS)])
                    at += 1
                    if at % 25 == 0:
                        grant = {"called": "+12125550103", "entity": "sample-loans"}
                        client.post("/v1/consents", json=grant | {"categories": ["loans"]})

        asking = threading.Thread(target=ask)
        asking.start()
        yield running
        ended.set()
        asking.join()


@pytest.fixture(scope="module")
def prometheus(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus with the shipped configuration, at a test's pace."""
    program = shutil.which("prometheus")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(INSTALL)
    folder = tmp_path_factory.mktemp("prometheus")
    shipped = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config = shipped.replace("service:8080", service.url.removeprefix("http://"))
    config = re.sub(r"interval: \d+s", "interval: 1s", config)
    (folder / "prometheus.yml").write_text(config)
    for rules in ("recording.yml", "alerts.yml"):
        shutil.copy(DEPLOY / "prometheus" / rules, folder)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(program), f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip

    def is_up() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        return bool(found(url, 'up{job="screening"} == 1'))

    try:
        wait_for(is_up, seconds=WAIT_SECONDS, what="Prometheus to scrape the service")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def found(url: str, query: str) -> list[Any]:
    """The series of an instant query; fails where Prometheus takes it for none."""
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10)
    except httpx.TransportError:
        return []
    assert answer.status_code in (200, 503), f"{query}: {answer.text}"
    return answer.json()["data"]["result"] if answer.status_code == 200 else []


@pytest.mark.parametrize("expression", PANELS.values(), ids=PANELS)
def test_a_panel_shows_something(prometheus: str, expression: str) -> None:
    """Its query is valid, and has series with numbers in them."""
    query = expression.replace("$__rate_interval", "15s")

    def numbers() -> bool:
        return any(each["value"][1] != "NaN" for each in found(prometheus, query))

    wait_for(numbers, seconds=WAIT_SECONDS, what=f"series of {query}")


def test_alerts_ask_for_what_there_is(prometheus: str) -> None:
    """Prometheus has loaded every alert, none is broken, and all that they name has series."""
    groups = httpx.get(f"{prometheus}/api/v1/rules", timeout=10).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    files = (DEPLOY / "prometheus").glob("*.yml")
    named = re.compile(r"^ *- (?:alert|record): (\S+)", re.MULTILINE)
    written = [name for file in files for name in named.findall(file.read_text())]
    assert sorted(rule["name"] for rule in rules) == sorted(written)
    wait_for(
        lambda: all(rule["health"] == "ok" for rule in _rules(prometheus)),
        seconds=WAIT_SECONDS,
        what="every rule to be evaluated",
    )
    queries = [rule["query"] for rule in rules if rule["type"] == "alerting"]
    asked = {name for query in queries for name in re.findall(r"screening[_:][a-z0-9_:]+", query)}
    assert len(asked) >= 10
    for name in sorted(asked):
        wait_for(
            lambda name=name: found(prometheus, name),  # type: ignore[misc]
            seconds=WAIT_SECONDS,
            what=f"series of {name}",
        )


def _rules(url: str) -> list[dict[str, Any]]:
    groups = httpx.get(f"{url}/api/v1/rules", timeout=10).json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_provisioning_names_what_is_there() -> None:
    """The panels' data source is the one provisioned, and their ids are their own."""
    source = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel}
    assert uids == {re.findall(r"uid: (\w+)", source)[0]}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
