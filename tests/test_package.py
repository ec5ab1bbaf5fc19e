"""What `pip install .` brings: all that runs, without the repository."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.running import ROOT


def test_the_wheel_holds_everything_that_runs(tmp_path: Path) -> None:
    """Every module and data file of src, every pack and the sample, and the console script."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (each for each in names if each.endswith("entry_points.txt"))
        assert b"screening = screening.cli:main" in archive.read(entry_points)
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(part.endswith(".egg-info") for part in path.parts)
    }
    assert expected <= set(names)
    shared = {each.split("/share/call-screening/")[1] for each in names if "/share/" in each}
    deployed = {
        path.relative_to(ROOT / "deploy").as_posix()
        for part in ("ladder", "rules", "sample")
        for path in (ROOT / "deploy" / part).rglob("*")
        if path.is_file()
    }
    assert shared == deployed
