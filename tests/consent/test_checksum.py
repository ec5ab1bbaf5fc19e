"""The digest that a publisher gives is found, in each usual form, and held against the file."""

import hashlib
from pathlib import Path

import pytest

from consent.listing import ListingError
from consent.listing.checksum import of_header, published, verify

TEXT = b"441632960001\n"
SHA256, MD5 = hashlib.sha256(TEXT).hexdigest(), hashlib.md5(TEXT).hexdigest()  # noqa: S324


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "list.txt.zip"
    path.write_bytes(TEXT)
    return path


@pytest.mark.parametrize(
    ("name", "said", "algorithm"),
    [
        ("list.txt.zip.sha256", f"{SHA256}  list.txt.zip\n", "sha256"),
        ("list.txt.zip.sha256", f"{SHA256.upper()} *list.txt.zip\r\n", "sha256"),
        ("list.txt.zip.sha256", SHA256, "sha256"),
        ("list.txt.zip.md5", f"MD5 (out/list.txt.zip) = {MD5}\n", "md5"),
        ("SHA256SUMS", f"{'0' * 64}  other.zip\n{SHA256}  ./list.txt.zip\n", "sha256"),
    ],
)
def test_a_digest_beside_the_list_is_found(
    path: Path, name: str, said: str, algorithm: str
) -> None:
    """As `sha256sum`, `md5sum` and BSD write it; the file then has it, and a cut one has not."""
    beside = path.with_name(name)
    beside.write_text(said)
    found = published(path)
    assert found
    assert (found.algorithm, found.source) == (algorithm, name)
    assert found == published(path, beside)
    verify(path, found)
    path.write_bytes(TEXT[:-1])
    with pytest.raises(ListingError, match=f"{found.algorithm} [0-9a-f]+, expected {found.digest}"):
        verify(path, found)


def test_what_says_nothing_of_the_list(path: Path) -> None:
    """Beside it that is nothing; named, it is an error, and so are two digests of one file."""
    sums = path.with_name("SHA256SUMS")
    sums.write_text(f"{SHA256}  other.zip\n")
    assert published(path) is None
    with pytest.raises(ListingError, match=r"names no list\.txt\.zip"):
        published(path, sums)
    sums.write_text(f"{SHA256}  list.txt.zip\n{'0' * 64}  list.txt.zip\n")
    with pytest.raises(ListingError, match="2 digests"):
        published(path)
    with pytest.raises(ListingError, match="No such file"):
        published(path, path.with_name("absent"))


def test_a_digest_in_a_header() -> None:
    """The strongest that is known; others are passed over, and what is no field is refused."""
    value = "unixsum=:GQ==:, sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    found = of_header(value, source="Repr-Digest")
    assert found
    assert found.digest == "5f8f04f6a3a892aaabbddb6cf273894493773960d4a325b105fee46eef4304f1"
    assert of_header("unixsum=:GQ==:", source="Repr-Digest") is None
    for wrong in ("sha-256=X48E", "", "sha-256=:x:"):
        with pytest.raises(ListingError, match="expected sha-256"):
            of_header(wrong, source="Repr-Digest")
