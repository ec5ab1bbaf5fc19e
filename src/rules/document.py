"""TOML with places: what a file says, and the line and column where it says it.

`tomllib` reads the values and proves the text valid; the scan beside it, which may rely on that,
finds where each key and value stands. Both name a place by the same path: ("rule", 2, "when").
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

Path = tuple[str | int, ...]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: Final = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_ESCAPE: Final = re.compile(
    r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[ \t]*\r?\n[ \t\r\n]*|.)", re.DOTALL
)
_AT: Final = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)


class Span(NamedTuple):
    """Offsets of a key and of its value in the text; a table's are those of its header."""

    key: tuple[int, int]
    value: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a rule set: where, what, and what was probably meant.

    `line` and `column` count from 1; 0 where the file as a whole is meant. `excerpt` is the
    line, underlined.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        hint = f'; did you mean "{self.hint}"?' if self.hint else ""
        return f"{place}: {self.message}{hint}" + (f"\n{self.excerpt}" if self.excerpt else "")


class RuleSetError(Exception):
    """Rule sets that cannot be used, with every problem found, in the order of the text."""

    def __init__(self, problems: Collection[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def nearest(word: str, words: Collection[str]) -> str:
    """The one of `words` that was probably meant, or ""."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)), "")


class Document:
    """One TOML file, read. Raises RuleSetError where it is no TOML."""

    __slots__ = ("_spans", "data", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            match = _AT.match(str(error))
            if match is None or match[2] is None:
                offset = len(text.rstrip())
            else:
                lines = text.split("\n")[: int(match[2]) - 1]
                offset = sum(len(line) + 1 for line in lines) + int(match[3]) - 1
            message = f"not TOML: {match[1] if match else error}"
            raise RuleSetError([self._problem(offset, 1, message, "")]) from None
        self._spans: dict[Path, Span] | None = None

    @property
    def spans(self) -> dict[Path, Span]:
        """Where everything stands; found when the first problem is to be told."""
        if self._spans is None:
            self._spans = dict(_Scan(self.text).spans())
        return self._spans

    def problem(
        self,
        path: Path,
        message: str,
        *,
        hint: str = "",
        key: bool = False,
        inside: tuple[int, int] | None = None,
    ) -> Problem:
        """The problem at the value of `path`, or at its key, or at a part inside a string.

        `inside` is offset and length in the string's own characters. Where the path does not
        exist, the nearest table that would hold it is meant.
        """
        while path and path not in self.spans:
            path, key, inside = path[:-1], False, None
        if not path:
            return Problem(self.name, 0, 0, message, hint)
        span = self.spans[path]
        start, end = span.key if key else span.value
        if inside is not None:
            places = list(_characters(self.text, start, end))
            first = min(inside[0], len(places) - 1)
            last = min(first + max(inside[1], 1), len(places) - 1)
            start, end = places[first], max(places[last], places[first] + 1)
        return self._problem(start, end - start, message, hint)

    def _problem(self, start: int, length: int, message: str, hint: str) -> Problem:
        line_start = self.text.rfind("\n", 0, start) + 1
        line_end = self.text.find("\n", start)
        line = self.text[line_start : None if line_end < 0 else line_end].rstrip("\r")
        column = start - line_start
        width = max(1, min(length, len(line) - column))
        margin = re.sub(r"[^\t]", " ", line[:column])
        excerpt = f"    {line}\n    {margin}{'^' * width}"
        number = self.text.count("\n", 0, start) + 1
        return Problem(self.name, number, column + 1, message, hint, excerpt)


def _characters(text: str, start: int, end: int) -> Iterator[int]:
    """Where each character of the string value at `start` stands, and where it ends."""
    quote = text[start : start + 3] if text[start : start + 3] in ('"""', "'''") else text[start]
    place, stop = start + len(quote), end - len(quote)
    if len(quote) == 3:  # a newline right after the opening is not part of the value
        place += 2 if text.startswith("\r\n", place) else text.startswith("\n", place)
    while place < stop:
        match = _ESCAPE.match(text, place) if quote[0] == '"' else None
        if match is None:
            # tomllib reads CRLF as one newline.
            if not text.startswith("\r\n", place):
                yield place
            place += 1
            continue
        if "\n" not in match[0]:
            yield place
        place = match.end()
    yield stop


class _Scan:
    """Finds the places in a text that tomllib has read without complaint."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.tables: dict[Path, int] = {}

    def spans(self) -> Iterator[tuple[Path, Span]]:
        """Every path with its span."""
        table: Path = ()
        while self._blank() < len(self.text):
            start = self.place
            if self.text[start] == "[":
                table = yield from self._header(start)
            else:
                yield from self._pair(table)

    def _header(self, start: int) -> Generator[tuple[Path, Span], None, Path]:
        many = self.text.startswith("[[", start)
        self.place += 2 if many else 1
        names = self._key()[0]
        self._blank()
        self.place += 2 if many else 1
        # A name that is an array of tables means its last table.
        path: Path = ()
        for name in names[:-1]:
            path = self._last((*path, name))
        path = (*path, names[-1])
        if many:
            self.tables[path] = self.tables.get(path, -1) + 1
        path = self._last(path)
        span = (start, self.place)
        yield path, Span(span, span)
        return path

    def _last(self, path: Path) -> Path:
        return (*path, self.tables[path]) if path in self.tables else path

    def _pair(self, table: Path) -> Iterator[tuple[Path, Span]]:
        names, start, end = self._key()
        self._blank()
        self.place += 1  # the equals sign
        yield from self._value((*table, *names), (start, end))

    def _key(self) -> tuple[tuple[str, ...], int, int]:
        """A dotted key: its names, and where it begins and ends."""
        names: list[str] = []
        start = self._blank()
        while True:
            begin = self._blank()
            if self.text[begin] in "\"'":
                self._string()
                (name,) = tomllib.loads(f"{self.text[begin : self.place]} = 0")
            else:
                match = _BARE.match(self.text, begin)
                assert match is not None, "tomllib has read this key"  # noqa: S101
                name, self.place = match[0], match.end()
            names.append(name)
            end = self.place
            if not self.text.startswith(".", self._blank()):
                return tuple(names), start, end
            self.place += 1

    def _value(self, path: Path, key: tuple[int, int] | None) -> Iterator[tuple[Path, Span]]:
        start = self._blank()
        match self.text[start]:
            case '"' | "'":
                self._string()
            case "[":
                yield from self._items(path, "]")
            case "{":
                yield from self._items(path, "}")
            case _:
                scalar = _SCALAR.match(self.text, start)
                assert scalar is not None, "tomllib has read this value"  # noqa: S101
                self.place = scalar.end()
        span = (start, self.place)
        yield path, Span(key or span, span)

    def _items(self, path: Path, close: str) -> Iterator[tuple[Path, Span]]:
        self.place += 1
        index = 0
        while self.text[self._blank()] != close:
            if close == "]":
                yield from self._value((*path, index), None)
            else:
                yield from self._pair(path)
            index += 1
            if self.text[self._blank()] == ",":
                self.place += 1
        self.place += 1

    def _string(self) -> None:
        quote = self.text[self.place]
        if self.text.startswith(quote * 3, self.place):
            quote *= 3
        self.place += len(quote)
        while not self.text.startswith(quote, self.place):
            self.place += 2 if self.text[self.place] == "\\" and quote[0] == '"' else 1
        self.place += len(quote)
        # Up to two quotes may stand right before the closing three.
        while len(quote) == 3 and self.text.startswith(quote[0], self.place):
            self.place += 1

    def _blank(self) -> int:
        match = _BLANK.match(self.text, self.place)
        self.place = match.end() if match else self.place
        return self.place


class Reader:
    """Reads tables of one document against what they may hold, and collects what is wrong."""

    __slots__ = ("document", "problems")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def wrong(
        self,
        path: Path,
        message: str,
        *,
        hint: str = "",
        key: bool = False,
        inside: tuple[int, int] | None = None,
    ) -> None:
        """Notes a problem: see Document.problem."""
        self.problems.append(
            self.document.problem(path, message, hint=hint, key=key, inside=inside)
        )

    def table(
        self,
        value: object,
        path: Path,
        fields: Mapping[str, tuple[type, ...]],
        *,
        required: Collection[str] = (),
    ) -> dict[str, Any]:
        """The entries of a table that are what they shall be; the others are problems."""
        if not isinstance(value, dict):
            self.wrong(path, f"expected a table, found {_kind(value)}")
            return {}
        good: dict[str, Any] = {}
        for name, item in value.items():
            if name not in fields:
                hint = nearest(name, fields)
                known = "" if hint else f"; the keys here are {', '.join(fields)}"
                self.wrong((*path, name), f'unknown key "{name}"{known}', hint=hint, key=True)
            elif type(item) not in fields[name]:
                wanted = " or ".join(_KINDS[kind] for kind in fields[name])
                self.wrong((*path, name), f"{name} is {wanted}, found {_kind(item)}")
            else:
                good[name] = item
        for name in required:
            if name not in value:
                self.wrong(path, f"{name} is missing")
        return good

    def choice(self, value: str, path: Path, words: Collection[str], what: str) -> bool:
        """Whether the word is one of `words`; a problem if not."""
        if value in words:
            return True
        hint = nearest(value, words)
        known = "" if hint else f"; one of {', '.join(words)}"
        self.wrong(path, f'"{value}" is no {what}{known}', hint=hint)
        return False

    def texts(
        self, value: list[object], path: Path, words: Collection[str], what: str
    ) -> list[str]:
        """The items of a list that are among `words`; the others are problems."""
        good = []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.wrong((*path, index), f"expected {_KINDS[str]}, found {_kind(item)}")
            elif self.choice(item, (*path, index), words, what):
                good.append(item)
        return good


_KINDS: Final = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
    datetime: "a date and time",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")
