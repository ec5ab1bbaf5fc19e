"""The path as machine code: what runs is what was asked for, and what is lacking is named."""

import os
from pathlib import Path

import pytest

from screening import compiled
from screening.compiled import NotCompiled, compile_into, is_compiled, main
from screening.metrics import Metrics

WANTED = bool(os.environ.get("SCREENING_TEST_COMPILED"))


def test_what_runs_says_whether_it_is_compiled() -> None:
    """`make test-compiled` tests machine code, everything else the source; metrics tell which."""
    assert is_compiled() is WANTED
    exposed = Metrics().exposition().decode()
    assert f'screening_build_info{{compiled="{str(WANTED).lower()}",version="' in exposed


def test_every_module_of_the_path_is_there() -> None:
    """A module that was renamed is not left out in silence."""
    source = Path(compiled.__file__).resolve().parents[1]
    assert [each for each in compiled.HOT if not (source / each).exists()] == []


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NotCompiled, match="install gcc and libc6-dev"):
        compile_into(tmp_path)


def test_no_packages(tmp_path: Path) -> None:
    with pytest.raises(NotCompiled, match=r"holds no consent/address\.py"):
        compile_into(tmp_path)


def test_source_that_does_not_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the compilers said, and exit code 1; the source stays as it was."""
    (tmp_path / "rules").mkdir()
    broken = tmp_path / "rules" / "call.py"
    broken.write_text("value: int = 'text'\n")
    monkeypatch.setattr(compiled, "HOT", ("rules/call.py",))
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "screening" / "compiled.py"))
    monkeypatch.setattr("sys.argv", ["compiled"])
    assert main() == 1
    assert "rules/call.py:1: error: Incompatible types" in capsys.readouterr().err
    assert [each.name for each in tmp_path.rglob("*.py")] == ["call.py"]
