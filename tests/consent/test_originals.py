"""Original files are kept once, read back proved, and never half there."""

import fcntl
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.durable import sweep, written_whole
from consent.originals import Original, OriginalError, Originals

CONTENT = b"+441632960001\n" * 5000


def read_all(originals: Originals, sha256: str) -> bytes:
    with originals.open(sha256) as stream:
        return b"".join(iter(lambda: stream.read(1000), b""))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=5000))
def test_what_is_kept_is_read_back(content: bytes, tmp_path: Path) -> None:
    """Content of any kind comes back, under the hash of itself."""
    originals = Originals(tmp_path)
    kept = originals.keep(io.BytesIO(content))
    assert kept == Original(hashlib.sha256(content).hexdigest(), len(content))
    assert read_all(originals, kept.sha256) == content


def test_the_same_content_is_one_file(tmp_path: Path) -> None:
    """Kept twice, there is one file, the same to the byte, which only its owner may read."""
    originals, told = Originals(tmp_path), []
    kept = originals.keep(io.BytesIO(CONTENT), progress=told.append)
    path = originals.path(kept.sha256)
    first = path.read_bytes()
    originals.keep(io.BytesIO(CONTENT))
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert path.read_bytes() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert told[-1] == len(CONTENT)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path: Path) -> None:
    other = Originals(path.parents[2] / "other")
    path.write_bytes(other.path(other.keep(io.BytesIO(b"1")).sha256).read_bytes())


@pytest.mark.parametrize("damage", [cut, flip, swap, Path.unlink], ids=lambda each: each.__name__)
def test_damage_is_told(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """A cut, altered, exchanged or absent original is an error, and keeping it again mends it."""
    originals = Originals(tmp_path / "originals")
    kept = originals.keep(io.BytesIO(CONTENT))
    damage(originals.path(kept.sha256))
    with pytest.raises(OriginalError, match=r"^original "):
        read_all(originals, kept.sha256)
    originals.keep(io.BytesIO(CONTENT))
    assert read_all(originals, kept.sha256) == CONTENT


class Broken:
    """A stream that ends in an error."""

    def __init__(self) -> None:
        self._chunks = [b"1\n", b"2\n"]

    def read(self, size: int, /) -> bytes:
        if not self._chunks:
            raise RuntimeError("the source broke")
        return self._chunks.pop()


def test_a_source_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    """What the stream raises goes through, and no file stays."""
    with pytest.raises(RuntimeError, match="the source broke"):
        Originals(tmp_path).keep(Broken())
    assert list(tmp_path.rglob("*")) == []


KEEPER = """
import sys
from pathlib import Path
from consent.originals import Originals
Originals(Path(sys.argv[1])).keep(sys.stdin.buffer)
"""


def test_a_killed_keeper_leaves_what_is_swept(tmp_path: Path) -> None:
    """A process killed while keeping leaves no original; what it leaves is removed once it is
    dead and not before."""
    source = Path(__file__).parents[2] / "src"
    words = [sys.executable, "-c", KEEPER, tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=environment) as keeper:
        try:
            assert keeper.stdin is not None
            keeper.stdin.write(CONTENT)
            keeper.stdin.flush()
            deadline = time.monotonic() + 20
            while not _is_locked(tmp_path):
                assert time.monotonic() < deadline, "the keeper did not begin"
                assert keeper.poll() is None, "the keeper ended"
            assert Originals(tmp_path).sweep() == 0
        finally:
            keeper.send_signal(signal.SIGKILL)
    assert Originals(tmp_path).sweep() == 1
    assert list(tmp_path.rglob("*")) == []


def _is_locked(folder: Path) -> bool:
    """Whether there is a file being written; its lock comes just after it."""
    for each in folder.glob(".*.part"):
        with each.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def write_half(path: Path) -> None:
    with written_whole(path) as file:
        file.write(b"second")
        raise RuntimeError("half written")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A write that fails leaves the file that was there; one that ends well takes its place."""
    path = tmp_path / "deep" / "file"
    with written_whole(path) as file:
        file.write(b"first")
    with pytest.raises(RuntimeError, match="half written"):
        write_half(path)
    assert path.read_bytes() == b"first"
    with written_whole(path) as file:
        file.write(b"third")
        assert path.read_bytes() == b"first"
        assert sweep(path.parent) == 0
    assert path.read_bytes() == b"third"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "../" * 22, "A" * 64, "0" * 63])
def test_only_hashes_name_originals(name: str, tmp_path: Path) -> None:
    """A name that is no hash leads nowhere."""
    with pytest.raises(OriginalError, match="expected 64 hexadecimal digits"):
        Originals(tmp_path).path(name)
