"""The secrets of an installation: what keeps numbers out of logs, records and databases.

One JSON file of mode 0600 holds three purposes, each with every version still in use:

- `token`: HMAC-SHA256 of numbers, since a plain hash of a number falls to a search in minutes;
- `decision`: the keyed hash behind decision ids;
- `data`: AES-256-GCM (NIST SP 800-38D) of what is personal at rest.

The newest version writes, every version reads. No method and no message shows a key.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consent.private import create_private, locked, read_private, replace_private

PURPOSES: Final = ("token", "decision", "data")
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
VERSION_BYTES: Final = 2
SEAL_BYTES: Final = VERSION_BYTES + NONCE_BYTES + 16
"""What `encrypt` adds to a text: version, nonce and the tag of GCM."""

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = [first + second for first in _LETTERS for second in _LETTERS]


class KeyringError(Exception):
    """The key file cannot be used, or a sealed value does not open with it."""


class Keyring:
    """The keys of one file, by purpose and version."""

    __slots__ = ("_ciphers", "_inner", "_keys", "_outer", "_path", "decision_key")

    def __init__(
        self, keys: Mapping[str, Mapping[int, bytes]], *, path: Path | None = None
    ) -> None:
        self._path = path
        self._take(keys)

    def _take(self, keys: Mapping[str, Mapping[int, bytes]]) -> None:
        self._keys = keys
        self._ciphers = {version: AESGCM(key) for version, key in keys["data"].items()}
        # HMAC (RFC 2104) with its two pads hashed once: half the cost of a digest a number.
        block = keys["token"][self.version("token")].ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
        self.decision_key: bytes = keys["decision"][self.version("decision")]

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """The keyring of a file, made with fresh keys where there is none.

        Raises KeyringError where others may read the file, or it is no key file.
        """
        try:
            return cls(_read(path), path=path)
        except FileNotFoundError:
            pass
        try:
            create_private(path, _dump({purpose: {1: _new_key()} for purpose in PURPOSES}))
        except FileExistsError:
            pass  # another process made it first, and its keys are the installation's
        except OSError as error:
            raise KeyringError(f"the key file cannot be written: {error}") from error
        return cls(_read(path), path=path)

    def reload(self) -> None:
        """Takes in keys that were added to the file. Raises KeyringError."""
        if self._path is None:
            return
        try:
            self._take(_read(self._path))
        except FileNotFoundError as gone:
            raise KeyringError(f"the key file is gone: {gone.filename}") from None

    @classmethod
    def rotate(cls, path: Path, purpose: str) -> Self:
        """Adds a version to one purpose, which writes from now on; older ones still read."""
        if purpose not in PURPOSES:
            raise KeyringError(f"no key is for {purpose!r}, expected one of {', '.join(PURPOSES)}")
        with locked(path):
            keys = _read(path)
            keys[purpose] |= {max(keys[purpose]) + 1: _new_key()}
            replace_private(path, _dump(keys))
        return cls(keys, path=path)

    def version(self, purpose: str) -> int:
        """The version of a purpose that writes."""
        return max(self._keys[purpose])

    def token(self, value: int) -> str:
        """What stands for a number in logs, records and exports: 16 letters and digits.

        They are the first 80 bits of `digest(value)` in base32, so that a log line can be
        matched to the ledger by whoever holds the ledger, without the number. Of 10^9 numbers two
        have the same with a chance of 4·10⁻⁷.
        """
        return _shown(self.digest(value))

    def tokens(self, value: int) -> list[str]:
        """What stands for a number under every token key, newest first: older logs have older."""
        return [_shown(digest) for digest in self.digests(value)]

    def digest(self, value: int) -> bytes:
        """The 32-byte keyed hash of a number under the newest token key."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(b"%d" % value)
        outer.update(inner.digest())
        return outer.digest()

    def digests(self, value: int) -> list[bytes]:
        """The keyed hash of a number under every token key, newest first."""
        versions = sorted(self._keys["token"].items(), reverse=True)
        return [hmac.digest(key, b"%d" % value, "sha256") for _, key in versions]

    def encrypt(self, plain: bytes, aad: bytes) -> bytes:
        """Seals bytes to a place: `aad` names the place and is needed again to open them."""
        version = self.version("data")
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[version].encrypt(nonce, plain, aad)
        return version.to_bytes(VERSION_BYTES) + nonce + sealed

    def decrypt(self, sealed: bytes, aad: bytes) -> bytes:
        """Opens what `encrypt` sealed. Raises KeyringError if key, place or bytes are others."""
        version = int.from_bytes(sealed[:VERSION_BYTES])
        cipher = self._ciphers.get(version)
        if cipher is None:
            self.reload()  # another process may have rotated them
            cipher = self._ciphers.get(version)
        if cipher is None:
            known = ", ".join(map(str, sorted(self._ciphers)))
            raise KeyringError(
                f"data key version {version} is not in the keyring, which has {known}"
            )
        return _open(cipher, sealed[VERSION_BYTES:], aad)


def _shown(digest: bytes) -> str:
    """The first 80 bits in base32, ten of them a pair: the module's own is Python, and slow."""
    a, b, c, d, e = digest[0], digest[1], digest[2], digest[3], digest[4]
    f, g, h, i, j = digest[5], digest[6], digest[7], digest[8], digest[9]
    pairs = _PAIRS
    return (
        f"{pairs[a << 2 | b >> 6]}{pairs[(b & 63) << 4 | c >> 4]}"
        f"{pairs[(c & 15) << 6 | d >> 2]}{pairs[(d & 3) << 8 | e]}"
        f"{pairs[f << 2 | g >> 6]}{pairs[(g & 63) << 4 | h >> 4]}"
        f"{pairs[(h & 15) << 6 | i >> 2]}{pairs[(i & 3) << 8 | j]}"
    )


def seal(key: bytes, plain: bytes, aad: bytes) -> bytes:
    """Seals bytes to a place under a key of one's own: that of a subject of the ledger."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Opens what `seal` sealed. Raises KeyringError if key, place or bytes are others."""
    return _open(AESGCM(key), sealed, aad)


def _open(cipher: AESGCM, sealed: bytes, aad: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        raise KeyringError(
            "a sealed value does not open: it was altered, moved, or sealed with other keys"
        ) from None


def _new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def _read(path: Path) -> dict[str, dict[int, bytes]]:
    try:
        content = json.loads(read_private(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyringError(str(error)) from error
    except ValueError:
        raise KeyringError(f"{path} is no key file: expected JSON") from None
    try:
        keys = {
            purpose: {
                int(entry["version"]): base64.b64decode(entry["key"], validate=True)
                for entry in content[purpose]
            }
            for purpose in PURPOSES
        }
    except (KeyError, TypeError, ValueError):
        keys = {}
    lengths = {len(key) for versions in keys.values() for key in versions.values()}
    if lengths != {KEY_BYTES} or not all(keys.values()):
        expected = f"versions of {KEY_BYTES} bytes for each of {', '.join(PURPOSES)}"
        raise KeyringError(f"{path} is no key file: expected {expected}")
    return keys


def _dump(keys: Mapping[str, Mapping[int, bytes]]) -> bytes:
    content = {
        purpose: [
            {"version": version, "key": base64.b64encode(key).decode()}
            for version, key in sorted(versions.items())
        ]
        for purpose, versions in keys.items()
    }
    return json.dumps(content, indent=2).encode() + b"\n"
