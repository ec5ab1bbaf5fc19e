"""Files that only their owner may read: key files, and the locks beside shared files.

A write is whole or absent: the bytes are on disk under another name before the name is given.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def read_private(path: Path) -> bytes:
    """The bytes of a file that group and world cannot open.

    Raises PermissionError where they can, and the usual OSError where it cannot be read.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise PermissionError(
                f"{path} has mode {mode:04o} and holds secrets, expected 0600: chmod 600 {path}"
            )
        return file.read()


def create_private(path: Path, content: bytes) -> None:
    """Writes a new file of mode 0600. Raises FileExistsError where there is one already."""
    with _written_beside(path, content) as beside:
        # link, not rename: of two processes that make their first key at once, one must lose.
        os.link(beside, path)


def replace_private(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600 in the place of the one there, if any."""
    with _written_beside(path, content) as beside:
        beside.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file beside `path` against every other thread and process."""
    _make_folder(path)
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    _make_folder(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        yield beside
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make_folder(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
