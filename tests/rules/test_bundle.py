"""Bundles: one content has one form and one digest, and nothing else is taken for one."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules import bundle
from rules.bundle import BundleError, pack, unpack
from rules.document import RuleSetError
from rules.loading import digest, load_files, load_packs, read_folder

SHIPPED = Path(__file__).parents[2] / "deploy" / "rules"

NAMES = st.from_regex(
    r"[a-z][a-z0-9_-]{0,31}/[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}\.toml", fullmatch=True
)
FILES = st.dictionaries(st.just("packs.toml") | NAMES, st.text().map(str.encode), max_size=5)


@settings(max_examples=100)
@given(FILES)
def test_unpacking_gives_what_was_packed(files: dict[str, bytes]) -> None:
    """Whatever the texts hold: line ends, control characters, quotes."""
    assert unpack(pack(files)) == files


@settings(max_examples=50)
@given(FILES)
def test_one_content_has_one_digest(files: dict[str, bytes]) -> None:
    """In whatever order the files came."""
    turned = dict(reversed(files.items()))
    assert bundle.digest(pack(turned)) == bundle.digest(pack(files))


@settings(max_examples=50)
@given(FILES, st.data())
def test_any_other_byte_is_another_bundle_or_none(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    """One changed byte never goes unseen."""
    content = bytearray(pack(files))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    assert bundle.digest(bytes(content)) != bundle.digest(pack(files))


ESCAPES = [
    "../packs.toml",
    "cn/../../etc/x.toml",
    "/etc/x.toml",
    "cn//x.toml",
    "cn/deep/x.toml",
    "cn/.hidden.toml",
    ".git/x.toml",
    "cn\\..\\x.toml",
    "cn/x.toml\n",
    "cn/x\0.toml",
    "cn/x.py",
    "x.toml",
    "CN/x.toml",
    "",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_is_none_of_a_pack_is_refused(path: str) -> None:
    """By whoever makes a bundle and by whoever opens one."""
    with pytest.raises(BundleError, match="is no path of a rule pack"):
        pack({path: b""})
    with pytest.raises(BundleError, match="is no path of a rule pack"):
        unpack(json.dumps({path: ""}, separators=(",", ":")).encode())


BROKEN = {
    "no JSON": (b"{", "not JSON"),
    "not UTF-8": (b'{"packs.toml":"\xff"}', "not JSON"),
    "nested without end": (b"[" * 100_000, "not JSON"),
    "a list": (b"[]", "no JSON object"),
    "a number for a text": (b'{"packs.toml":1}', "no JSON object"),
    "a space too many": (b'{"packs.toml": ""}', "one digest"),
    "a file twice": (b'{"packs.toml":"a","packs.toml":""}', "one digest"),
    "out of order": (b'{"packs.toml":"","cn/a.toml":""}', "one digest"),
    "half a character": (b'{"packs.toml":"\\ud800"}', "not Unicode"),
    "too large": (b" " * (bundle.MOST_BYTES + 1), "at most"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_bundle_is_refused(content: bytes, message: str) -> None:
    """With what is wrong."""
    with pytest.raises(BundleError, match=message):
        unpack(content)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"packs.toml": b"\xff"}, "packs.toml is not UTF-8"),
        ({"cn/a.toml": b"x" * bundle.MOST_BYTES}, "at most"),
        ({f"cn/{n}.toml": b"" for n in range(bundle.MOST_FILES + 1)}, "1001 files, at most 1000"),
    ],
    ids=["not UTF-8", "too large", "too many"],
)
def test_what_cannot_be_a_bundle_is_refused(files: dict[str, bytes], message: str) -> None:
    """Before anything is kept of it."""
    with pytest.raises(BundleError, match=message):
        pack(files)


def test_a_folder_and_its_bundle_are_the_same_rules() -> None:
    """Loaded from either, they have one digest and the same sets."""
    files = read_folder(SHIPPED)
    folder, unpacked = load_packs(SHIPPED), load_files(unpack(pack(files)))
    assert folder.digest == unpacked.digest == digest(SHIPPED) == bundle.digest(pack(files))
    assert [each.ruleset.label for each in folder.packs.values()] == [
        each.ruleset.label for each in unpacked.packs.values()
    ]
    assert folder.rows == unpacked.rows


def test_what_is_no_rule_is_not_in_a_bundle(tmp_path: Path) -> None:
    """Notes, hidden folders and files of editors stay where they are."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "rules"))
    for name in ("README.md", "other.toml", "cn/notes.txt", "cn/rules.toml.orig"):
        (folder / name).write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.toml").write_text("x")
    assert read_folder(folder) == read_folder(SHIPPED)


def test_a_pack_without_a_file_is_told(tmp_path: Path) -> None:
    """A folder that is there by mistake would otherwise be a pack that is missing in silence."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "rules"))
    (folder / "zz").mkdir()
    with pytest.raises(RuleSetError, match=r"zz: no \*\.toml in the folder of the pack"):
        load_packs(folder)
