"""Signatures hold only for the bundle and the key they were made of."""

import base64
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from consent.signing import Signed, SigningError, SigningKey, TrustedKeys

DIGEST, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.create(tmp_path / "author.pem")


def line(key: SigningKey) -> str:
    return base64.b64encode(key.public).decode()


def pem(key: SigningKey) -> str:
    public = Ed25519PublicKey.from_public_bytes(key.public)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


def trusting(path: Path, text: str) -> TrustedKeys:
    path.write_text(text)
    return TrustedKeys.load(path)


FORMS: dict[str, Callable[[SigningKey], str]] = {
    "base64": line,
    "base64 with name and comments": lambda key: f"# keys\n\n  {line(key)} author # of rules\n",
    "PEM": pem,
    "both, beside another": lambda key: pem(key) + base64.b64encode(bytes(31) + b"\1").decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_signature_of_a_trusted_key_holds(
    key: SigningKey, tmp_path: Path, form: Callable[[SigningKey], str]
) -> None:
    """In every form in which the key may stand in the file."""
    trusting(tmp_path / "keys", form(key)).check(DIGEST, signature=key.sign(DIGEST))


def test_a_folder_trusts_the_keys_of_all_its_files(key: SigningKey, tmp_path: Path) -> None:
    """Each author's key may have a file of its own; hidden files are not read."""
    second = SigningKey.create(tmp_path / "second.pem")
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "one").write_text(line(key))
    (folder / "two.pem").write_text(pem(second))
    (folder / ".two.pem.swp").write_bytes(b"\xff")
    trusted = TrustedKeys.load(folder)
    for each in (key, second):
        trusted.check(DIGEST, signature=each.sign(DIGEST))


def test_what_does_not_hold(key: SigningKey, tmp_path: Path) -> None:
    """No signature, one of another bundle, of another key, cut short, or made for another use."""
    trusted = trusting(tmp_path / "keys", line(key))
    stranger = SigningKey.create(tmp_path / "stranger.pem")
    bare = key._key.sign(bytes.fromhex(DIGEST))
    with pytest.raises(SigningError, match=f"abababababab is not signed; trusted are {key.id}"):
        trusted.check(DIGEST, signature=b"")
    for wrong in (key.sign(OTHER), stranger.sign(DIGEST), key.sign(DIGEST)[:-1], bare, b"x" * 64):
        with pytest.raises(SigningError, match="no signature of a trusted key"):
            trusted.check(DIGEST, signature=wrong)


def test_without_the_setting_nothing_is_asked_for() -> None:
    """Whatever signature there is."""
    TrustedKeys.load(None).check(DIGEST, signature=b"")
    TrustedKeys.load(None).check(DIGEST, signature=b"x")


UNFIT = {
    "nothing": ("", "holds no public key"),
    "only a comment": ("# none yet\n", "holds no public key"),
    "no base64": ("author\n", "line 1: no Ed25519 public key"),
    "too short": ("\nYWJj\n", "line 2: no Ed25519 public key"),
}


@pytest.mark.parametrize(("text", "message"), UNFIT.values(), ids=UNFIT)
def test_a_file_that_holds_no_key_trusts_nothing(tmp_path: Path, text: str, message: str) -> None:
    """An error, since to trust nobody and to trust everybody must not look alike."""
    with pytest.raises(SigningError, match=message):
        trusting(tmp_path / "keys", text)


def test_a_setting_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    """A file that was not mounted does not turn signatures off."""
    with pytest.raises(SigningError, match="cannot be read"):
        TrustedKeys.load(tmp_path / "absent")
    with pytest.raises(SigningError, match="holds no public key"):
        TrustedKeys.load(tmp_path)


def test_a_private_key_in_the_wrong_place_is_not_shown(key: SigningKey, tmp_path: Path) -> None:
    """The message names the line and not what stands in it."""
    text = (tmp_path / "author.pem").read_text()
    with pytest.raises(SigningError) as refused:
        trusting(tmp_path / "keys", text)
    secret = text.splitlines()[1]
    assert secret not in str(refused.value)


def test_another_kind_of_key_is_refused(key: SigningKey, tmp_path: Path) -> None:
    """As a public key, and to sign with."""
    curve = generate_private_key(SECP256R1())
    public = curve.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(SigningError, match="no Ed25519 public key"):
        trusting(tmp_path / "keys", public.decode())
    path = tmp_path / "curve.pem"
    path.write_bytes(
        curve.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    with pytest.raises(SigningError, match="is no Ed25519 key"):
        SigningKey.load(path)


def test_the_private_key_is_its_owners(key: SigningKey, tmp_path: Path) -> None:
    """Mode 0600, refused when others could read it, and never written over."""
    path = tmp_path / "author.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path).public == key.public
    with pytest.raises(SigningError, match="never written over"):
        SigningKey.create(path)
    path.chmod(0o640)
    with pytest.raises(SigningError, match="mode 0640"):
        SigningKey.load(path)
    assert re.fullmatch("[0-9a-f]{16}", key.id)
    assert Signed.BUNDLE.message("00").endswith(b"\0\0")
