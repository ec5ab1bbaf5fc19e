"""Every benchmark can be started."""

import importlib
from pathlib import Path

import pytest
from tests.running import ROOT

MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize(
    "name", [each for each in MODULES if each not in ("locustfile", "__init__")]
)
def test_loads(name: str) -> None:
    """What a benchmark imports of another is still there."""
    assert Path(importlib.import_module(f"benchmarks.{name}").__file__ or "").exists()
