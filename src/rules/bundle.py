"""A bundle: the rule packs of an operator as one string of bytes, the same on every node.

It is a JSON object of the files' paths and texts, in the order of the paths, so that one content
has one form and one SHA-256, which is the name of that revision everywhere. What comes back from
a database or a disk is believed in nothing: a path can name only the table of packs or a TOML
file of a pack, and a bundle that is not in the one form is refused.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

PATH: Final = re.compile(
    r"packs\.toml|[a-z][a-z0-9_-]{0,31}/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\.toml"
)
"""The table, or a file in the folder of a pack: nothing that begins with a dot or leads out."""

MOST_BYTES: Final = 16 * 2**20
"""10,000 rules with a case each take about 8 MB."""

MOST_FILES: Final = 1000


class BundleError(Exception):
    """A bundle that cannot be made, or is none; the message says what is wrong with it."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """The bundle of some files, by path. Raises BundleError."""
    texts = {}
    for path, content in files.items():
        try:
            texts[path] = content.decode()
        except UnicodeDecodeError:
            raise BundleError(f"{path} is not UTF-8") from None
    return _checked(texts)


def unpack(content: bytes) -> dict[str, bytes]:
    """The files of a bundle, by path. Raises BundleError."""
    if len(content) > MOST_BYTES:
        raise BundleError(f"the bundle has {len(content)} bytes, at most {MOST_BYTES} are taken")
    try:
        texts: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise BundleError("the bundle is not JSON") from None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise BundleError("the bundle is no JSON object of paths and texts")
    if _checked(texts) != content:
        raise BundleError("the bundle is not in the form that gives one content one digest")
    return {path: text.encode() for path, text in texts.items()}


def digest(content: bytes) -> str:
    """The SHA-256 of a bundle in hexadecimal: its name."""
    return hashlib.sha256(content).hexdigest()


def _checked(texts: Mapping[str, str]) -> bytes:
    if len(texts) > MOST_FILES:
        raise BundleError(f"the bundle has {len(texts)} files, at most {MOST_FILES} are taken")
    for path in texts:
        if not PATH.fullmatch(path):
            raise BundleError(
                f"{path[:100]!r} is no path of a rule pack: packs.toml or PACK/FILE.toml"
            )
    try:
        content = json.dumps(
            texts, ensure_ascii=False, sort_keys=True, separators=(",", ":")
        ).encode()
    except UnicodeEncodeError:
        raise BundleError("a text of the bundle is not Unicode") from None
    if len(content) > MOST_BYTES:
        raise BundleError(f"the bundle has {len(content)} bytes, at most {MOST_BYTES} are taken")
    return content
