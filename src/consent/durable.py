"""Files that appear whole or not at all, and temporary ones that a dead process leaves behind."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

SUFFIX: Final = ".part"


@contextmanager
def written_whole(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block ends well.

    Its bytes are on disk before it has the name; where the block raises nothing is left.
    """
    with temporary(path.parent, mode=mode) as (file, beside):
        yield file
        file.flush()
        os.fsync(file.fileno())
        beside.replace(path)
    sync_folder(path.parent)


@contextmanager
def temporary(folder: Path, *, mode: int = 0o600) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in `folder` and its path, removed at the end unless it was given another name.

    It is locked for as long as it is open, so that `sweep` can tell it from a dead one's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = folder / f".{secrets.token_hex(8)}{SUFFIX}"
    fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "w+b") as file:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield file, beside
    finally:
        beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path) -> int:
    """Removes what processes that were killed left in `folder`, and counts it."""
    removed = 0
    for beside in folder.glob(f".*{SUFFIX}"):
        try:
            fd = os.open(beside, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its writer has just finished
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            beside.unlink(missing_ok=True)
            removed += 1
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    return removed
