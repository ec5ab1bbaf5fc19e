"""What became of calls: by HTTP, by netstrings and from call detail records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.rpc import RpcSocket, request
from tests.running import Running, running_service, wait_for

from screening.call_ends import EndReader, EndReport, MalformedEnd

CALLING, CALLED = "+441632960321", "+447700900321"
END = {"calling": CALLING, "called": CALLED, "answered": True, "seconds": 3}
READER = EndReader(region="", key=b"k" * 32, entity_of=lambda: lambda _value: None)


def read(**changes: Any) -> dict[str, Any]:
    return READER.read(END | changes, trusts_trunk=False)


def test_one_end() -> None:
    """The id is that of the call's decision; a trunk counts from who may assert it."""
    end = read(call_id="a", trunk="ic-1")
    assert (end["calling"], end["called"]) == (441632960321, 447700900321)
    assert (end["answered"], end["seconds"], end["trunk"], end["entity"]) == (True, 3.0, "", 0)
    assert len(end["id"]) == 26
    assert read(call_id="a")["id"] == end["id"]
    assert read(decision_id="X1")["id"] == "X1"
    assert READER.read(END | {"trunk": "ic-1"}, trusts_trunk=True)["trunk"] == "ic-1"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"calling": None}, "calling"),
        ({"called": 5}, "called"),
        ({"answered": "yes"}, "answered"),
        ({"answered": None}, "answered"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"decision_id": "x" * 65}, "decision_id"),
    ],
)
def test_malformed(changes: dict[str, Any], field: str) -> None:
    """What is wrong is named by its field."""
    with pytest.raises(MalformedEnd) as broken:
        read(**changes)
    assert broken.value.field == field


def test_a_bad_line_stops_no_other() -> None:
    """The report names it, and no number."""
    report = EndReport()
    lines = [json.dumps(END).encode(), b"", b"{", b"[1]", json.dumps(END | {"called": 1}).encode()]
    assert len(list(READER.read_lines(lines, report, trusts_trunk=False))) == 1
    assert (report.taken, report.rejected) == (1, 3)
    assert [each["line"] for each in report.errors] == [3, 4, 5]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(tmp_path_factory.mktemp("ends") / "state") as running:
        yield running


def share(running: Running, party: str, measure: str) -> float:
    shown = running.cli("signals", "show", party, "--json").stdout
    return float(json.loads(shown)[measure])


def test_every_way_in(ended: Running, tmp_path: Path) -> None:
    """One end by each way counts; one that is told twice counts once."""
    # A calling number is published from its second call on.
    for n in range(4):
        ended.screen(calling=CALLING, called=CALLED, call_id=f"c{n}")
    headers = {"Authorization": f"Bearer {ended.first_key}"}
    url = f"{ended.url}/v1/calls/end"
    one = httpx.post(url, json=END | {"call_id": "c0"}, headers=headers, timeout=10)
    assert (one.status_code, one.json()["taken"]) == (202, 1)
    lines = "\n".join([json.dumps(END | {"call_id": "c0", "seconds": 90}), "{}"])
    many = httpx.post(
        url, content=lines, headers=headers | {"content-type": "application/x-ndjson"}, timeout=10
    )
    assert (many.status_code, many.json()["rejected"]) == (202, 1)
    assert httpx.post(url, json={}, headers=headers, timeout=10).status_code == 422
    assert httpx.post(url, json=END, timeout=10).status_code == 401

    port = int((ended.state / "rpc.port").read_text())
    with RpcSocket(port) as link:
        link.send(request("call_end", END | {"call_id": "c1", "answered": False}))
        assert link.ask("call_end", {"calling": CALLING})["error"]["data"] == {"field": "called"}
        assert link.ask("ping")["result"] == "pong"

    file = tmp_path / "cdr.ndjson"
    file.write_text(json.dumps(END | {"call_id": "c2", "seconds": 60}) + "\n")
    assert "1 ends handed over" in ended.cli("calls", "import", str(file)).stdout
    file.write_text("nonsense\n")
    refused = ended.cli("calls", "import", str(file), check=False)
    assert (refused.returncode, refused.stderr.strip()) == (1, "line 1: is not JSON")

    # Of three ends two were answered, and one of these was short.
    wait_for(
        lambda: share(ended, CALLING, "answered_share_1h") == pytest.approx(2 / 3, abs=0.01),
        seconds=20,
        what="the ends to count",
    )
    assert share(ended, CALLING, "short_share_1h") == pytest.approx(1 / 2, abs=0.01)
