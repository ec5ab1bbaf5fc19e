"""The original list files: compressed, named by the SHA-256 of their content, never changed.

    originals/ab/cdef…01.gz   the file whose content has the hash abcdef…01

What is kept here and the record are enough to make every index and calling side again.
"""

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from consent.durable import sweep, sync_folder, temporary

CHUNK_BYTES: Final = 1 << 20
LEVEL: Final = 1
"""Lists of numbers are digits: level 6 saves a tenth of the space for three times the time."""

SHA256: Final = re.compile(r"[0-9a-f]{64}")


class OriginalError(Exception):
    """An original is not there, or is not what it was."""


class Readable(Protocol):
    """A stream of bytes: b"" is its end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Original:
    """The hash and the size of an uncompressed original."""

    sha256: str
    size_bytes: int


class Originals:
    """The originals in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder

    def path(self, sha256: str) -> Path:
        """Where the original of this hash lies or would lie."""
        if not SHA256.fullmatch(sha256):
            raise OriginalError(f"original {sha256!r}: expected 64 hexadecimal digits")
        return self.folder / sha256[:2] / f"{sha256[2:]}.gz"

    def keep(self, source: Readable, *, progress: Callable[[int], None] | None = None) -> Original:
        """Stores what a stream gives, once however often it comes.

        `progress` is told the bytes taken so far. Raises OSError where the folder cannot be
        written; what the stream raises goes through. Neither leaves anything behind.
        """
        digest, size = hashlib.sha256(), 0
        with temporary(self.folder) as (file, beside):
            # No name and no time in the header: the same content gives the same file.
            with gzip.GzipFile("", "wb", compresslevel=LEVEL, fileobj=file, mtime=0) as packed:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    packed.write(chunk)
                    size += len(chunk)
                    if progress:
                        progress(size)
            file.flush()
            os.fsync(file.fileno())
            path = self.path(digest.hexdigest())
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # Over an older copy too: that one may have rotted, this one is known to be right.
            beside.replace(path)
        sync_folder(path.parent)
        sync_folder(self.folder)
        return Original(digest.hexdigest(), size)

    @contextmanager
    def open(self, sha256: str) -> Iterator[Readable]:
        """The content of an original. What was read is proved only by reading to the end.

        Opening and reading raise OriginalError where the file is gone, cut or altered.
        """
        path = self.path(sha256)
        try:
            file = path.open("rb")
        except OSError as error:
            raise OriginalError(f"original {path}: {error.strerror}") from error
        with file, gzip.GzipFile(fileobj=file, mode="rb") as packed:
            yield _Proved(packed, sha256=sha256, name=str(path))

    def sweep(self) -> int:
        """Removes what loaders that were killed left behind."""
        return sweep(self.folder)


class _Proved:
    """A stream that compares the hash of all that was read with the one expected."""

    def __init__(self, packed: gzip.GzipFile, *, sha256: str, name: str) -> None:
        self._packed = packed
        self._expected = sha256
        self._name = name
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        try:
            chunk = self._packed.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise OriginalError(f"original {self._name} is damaged: {error}") from error
        self._digest.update(chunk)
        if not chunk and self._digest.hexdigest() != self._expected:
            raise OriginalError(f"original {self._name} is damaged: its content has another hash")
        return chunk
