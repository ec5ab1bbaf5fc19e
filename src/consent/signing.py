"""Signatures: Ed25519 (RFC 8032), over a SHA-256 digest and what it is the digest of.

Of rule sets, so that whoever can write to the database cannot write rules: only who has a private
key can. Which bundle that was ever signed is in force stays the database's to say. And of the
ledger's checkpoints, so that its past cannot be written anew.

Private keys are PEM files of mode 0600. Public keys are trusted by standing in the file, or a
file of the folder, that SCREENING_RULE_KEYS names: PEM, or lines of base64 as `keygen` prints
them, with a name behind and comments after #. Without that setting no signature is asked for.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consent.private import create_private, read_private


class Signed(StrEnum):
    """What is signed begins with it, so that no signature given for another purpose holds."""

    BUNDLE = "rules"
    CHECKPOINT = "checkpoint"

    def message(self, digest: str) -> bytes:
        """The bytes that are signed."""
        return f"call-screening {self} 1\0".encode() + bytes.fromhex(digest)


PEM: Final = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class SigningError(Exception):
    """A key cannot be used, or a signature does not hold."""


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: Final = _raw(key.public_key())
        self.id: Final = key_id(self.public)

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new key, written to a file that does not exist yet."""
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            create_private(path, pem)
        except FileExistsError:
            raise SigningError(f"{path} exists: a key is never written over") from None
        return cls(key)

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """The key of a file, made where there is none. Raises SigningError."""
        if not path.exists():
            # Another process may make it first, and its key is then the installation's.
            with suppress(SigningError):
                return cls.create(path)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key of a file that only its owner can read."""
        try:
            key = serialization.load_pem_private_key(read_private(path), password=None)
        except OSError as error:
            raise SigningError(str(error)) from None
        except (ValueError, TypeError):
            raise SigningError(f"{path} is no private key: expected PEM, unencrypted") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningError(f"{path} is no Ed25519 key: make one with `screening rules keygen`")
        return cls(key)

    def line(self) -> str:
        """The public half as a line of a file of trusted keys."""
        return base64.b64encode(self.public).decode()

    def sign(self, digest: str, *, of: Signed = Signed.BUNDLE) -> bytes:
        """The signature of what has this digest, in hexadecimal."""
        return self._key.sign(of.message(digest))


class TrustedKeys:
    """The public keys whose signatures hold, by id; None: no signature is asked for."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey] | None = None) -> None:
        self._keys = keys

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """The keys of a file, or of every file of a folder. Raises SigningError."""
        if path is None:
            return cls()
        try:
            files = sorted(path.glob("[!.]*")) if path.is_dir() else [path]
            keys = [key for file in files for key in _public_keys(file.read_text(), file)]
        except (OSError, UnicodeDecodeError) as error:
            raise SigningError(f"the trusted keys cannot be read: {error}") from None
        if not keys:
            raise SigningError(f"{path} holds no public key: expected one that rules are signed by")
        return cls({key_id(_raw(key)): key for key in keys})

    @classmethod
    def of(cls, keys: Iterable[SigningKey]) -> Self:
        """Those of some private keys."""
        return cls({key.id: Ed25519PublicKey.from_public_bytes(key.public) for key in keys})

    def check(self, digest: str, *, signature: bytes, of: Signed = Signed.BUNDLE) -> None:
        """Raises SigningError unless a trusted key signed it, or none has to."""
        if self._keys is None:
            return
        name = f"{of.name.lower()} {digest[:12]}"
        trusted = f"trusted are {', '.join(self._keys)}"
        if not signature:
            raise SigningError(f"{name} is not signed; {trusted}")
        for key in self._keys.values():
            try:
                key.verify(signature, of.message(digest))
            except InvalidSignature:
                continue
            return
        raise SigningError(f"{name} has no signature of a trusted key; {trusted}")


def key_id(public: bytes) -> str:
    """What a key is called where it is spoken of: 16 digits of the hash of its public half."""
    return hashlib.sha256(public).hexdigest()[:16]


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _public_keys(text: str, path: Path) -> list[Ed25519PublicKey]:
    keys = []
    for pem in PEM.findall(text):
        try:
            key = serialization.load_pem_public_key(pem.encode())
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise SigningError(f"{path} has a PEM block that is no Ed25519 public key")
        keys.append(key)
    for number, line in enumerate(PEM.sub("", text).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            raw = base64.b64decode(words[0], validate=True)
            keys.append(Ed25519PublicKey.from_public_bytes(raw))
        except ValueError:
            # Not quoted: a private key may have been put here by mistake.
            raise SigningError(
                f"{path}, line {number}: no Ed25519 public key, expected the base64 of 32 bytes"
            ) from None
    return keys
