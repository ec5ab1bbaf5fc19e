"""The checksum that a publisher gives with a list file, and whether the file has it."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consent.listing.source import ListingError

ALGORITHMS: Final = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
"""By the hexadecimal digits of a digest."""

BESIDE: Final = (".sha512", ".sha256", ".sha1", ".md5", ".SHA256", ".MD5")
SUMS: Final = ("SHA512SUMS", "SHA256SUMS", "SHA1SUMS", "MD5SUMS", "sha256sums.txt")
MOST_BYTES: Final = 1 << 20

_GNU: Final = re.compile(r"\\?([0-9a-fA-F]+)(?: [ *](.+))?")
_BSD: Final = re.compile(r"[A-Z0-9-]+ ?\((.+)\) ?= ?([0-9a-fA-F]+)")
_FIELD: Final = re.compile(r"\s*([a-z0-9-]+)=:([A-Za-z0-9+/=]*):\s*")
_HTTP: Final = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5", "sha": "sha1"}


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest in lower hexadecimal digits, and who says it."""

    algorithm: str
    digest: str
    source: str


def published(path: Path, given: Path | None = None) -> Checksum | None:
    """What is said of a list file: in the file `given`, else in one that lies beside it.

    Lines are as `sha256sum` and `md5sum` write them, the BSD form included; a digest alone is of
    the list. None where nothing lies beside it. Raises ListingError where `given` says nothing of
    the list, and for two digests of one kind.
    """
    if given is not None:
        found = _said_in(given, path.name)
        if found is None:
            raise ListingError(f"checksum file {given} names no {path.name}: expected its digest")
        return found
    for beside in (*(path.with_name(path.name + end) for end in BESIDE),
                   *(path.with_name(name) for name in SUMS)):  # fmt: skip
        if beside.is_file() and (found := _said_in(beside, path.name)):
            return found
    return None


def of_header(value: str, *, source: str) -> Checksum | None:
    """The strongest digest of a Content-Digest or Repr-Digest field that is known here.

    None where all are of other algorithms (RFC 9530, section 2). Raises ListingError for what is
    no such field.
    """
    found = {}
    for member in value.split(","):
        match = _FIELD.fullmatch(member)
        try:
            digest = base64.b64decode(match[2], validate=True) if match else b""
        except binascii.Error:
            digest = b""
        if match is None or not digest:
            raise ListingError(f"{source} is {value[:80]!r}, expected sha-256=:base64:")
        if match[1] in _HTTP:
            found[_HTTP[match[1]]] = digest.hex()
    for length in sorted(ALGORITHMS, reverse=True):
        if ALGORITHMS[length] in found:
            return Checksum(ALGORITHMS[length], found[ALGORITHMS[length]], source)
    return None


def verify(path: Path, expected: Checksum) -> None:
    """Raises ListingError, with both values, unless the file has the digest."""
    try:
        with path.open("rb") as file:
            made = hashlib.new(expected.algorithm, usedforsecurity=False)
            while chunk := file.read(1 << 20):
                made.update(chunk)
    except OSError as error:
        raise ListingError(f"list file {path}: {error.strerror}") from error
    if made.hexdigest() != expected.digest:
        raise ListingError(
            f"list file {path.name} has {expected.algorithm} {made.hexdigest()}, expected "
            f"{expected.digest} by {expected.source}: it is cut, damaged or another file"
        )


def _said_in(sums: Path, name: str) -> Checksum | None:
    try:
        with sums.open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise ListingError(f"checksum file {sums}: {error.strerror}") from error
    lines = [line.strip("\ufeff \r\n") for line in text.splitlines()]
    said = [found for line in lines if line and (found := _line(line))]
    digests = {digest for digest, whose in said if whose and Path(whose).name == name}
    if not digests and len(said) == 1 and not said[0][1]:
        digests = {said[0][0]}
    if len(digests) > 1:
        raise ListingError(f"checksum file {sums} has {len(digests)} digests of {name}")
    return next((Checksum(ALGORITHMS[len(one)], one, sums.name) for one in digests), None)


def _line(line: str) -> tuple[str, str] | None:
    if match := _BSD.fullmatch(line):
        name, digest = match.groups()
    elif match := _GNU.fullmatch(line):
        digest, name = match[1], match[2] or ""
    else:
        return None
    return (digest.lower(), name) if len(digest) in ALGORITHMS else None
