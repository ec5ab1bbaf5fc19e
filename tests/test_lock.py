"""`make run` on Debian 12 installs what is locked and nothing else, whichever Python locked it."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[1] / "requirements.lock"
LOCKED = {
    canonicalize_name(name)
    for name in re.findall(r"^([\w.-]+)==", LOCK.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("python", ["3.11.2", "3.11.9"])
def test_what_is_locked_needs_nothing_else(python: str) -> None:
    """redis asks for one more package before Python 3.11.3, and Debian 12 has 3.11.2."""
    environment = {"python_version": "3.11", "python_full_version": python, "extra": ""}
    assert len(LOCKED) > 50
    lacking = {
        f"{name}: {needed}"
        for name in LOCKED
        for needed in map(Requirement, metadata.distribution(name).requires or ())
        if needed.marker is None or needed.marker.evaluate(environment)
        if canonicalize_name(needed.name) not in LOCKED
    }
    assert not lacking
