"""Many calls at once, made by sipp and answered by sipp."""

import subprocess
from pathlib import Path

import pytest
from tests.e2e.conftest import rpc_port
from tests.e2e.switch import connected, free_udp_port, need, running_switch
from tests.running import Running, wait_for

CALLER, CALLEE = (Path(__file__).parent / name for name in ("caller.xml", "callee.xml"))
CALLS_A_SECOND, SECONDS = 200, 30
CALLS = CALLS_A_SECOND * SECONDS
CALLED = ("+12125550101", "+12125550140")
"""One that rings, and one that the sample's registry protects from CALLING."""
CALLING = ("+12015550199", "+12125550123")


def test_busy(lookup: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """200 calls a second for 30 s: none fails, each is asked about once, those refused are."""
    sipp, port, answering = need("sipp"), rpc_port(lookup), free_udp_port()
    numbers = tmp_path / "numbers.csv"
    rows = [f"{CALLING[0]};{CALLED[0]}"] * 9 + [f"{CALLING[1]};{CALLED[1]}"]
    numbers.write_text("\n".join(["SEQUENTIAL", *rows, ""]))
    with running_switch(
        tmp_path / "k", "proxy.cfg", first=port, second=port,
        NEXT_HOP=f'"sip:127.0.0.1:{answering}"',
    ) as switch:  # fmt: skip
        wait_for(lambda: connected(switch, port), seconds=20, what="Kamailio to find the service")
        with (tmp_path / "callee.log").open("wb") as log:
            callee = subprocess.Popen(
                [sipp, "-sf", str(CALLEE), "-i", "127.0.0.1", "-p", str(answering), "-nostdin"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=tmp_path,
            )  # fmt: skip
        before = switch.cpu_seconds()
        try:
            done = subprocess.run(
                [
                    sipp, f"127.0.0.1:{switch.port}", "-sf", str(CALLER), "-inf", str(numbers),
                    "-i", "127.0.0.1", "-p", str(free_udp_port()), "-nostdin", "-trace_err",
                    "-r", str(CALLS_A_SECOND), "-m", str(CALLS), "-timeout", "120",
                ],
                capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path,
                timeout=180, check=False,
            )  # fmt: skip
        finally:
            callee.terminate()
            callee.wait()
        errors = "".join(path.read_text()[-2000:] for path in tmp_path.glob("*_errors.log"))
        counted = switch.counters()
        used = switch.cpu_seconds() - before
    assert done.returncode == 0, done.stdout[-3000:] + errors
    assert counted["asked"] == CALLS
    assert counted["allowed"] + counted["blocked"] + counted["fail_open"] == CALLS
    assert counted["blocked"] > 0
    with capsys.disabled():
        print(
            f" [{CALLS} calls: {counted['blocked']} refused, {counted['fail_open']} unscreened,"
            f" {used / CALLS * 1000:.2f} ms of processor time of Kamailio's a call]"
        )
