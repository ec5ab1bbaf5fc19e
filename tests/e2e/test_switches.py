"""The switches that Debian does not have: as much of their side as can be spoken without them."""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import parse_qs

import httpx
import pytest
from tests.e2e.conftest import rpc_port
from tests.running import ROOT, Running

SWITCHES = ROOT / "deploy" / "switches"


@pytest.fixture(scope="module")
def agi(lookup: Running) -> Iterator[int]:
    """The port of the FastAGI server."""
    url = f"netstring://127.0.0.1:{rpc_port(lookup)}"
    process = subprocess.Popen(
        [
            sys.executable, str(SWITCHES / "fastagi.py"), "--listen", "127.0.0.1:0",
            "--url", url, "--deadline-ms", "5000",
        ],
        stdout=subprocess.PIPE, env=lookup.environment, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    yield int(re.findall(r":(\d+),", said)[0])
    process.terminate()
    process.communicate()


def dialogue(port: int, **told: str) -> dict[str, str]:
    """What a FastAGI server sets for a channel, said as Asterisk says it."""
    variables = {}
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        lines = [f"agi_{name}: {value}\n" for name, value in told.items()]
        connection.sendall("".join(["agi_network: yes\n", *lines, "\n"]).encode())
        with connection.makefile("r") as stream:
            for command in stream:
                name, value = re.fullmatch(r'SET VARIABLE (\w+) "(.*)"\n', command).groups()
                variables[name] = value
                connection.sendall(b"200 result=1\n")
    return variables


def test_fastagi(agi: int) -> None:
    """A channel gets the verdict in its variables, each line one variable whatever is in it."""
    channel = {
        "request": "agi://127.0.0.1/screen?region=US", "extension": "2125550101",
        "callerid": "2015550199", "calleridname": "block dno", "callingpres": "0",
        "uniqueid": "1.1", "dnid": "unknown", "rdnis": "unknown",
    }  # fmt: skip
    blocked = dialogue(agi, **channel)
    assert (blocked["SCREENING_ACTION"], blocked["SCREENING_CAUSE"]) == ("block", "dno")
    assert blocked["SCREENING_Q850"] == "21"
    assert len(blocked["SCREENING_DECISION_ID"]) == 26
    warned = dialogue(agi, **channel | {"calleridname": "warn analytics"})
    assert (warned["SCREENING_ACTION"], warned["SCREENING_LABEL"]) == ("warn", "Maybe spam")
    emergency = dialogue(agi, **channel | {"extension": "911"})
    assert emergency["SCREENING_CAUSE"] == "emergency"
    assert dialogue(agi)["SCREENING_ACTION"] == "allow"


def test_asterisk_asks_what_the_contract_has(lookup: Running) -> None:
    """The dialplan's question, its variables filled in, is one that the service takes whole."""
    text = (SWITCHES / "asterisk-extensions.conf").read_text()
    (query,) = re.findall(r"Set\(q=(.*)\)\n", text)
    given = iter(("%2B12015550199", "%2B12125550101", "id-1", "Ann"))
    query = re.sub(r"\$\{URIENCODE\(.*?\)\}(?=&|$)", lambda _: next(given), query)
    query = query.replace("${hidden}", "available")
    assert "$" not in query
    before = lookup.metric("screening_unknown_fields_total")
    answer = httpx.get(f"{lookup.url}/v1/screen?{query}", timeout=10)
    assert (answer.status_code, answer.json()["action"]) == (200, "allow")
    assert set(parse_qs(query)) > {"calling", "called", "call_id", "calling_status"}
    assert lookup.metric("screening_unknown_fields_total") == before


@pytest.mark.parametrize("name", ["opensips.cfg", "freeswitch-screen.lua"])
def test_fields_that_are_sent_are_fields(name: str) -> None:
    """Every field that a configuration fills in is one of the contract."""
    from screening.contract import FIELDS

    text = (SWITCHES / name).read_text()
    sent = set(re.findall(r"\$json\(q/(\w+)\)|^    \{ \"(\w+)\"", text, re.MULTILINE))
    names = {first or second for first, second in sent}
    assert len(names) >= 6
    assert names <= {field.name for field in FIELDS}


def test_lua_is_lua() -> None:
    """The script for FreeSWITCH compiles."""
    compiler = shutil.which("luac5.3") or shutil.which("luac5.4") or shutil.which("luac")
    if compiler is None:
        pytest.fail("luac is not installed: apt-get install lua5.3")
    script = SWITCHES / "freeswitch-screen.lua"
    done = subprocess.run(
        [compiler, "-p", str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
