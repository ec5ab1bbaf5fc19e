"""The signals of entities, blocks and trunks in every worker: one file, mapped, swapped whole.

The recorder writes it beside and renames it; a worker looks at it a few times a second, and looks
a value up where a rule asks for it. A lookup costs no read of any server, and taking a new file in
costs one `mmap`.

File: magic, three counts (u32), then for each kind its keys (u64, rising) and as many values of
64 bytes: their length in the first, and what `consent.conduct.pack` gives.
"""

import hashlib
import mmap
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from consent.conduct import BLOCK, NOTHING, Values, unpack
from rules.call import Call

FILE: Final = "signals.bin"
KINDS: Final = ("entity", "block", "trunk")
STALE_SECONDS: Final = 10.0
_MAGIC: Final = b"SIGNALS1"
_HEAD: Final = struct.Struct("<8s3I4x")
_VALUE: Final = 72
"""Bytes a value takes: a length, 64 at most, and padding."""


def place(key: int | str) -> int:
    """The key of a party in the file; a trunk's is a hash of its name."""
    if isinstance(key, int):
        return key & (1 << 64) - 1
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest())


def write(folder: Path, parties: Mapping[str, Mapping[int, bytes]]) -> None:
    """Write the file anew: packed values by kind and place. Raises OSError."""
    parts = [_HEAD.pack(_MAGIC, *(len(parties[kind]) for kind in KINDS))]
    for kind in KINDS:
        keys = sorted(parties[kind])
        parts.append(struct.pack(f"<{len(keys)}Q", *keys))
        parts.extend(_entry(parties[kind][key]) for key in keys)
    beside = folder / (FILE + ".new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(b"".join(parts))
    beside.replace(folder / FILE)


@lru_cache(maxsize=8192)
def _entry(packed: bytes) -> bytes:
    """A value as it stands in the file; most parties have the values of many others."""
    return (bytes((len(packed),)) + packed).ljust(_VALUE, b"\0")


class ConductView:
    """What the file says, as calls ask for it; `look` takes in a newer one."""

    def __init__(self, folder: Path, *, wall: Callable[[], float] = time.time) -> None:
        self.written = 0.0
        """When the recorder last said that it holds, epoch seconds."""
        self._path = folder / FILE
        self._wall = wall
        self._inode = 0
        self._tables: dict[str, tuple[Any, memoryview]] = {}
        self.look()

    def look(self) -> None:
        """Take in the file if it is another one, and how old it is."""
        try:
            about = self._path.stat()
            if about.st_ino != self._inode:
                self._tables = _read(self._path)
                self._inode = about.st_ino
            self.written = about.st_mtime
        except (OSError, ValueError):
            self._tables = {}
            self._inode = 0

    @property
    def known(self) -> bool:
        """Whether a recorder keeps the file up to date."""
        return bool(self._tables) and abs(self._wall() - self.written) < STALE_SECONDS

    def of(self, party: str, call: Call, /) -> Values | None:
        """See `rules.call.Conduct`."""
        if not self.known:
            return None
        if party == "trunk":
            return self.find(party, place(call.trunk)) if call.trunk else NOTHING
        key = call.entity_id if party == "entity" else call.calling.value // BLOCK
        return self.find(party, key) if key else NOTHING

    def find(self, kind: str, key: int) -> Values:
        """The values at a place; of a party that the file does not name, nothing."""
        keys, values = self._tables[kind]
        at = bisect_left(keys, key)
        if at == len(keys) or keys[at] != key:
            return NOTHING
        length = values[at * _VALUE]
        return unpack(bytes(values[at * _VALUE + 1 : at * _VALUE + 1 + length]))


def _read(path: Path) -> dict[str, tuple[Any, memoryview]]:
    """Raises OSError and ValueError."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    magic, *counts = _HEAD.unpack_from(view)
    if magic != _MAGIC or len(view) != _HEAD.size + sum(counts) * (8 + _VALUE):
        raise ValueError(f"{path} is no file of signals")
    tables, at = {}, _HEAD.size
    for kind, count in zip(KINDS, counts, strict=True):
        keys = view[at : at + 8 * count].cast("Q") if count else []
        at += 8 * count
        tables[kind] = (keys, view[at : at + _VALUE * count])
        at += _VALUE * count
    return tables
