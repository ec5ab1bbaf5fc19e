"""The key file: made once, private, rotated, and never shown."""

import base64
import hmac
import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import consent
from consent.keyring import PURPOSES, Keyring, KeyringError, seal, unseal
from consent.private import create_private

NUMBER = 447700900123


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keyring.json"


def test_made_once(path: Path) -> None:
    """The first load makes the file, with mode 0600; the next has the same keys."""
    first = Keyring.load_or_create(path)
    second = Keyring.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.token(NUMBER) == second.token(NUMBER)
    assert first.decision_key == second.decision_key
    assert second.decrypt(first.encrypt(b"plain", b"here"), b"here") == b"plain"
    assert [each.name for each in path.parent.iterdir()] == ["keyring.json"]


def test_made_by_many_at_once(path: Path) -> None:
    """Of many that make it at once, all end with the keys that are on disk."""
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: Keyring.load_or_create(path), range(8)))
    assert {ring.decision_key for ring in rings} == {Keyring.load_or_create(path).decision_key}


def test_purposes_have_keys_of_their_own(path: Path) -> None:
    """No key serves two purposes."""
    Keyring.load_or_create(path)
    content = json.loads(path.read_bytes())
    keys = {entry["key"] for entries in content.values() for entry in entries}
    assert sorted(content) == ["data", "decision", "token"]
    assert len(keys) == 3


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644], ids=oct)
def test_readable_by_others_is_refused(path: Path, mode: int) -> None:
    """A key file that others can read is refused, and the message says what to do."""
    Keyring.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyringError, match=f"chmod 600 {path}"):
        Keyring.load_or_create(path)


SHORT = base64.b64encode(b"short").decode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        json.dumps({purpose: [] for purpose in PURPOSES}).encode(),
        json.dumps({purpose: [{"version": 1, "key": SHORT}] for purpose in PURPOSES}).encode(),
    ],
    ids=["empty", "no text", "list", "no purpose", "no version", "short key"],
)
def test_broken_file_is_refused(path: Path, content: bytes) -> None:
    """A file that is no key file is refused, not replaced."""
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyringError, match="is no key file"):
        Keyring.load_or_create(path)
    assert path.read_bytes() == content


def test_rotation(path: Path) -> None:
    """The new version writes, the old one still reads; a ring that lacks the new one looks into
    its file, and says so where that lacks it, too."""
    old = Keyring.load_or_create(path)
    elsewhere = path.parent / "elsewhere.json"
    create_private(elsewhere, path.read_bytes())
    sealed = old.encrypt(b"plain", b"here")
    new = Keyring.rotate(path, "data")
    assert (old.version("data"), new.version("data")) == (1, 2)
    assert new.decrypt(sealed, b"here") == b"plain"
    anew = new.encrypt(b"plain", b"here")
    with pytest.raises(KeyringError, match="data key version 2 is not in the keyring, which has 1"):
        Keyring.load_or_create(elsewhere).decrypt(anew, b"here")
    assert old.decrypt(anew, b"here") == b"plain"

    turned = Keyring.rotate(path, "token")
    assert turned.token(NUMBER) != new.token(NUMBER)
    assert turned.digests(NUMBER) == [turned.digest(NUMBER), new.digest(NUMBER)]
    assert turned.decision_key == old.decision_key
    with pytest.raises(KeyringError, match="'tokens', expected one of token, decision, data"):
        Keyring.rotate(path, "tokens")


def test_sealed_is_bound_to_its_place(path: Path) -> None:
    """What is sealed opens only unaltered, in its place, with its key."""
    ring = Keyring.load_or_create(path)
    sealed = ring.encrypt(b"plain", b"here")
    altered = [sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:10], sealed[:2]]
    for each, place in [(sealed, b"there"), *((bad, b"here") for bad in altered)]:
        with pytest.raises(KeyringError, match="does not open"):
            ring.decrypt(each, place)
    assert ring.encrypt(b"plain", b"here") != sealed


@settings(max_examples=50)
@given(key=st.binary(min_size=32, max_size=32), plain=st.binary(), aad=st.binary())
def test_seal_law(key: bytes, plain: bytes, aad: bytes) -> None:
    """unseal(seal(x)) == x for every key and place."""
    assert unseal(key, seal(key, plain, aad), aad) == plain


@settings(max_examples=50)
@given(value=st.integers(1, 10**15))
def test_tokens_are_keyed(value: int) -> None:
    """The first 80 bits of HMAC-SHA256 in base32: the same under the same key only."""
    rings = [
        Keyring({"token": {1: key}, "decision": {1: bytes(32)}, "data": {1: bytes(32)}})
        for key in (b"a" * 32, b"a" * 32, b"b" * 32)
    ]
    first, same, other = (ring.token(value) for ring in rings)
    assert first == same != other
    digest = hmac.digest(b"a" * 32, str(value).encode(), "sha256")
    assert first == base64.b32encode(digest[:10]).decode().lower()


def test_nothing_shows_a_key(path: Path) -> None:
    """Neither the representation of a ring nor an unhandled error shows a key."""
    ring = Keyring.load_or_create(path)
    keys = [entry["key"] for each in json.loads(path.read_bytes()).values() for entry in each]
    script = """
import sys
from pathlib import Path
from consent.keyring import Keyring
ring = Keyring.load_or_create(Path(sys.argv[1]))
print(repr(ring))
ring.decrypt(b"", b"")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(consent.__file__).parents[1])},
        check=False,
    )
    said = repr(ring) + ended.stdout + ended.stderr
    assert "KeyringError" in ended.stderr
    assert not [key for key in keys if key in said]
