"""All packs of an operator, from their folder: the one place of `rules` that reads files.

The folder holds a folder for each pack and `packs.toml`, the operator's table of which pack a
call gets. What is loaded is one immutable object: the service swaps it in one assignment, and a
call that took the old one keeps it to its end.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from rules import bundle
from rules.call import Call
from rules.document import Document, Problem, Reader, RuleSetError
from rules.pack import Pack, read_pack
from rules.ruleset import RuleSet
from rules.selection import Selection

TABLE: Final = "packs.toml"
DEFAULT: Final = "default"
_ROW: Final[dict[str, tuple[type, ...]]] = dict.fromkeys(
    ("side", "trunk", "called_country", "pack"), (str,)
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the operator's table; what is "" matches every call."""

    pack: str
    side: str = ""
    trunk: str = ""
    called_country: str = ""


@dataclass(frozen=True, slots=True)
class Packs:
    """Every pack, which call gets which, and the bundle of all that they were made of."""

    packs: Mapping[str, Pack]
    rows: tuple[Row, ...]
    content: bytes = field(repr=False)
    digest: str
    """Of the bundle."""
    selection: Selection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        selection = Selection(
            [
                (row.side, row.trunk, row.called_country, self.packs[row.pack].ruleset)
                for row in self.rows
            ],
            self.packs[DEFAULT].ruleset,
        )
        object.__setattr__(self, "selection", selection)

    def select(self, call: Call) -> RuleSet:
        """The set of the first row that matches, else `default`, which blocks least."""
        return self.selection.of(call)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What the packs' authors should know."""
        return tuple(warning for pack in self.packs.values() for warning in pack.warnings)


def load_pack(folder: Path) -> Pack:
    """The pack in a folder, from its *.toml in the order of their names. Raises RuleSetError."""
    return _pack(folder.name, _read(sorted(folder.glob("*.toml")), folder.parent))


def load_packs(folder: Path) -> Packs:
    """Every pack under a folder and the table beside them.

    Raises RuleSetError with the problems of all: nothing is used of a folder that has one.
    """
    return load_files(read_folder(folder))


def load_files(files: Mapping[str, bytes]) -> Packs:
    """The same from files by path, as a folder or a bundle holds them."""
    problems: list[Problem] = []
    packs: dict[str, Pack] = {}
    names = sorted({path.partition("/")[0] for path in files if "/" in path})
    for name in names:
        own = {path: files[path] for path in sorted(files) if path.startswith(f"{name}/")}
        try:
            packs[name] = _pack(name, own)
        except RuleSetError as error:
            problems.extend(error.problems)
    if DEFAULT not in names:
        problems.append(Problem(DEFAULT, 0, 0, f"no pack {DEFAULT}, for every other call"))
    rows: tuple[Row, ...] = ()
    if TABLE in files:
        documents, unread = _documents({TABLE: files[TABLE]})
        problems.extend(unread)
        for document in documents:
            reader = Reader(document)
            rows = _rows(reader, names)
            problems.extend(reader.problems)
    else:
        problems.append(Problem(TABLE, 0, 0, "no table of which call gets which pack"))
    if problems:
        raise RuleSetError(problems)
    content = _bundle(files)
    return Packs(MappingProxyType(packs), rows, content, bundle.digest(content))


def load_bundle(content: bytes) -> Packs:
    """The same from a bundle. Raises RuleSetError, and BundleError where it is none."""
    try:
        return load_files(bundle.unpack(content))
    except RecursionError:
        raise bundle.BundleError("the rules of the bundle are nested too deeply") from None


class Loader(Protocol):
    """Where packs are loaded: in this process, or apart."""

    def folder(self, folder: Path) -> Packs:
        """As `load_packs`."""

    def bundle(self, content: bytes) -> Packs:
        """As `load_bundle`."""


class _Here:
    def folder(self, folder: Path) -> Packs:
        return load_packs(folder)

    def bundle(self, content: bytes) -> Packs:
        return load_bundle(content)


HERE: Final[Loader] = _Here()
"""In this process, which does nothing else meanwhile."""


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of the packs under a folder, by path, unchecked.

    Raises RuleSetError where one cannot be read.
    """
    table = folder / TABLE
    files = [table] if table.exists() else []
    problems = []
    for each in sorted(folder.glob("*/")):
        if each.name.startswith("."):
            continue
        own = sorted(each.glob("*.toml"))
        files += own
        if not own:
            problems.append(_empty(each.name))
    if problems:
        raise RuleSetError(problems)
    return _read(files, folder)


def digest(folder: Path) -> str:
    """The SHA-256 of what a folder would be as a bundle: what two loads compare.

    Raises RuleSetError where a file of it cannot be read or be in a bundle.
    """
    return bundle.digest(_bundle(read_folder(folder)))


def _bundle(files: Mapping[str, bytes]) -> bytes:
    try:
        return bundle.pack(files)
    except bundle.BundleError as error:
        raise RuleSetError([Problem("rules", 0, 0, str(error))]) from None


def _pack(name: str, files: Mapping[str, bytes]) -> Pack:
    documents, problems = _documents(files)
    if problems:
        raise RuleSetError(problems)
    if not documents:
        raise RuleSetError([_empty(name)])
    pack = read_pack(documents)
    if pack.ruleset.name != name:
        document = next(document for document in documents if "ruleset" in document.data)
        message = f'the set "{pack.ruleset.name}" lies in the folder "{name}"'
        raise RuleSetError([document.problem(("ruleset", "name"), message)])
    return pack


def _empty(name: str) -> Problem:
    return Problem(name, 0, 0, "no *.toml in the folder of the pack")


def _read(files: list[Path], root: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    problems: list[Problem] = []
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            contents[name] = file.read_bytes()
        except OSError as error:
            problems.append(Problem(name, 0, 0, f"cannot be read: {error.strerror}"))
    if problems:
        raise RuleSetError(problems)
    return contents


def _documents(files: Mapping[str, bytes]) -> tuple[list[Document], list[Problem]]:
    documents: list[Document] = []
    problems: list[Problem] = []
    for name, content in files.items():
        try:
            # Decoded as it is: universal newlines would move the places in the file.
            documents.append(Document(name, content.decode()))
        except RuleSetError as error:
            problems.extend(error.problems)
        except UnicodeDecodeError:
            problems.append(Problem(name, 0, 0, "not UTF-8"))
    return documents, problems


def _rows(reader: Reader, names: list[str]) -> tuple[Row, ...]:
    table = reader.table(reader.document.data, (), {"pack": (list,)})
    rows = []
    for index, value in enumerate(table.get("pack", [])):
        at = ("pack", index)
        data = reader.table(value, at, _ROW, required=("pack",))
        if "pack" in data:
            reader.choice(data["pack"], (*at, "pack"), names, "pack of this folder")
        if data.get("side", "terminating") not in ("originating", "terminating"):
            reader.wrong((*at, "side"), 'side is "originating" or "terminating"')
        if not re.fullmatch(r"[A-Z]{2}|", data.get("called_country", "")):
            reader.wrong((*at, "called_country"), "called_country is ISO 3166-1, as in CN")
        rows.append(Row(**{"pack": DEFAULT, **data}))
    return tuple(rows)
