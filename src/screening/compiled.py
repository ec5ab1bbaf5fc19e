"""The decision path as machine code: what every call runs through, compiled by mypyc.

The source is what is read, tested and shipped, and what runs where nobody compiled it. Compiled, a
worker needs two fifths of the processor time for a call, without the kernel's, and the recorder
five sixths; answers are the same. An operator's image compiles what it has installed; a
checkout compiles a copy, so that an edited file is never behind the one that runs:

    python -m screening.compiled                  # the installed packages, in place
    python -m screening.compiled --into FOLDER    # a copy, to be put first in PYTHONPATH

Needs mypy, setuptools and a C compiler (gcc, libc6-dev), and a minute.
"""

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGES: Final = ("consent", "rules", "screening")
HOT: Final = (
    "consent/address.py",
    "consent/calling.py",
    "consent/conduct.py",
    "consent/emergency.py",
    "consent/facts.py",
    "consent/index/layout.py",
    "consent/index/link.py",
    "consent/index/reader.py",
    "consent/keyring.py",
    "consent/number.py",
    "consent/series.py",
    "consent/zones.py",
    "rules/bind.py",
    "rules/call.py",
    "rules/hours.py",
    "rules/safeguard.py",
    "rules/selection.py",
    "rules/verdict.py",
    "rules/walker.py",
    "screening/access.py",
    "screening/answer.py",
    "screening/body.py",
    "screening/counters.py",
    "screening/decision_id.py",
    "screening/fast_lane.py",
    "screening/lookup.py",
    "screening/overload.py",
    "screening/recording/decision.py",
    "screening/recording/intake.py",
    "screening/recording/outbox.py",
    "screening/recording/segments.py",
    "screening/recording/writer.py",
    "screening/screener.py",
    "screening/signals/counting.py",
    "screening/signals/events.py",
    "screening/signals/party.py",
    "screening/signals/publishing.py",
    "screening/signals/rings.py",
    "screening/signals/tally.py",
    "screening/signals/windows.py",
    "screening/wire.py",
)
"""Compiled together: calls from one of them to another one need no interpreter. The tests of rules
are compiled when they are loaded, to Python."""

SHARED: Final = "screening_hot"
"""The library that holds the code; a small extension module stands beside each source."""


class NotCompiled(Exception):
    """What keeps it from being compiled, for people."""


def is_compiled() -> bool:
    """Whether the decision path of this process is compiled."""
    from screening import lookup

    return not lookup.__file__.endswith(".py")


def compile_into(folder: Path) -> int:
    """Compile the packages that lie in `folder`, there; how many modules. Raises NotCompiled."""
    if shutil.which(os.environ.get("CC", "gcc")) is None:
        raise NotCompiled("there is no C compiler: install gcc and libc6-dev")
    try:
        import setuptools
        from mypyc.build import mypycify
    except ImportError as lacking:
        raise NotCompiled(f"{lacking.name} is not installed: pip install mypy setuptools") from None
    for each in HOT:
        if not (folder / each).exists():
            raise NotCompiled(f"{folder} holds no {each}: are these the packages?")
    with tempfile.TemporaryDirectory(prefix="compile-") as name, _said():
        options = ["--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary"]
        options.append(f"--cache-dir={name}/cache")
        with contextlib.chdir(folder):
            extensions = mypycify(
                [*options, *HOT],
                opt_level="3",
                debug_level="0",
                multi_file=True,
                group_name=SHARED,
                target_dir=f"{name}/c",
            )
            setuptools.setup(
                name="screening-compiled",
                packages=[],
                ext_modules=extensions,
                script_args=["-q", "build_ext", f"--build-lib={folder}", f"--build-temp={name}/o"],
            )
    return len(HOT)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What compilers say goes to who asked only if they fail."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    except (Exception, SystemExit) as failed:
        raise NotCompiled(f"{said.getvalue()}{failed}") from failed


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(
        prog="python -m screening.compiled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="compile a copy, made here")
    asked = parser.parse_args()
    installed = Path(__file__).resolve().parents[1]
    folder = asked.into.resolve() if asked.into else installed
    if asked.into:
        for package in PACKAGES:
            shutil.rmtree(folder / package, ignore_errors=True)
            left_out = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(installed / package, folder / package, ignore=left_out)
    try:
        count = compile_into(folder)
    except NotCompiled as refused:
        print(refused, file=sys.stderr)
        return 1
    print(f"{count} modules compiled in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
