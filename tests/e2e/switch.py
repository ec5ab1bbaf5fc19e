"""Debian's Kamailio on loopback with the configurations of `deploy/kamailio/`, and sipp."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.running import ROOT, wait_for

CONFIGURATIONS: Final = ROOT / "deploy" / "kamailio"
MODULE: Final = Path("/usr/lib/x86_64-linux-gnu/kamailio/modules/janssonrpcc.so")
INSTALL: Final = {
    "kamailio": "kamailio is not installed: apt-get install kamailio kamailio-extra-modules",
    "sipp": "sipp is not installed: apt-get install sip-tester",
}
PATIENT: Final = {
    "FIRST_TRY": '"route=ANSWERED;timeout=5000"',
    "ONLY_TRY": '"route=ANSWERED;timeout=5000"',
}
"""Budgets for tests of verdicts, which must not depend on how busy the machine is."""


def need(program: str) -> str:
    """The path of a program of Debian's; without it the test is skipped, and in CI failed."""
    found = shutil.which(program)
    if not found or (program == "kamailio" and not MODULE.parent.exists()):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(INSTALL[program])
    return str(found)


def free_udp_port() -> int:
    """A UDP port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Switch:
    """A Kamailio that runs; `port` is its UDP port."""

    def __init__(self, folder: Path, port: int, group: int) -> None:
        self.folder = folder
        self.group = group
        """The process group of all its processes."""
        self.port = port
        self.passes = ""
        """The status of a redirect server for a call that may ring."""

    @property
    def control(self) -> str:
        return f"unixs:{self.folder}/ctl"

    @property
    def log(self) -> str:
        return (self.folder / "kamailio.log").read_text("utf-8", "replace")

    def cpu_seconds(self) -> float:
        """Processor time that its processes have used."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.group:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def counters(self) -> dict[str, int]:
        """The counters of the screening script."""
        done = subprocess.run(
            ["kamcmd", "-s", self.control, "stats.get_statistics", "script:"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        pairs = (line.strip().removeprefix("script:").split(" = ") for line in
                 done.stdout.splitlines() if " = " in line)  # fmt: skip
        return {name: int(value) for name, value in pairs}


@contextlib.contextmanager
def running_switch(
    folder: Path, configuration: str, *, first: int, second: int, **defines: str
) -> Iterator[Switch]:
    """Kamailio with a configuration, asking lookup servers on two ports; ready when yielded."""
    program = need("kamailio")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_udp_port()
    peers = folder / "peers.list"
    if not peers.exists():
        peers.write_text("1 127.0.0.1 32 0 carrier-a\n")
    given = {
        "LISTEN": f"udp:127.0.0.1:{port}",
        "LOOKUP_FIRST": f'"conn=first;addr=127.0.0.1;port={first}"',
        "LOOKUP_SECOND": f'"conn=second;addr=127.0.0.1;port={second}"',
        "PEERS": f'"{peers}"',
        "CONTROL": f'"unix:{folder}/ctl"',
        "WITH_TRACE": "",
        "TRACE_FOLDER": f'"{folder}"',
    } | defines
    words = [program, "-DD", "-E", "-m", "64", "-f", str(CONFIGURATIONS / configuration)]
    words += ["-Y", str(folder), "-P", str(folder / "pid")]
    for name, value in given.items():
        words += ["-A", f"{name}={value}" if value else name]
    with (folder / "kamailio.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    switch = Switch(folder, port, process.pid)

    def answers() -> bool:
        assert process.poll() is None, f"Kamailio ended:\n{switch.log[-4000:]}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            probe.settimeout(0.2)
            mine = probe.getsockname()[1]
            probe.sendto(
                f"OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP 127.0.0.1:{mine};branch=z9hG4bKprobe{time.monotonic_ns()}\r\n"
                f"From: <sip:probe@127.0.0.1>;tag=p\r\nTo: <sip:127.0.0.1:{port}>\r\n"
                f"Call-ID: probe{time.monotonic_ns()}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 0\r\n"
                "Content-Length: 0\r\n\r\n".encode(),
                ("127.0.0.1", port),
            )
            with contextlib.suppress(OSError):
                return bool(probe.recv(4096))
        return False

    try:
        wait_for(answers, seconds=20, what="Kamailio to answer")
        yield switch
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def connected(switch: Switch, port: int) -> bool:
    """Whether the switch has said that it is connected to a lookup server."""
    return f"Connected to host 127.0.0.1:{port}" in switch.log
