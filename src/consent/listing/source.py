"""List files as they lie on disk: plain, gzip or zip, read as a stream of bounded size."""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

GZIP: Final = b"\x1f\x8b"
ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
NO_LISTS: Final = (".sha256", ".sha", ".md5", ".sig", ".asc", ".pdf", "/")
"""Ends of names in an archive that go with a list and are none."""


class ListingError(Exception):
    """A file cannot be read as a list: the message names the file and what was expected."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a file may unpack to: in all, and for each packed byte beyond a first part."""

    most_bytes: int = 32 << 30
    most_ratio: int = 200
    free_bytes: int = 16 << 20


class Source:
    """The unpacked content of a list file; `done` of `total` bytes have been read.

    The two count packed or unpacked bytes, whichever can be told beforehand.
    """

    def __init__(self, name: str, *, file: IO[bytes], stream: Any, bounds: Bounds) -> None:
        self.name: Final = name
        self.total = 0
        self._file = file
        self._stream = stream
        self._bounds = bounds
        self._packed_bytes = 0
        self._read_bytes = 0

    @property
    def done(self) -> int:
        return self._read_bytes if self._packed_bytes else self._file.tell()

    def sized(self, *, total: int, packed_bytes: int = 0) -> "Source":
        """Sets what an archive says of its member."""
        self.total, self._packed_bytes = total, packed_bytes
        return self

    def read(self, size: int, /) -> bytes:
        """The next bytes, b"" at the end. Raises ListingError."""
        try:
            chunk: bytes = self._stream.read(size)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise ListingError(f"list file {self.name} is cut or damaged: {error}") from error
        self._read_bytes += len(chunk)
        packed = self._packed_bytes or self._file.tell()
        bounds = self._bounds
        if self._read_bytes > bounds.most_bytes:
            raise ListingError(
                f"list file {self.name} unpacks to more than {bounds.most_bytes} bytes"
            )
        if self._read_bytes > max(bounds.free_bytes, packed * bounds.most_ratio):
            raise ListingError(
                f"list file {self.name} unpacks to more than {bounds.most_ratio} times its size: "
                "no list of numbers does"
            )
        return chunk


@contextmanager
def open_source(path: Path, *, member: str = "", bounds: Bounds | None = None) -> Iterator[Source]:
    """The content of a list file; `member` names the one to read in a zip of several.

    What it is packed with is told by its first bytes. Raises ListingError.
    """
    bounds = bounds or Bounds()
    try:
        file = path.open("rb")
    except OSError as error:
        raise ListingError(f"list file {path}: {error.strerror}") from error
    with file:
        try:
            head = file.read(4)
            size = file.seek(0, 2)
            file.seek(0)
        except OSError as error:
            raise ListingError(f"list file {path}: {error.strerror}, expected a file") from error
        if head[:2] == GZIP:
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                yield Source(str(path), file=file, stream=stream, bounds=bounds).sized(total=size)
        elif head in ZIP:
            with _member(path, file, member=member, bounds=bounds) as source:
                yield source
        else:
            yield Source(str(path), file=file, stream=file, bounds=bounds).sized(total=size)


@contextmanager
def _member(path: Path, file: IO[bytes], *, member: str, bounds: Bounds) -> Iterator[Source]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise ListingError(f"list file {path} is cut or damaged: {error}") from error
    with archive:
        members = {
            info.filename: info
            for info in archive.infolist()
            if not info.filename.lower().endswith(NO_LISTS)
            and not info.filename.startswith("__MACOSX/")
        }
        wanted = [name for name in members if not member or name == member]
        if len(wanted) != 1:
            there = ", ".join(sorted(members)[:6]) or "nothing that could be a list"
            expected = f"a member {member!r}" if member else "one list"
            raise ListingError(f"list file {path} holds {there}: expected {expected}")
        info = members[wanted[0]]
        if info.flag_bits & 1:
            raise ListingError(f"list file {path}: {info.filename} is encrypted")
        try:
            stream = archive.open(info)
        except (NotImplementedError, zipfile.BadZipFile) as error:
            raise ListingError(f"list file {path}: {info.filename}: {error}") from error
        with stream:
            source = Source(f"{path}:{info.filename}", file=file, stream=stream, bounds=bounds)
            yield source.sized(total=info.file_size, packed_bytes=max(1, info.compress_size))
