"""The published proto: linted by buf, and what is committed of it is what protoc makes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.running import ROOT

PROTO = ROOT / "deploy" / "proto"
MADE = ROOT / "src" / "screening" / "v1"
INSTALL = "buf is not here: `make .venv/buf` fetches it with npm (apt-get install npm)"


def test_the_committed_modules_are_those_of_the_proto(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={tmp_path}",
         f"--pyi_out={tmp_path}", f"--grpc_python_out={tmp_path}", "screening/v1/screening.proto"],
        check=True, timeout=60,
    )  # fmt: skip
    made = sorted(path.name for path in (tmp_path / "screening" / "v1").iterdir())
    assert made == sorted(path.name for path in MADE.glob("*_pb2*"))
    for name in made:
        assert (MADE / name).read_text() == (tmp_path / "screening" / "v1" / name).read_text()


@pytest.mark.parametrize("words", [["lint"], ["format", "--diff", "--exit-code"]])
def test_buf_finds_nothing(words: list[str]) -> None:
    """The style of the protobuf world."""
    installed = ROOT / ".venv" / "buf" / "node_modules" / ".bin" / "buf"
    buf = str(installed) if installed.exists() else shutil.which("buf")
    if buf is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(INSTALL)
    done = subprocess.run(
        [buf, *words], cwd=PROTO, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
