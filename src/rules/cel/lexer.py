"""Source text to tokens, with literals already read."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from rules.cel.errors import ParseError

MAX_LENGTH: Final = 65_536
"""Code points that a source may have."""

RESERVED: Final = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let"),
        *("loop", "namespace", "package", "return", "var", "void", "while"),
    }
)
"""Words that may name a field or a method, but no variable or function."""
KEYWORDS: Final = frozenset({"true", "false", "null", "in"})

_TOKEN: Final = re.compile(
    r"""
    (?: [ \t\n\f\r] | //[^\n]* )*+
    (?: (?P<name> [_a-zA-Z][_a-zA-Z0-9]*+ (?!["']) )
      | (?P<sign> && | \|\| | [=!<>]= | [-+*/%<>!?:,()\[\]{}] | \.(?![0-9]) )
      | (?P<text> [bB]?[rR](?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n\r]*" | '[^'\n\r]*' )
                | [bB]?(?: \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3}
                         | "(?:\\.|[^"\\\n\r])*" | '(?:\\.|[^'\\\n\r])*' ) )
      | (?P<double> [0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+
                  | \.[0-9]+(?:[eE][+-]?[0-9]+)? )
      | (?P<int> 0x[0-9a-fA-F]+[uU]? | [0-9]+[uU]? )
      | (?P<quoted> `[a-zA-Z0-9_.\-/\ ]+` )
      | (?P<word> [_a-zA-Z][_a-zA-Z0-9]* )
      | (?P<bad> . )
      | (?P<end> \Z )
    )
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE: Final = re.compile(
    r"""\\(?: (?P<simple>[abfnrtv\\?"'`]) | [xX](?P<hex>[0-9a-fA-F]{2}) | (?P<octal>[0-3][0-7]{2})
            | u(?P<short>[0-9a-fA-F]{4}) | U(?P<long>[0-9a-fA-F]{8}) | (?P<bad>.) )""",
    re.VERBOSE | re.DOTALL,
)
_SIMPLE: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    **{mark: mark for mark in "\\?\"'`"},
}


class Token(NamedTuple):
    """`kind` is "name", "quoted", "int", "uint", "double", "string", "bytes", "end" or a sign."""

    kind: str
    value: int | float | str | bytes
    offset: int
    length: int


def tokens(source: str) -> list[Token]:
    """The tokens of a source, the last of kind "end".

    Integers are magnitudes: their range depends on the minus that the parser sees.
    Raises ParseError.
    """
    if len(source) > MAX_LENGTH:
        raise ParseError(
            f"the source has {len(source)} characters, more than {MAX_LENGTH}", offset=MAX_LENGTH
        )
    found: list[Token] = []
    for match in _TOKEN.finditer(source):
        kind = str(match.lastgroup)
        text = match[kind]
        offset = match.start(kind)
        if kind == "sign":
            found.append(Token(text, text, offset, len(text)))
        elif kind in ("name", "word"):
            found.append(Token(text if text in KEYWORDS else "name", text, offset, len(text)))
        else:
            found.append(_READ[kind](text, offset))
            if kind == "end":
                break
    return found


def _bad(text: str, offset: int) -> Token:
    what = "the string is not closed" if text in "\"'" else f"unexpected character {text!r}"
    raise ParseError(what, offset=offset)


def _read_int(text: str, offset: int) -> Token:
    digits = text.rstrip("uU")
    value = int(digits, 16 if digits[:2] == "0x" else 10) if len(digits) < 40 else 1 << 64
    return Token("int" if digits == text else "uint", value, offset, len(text))


def _read_text(text: str, offset: int) -> Token:
    start = re.match("[bBrR]*", text).end()  # type: ignore[union-attr]  # matches the empty text
    prefix = text[:start].lower()
    width = 3 if text[start : start + 3] in ("'''", '"""') else 1
    body = text[start + width : -width]
    first = offset + start + width
    if "b" in prefix:
        value: str | bytes = body.encode() if "r" in prefix else _octets(body, first)
        return Token("bytes", value, offset, len(text))
    value = body if "r" in prefix or "\\" not in body else _unescape(body, first)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ParseError(
            "the string has half of a surrogate pair", offset=offset, length=len(text)
        ) from None
    return Token("string", value, offset, len(text))


def _unescape(body: str, first: int) -> str:
    def replace(match: re.Match[str]) -> str:
        kind = match.lastgroup
        digits = match[str(kind)]
        if kind == "simple":
            return _SIMPLE[digits]
        if kind == "bad":
            raise _bad_escape(match, first)
        code = int(digits, 8 if kind == "octal" else 16)
        if code > 0x10FFFF:
            raise _bad_escape(match, first)
        return chr(code)

    text = _ESCAPE.sub(replace, body)
    # Two \u escapes may spell one character outside the basic plane.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _octets(body: str, first: int) -> bytes:
    octets = bytearray()
    end = 0
    for match in _ESCAPE.finditer(body):
        octets += body[end : match.start()].encode()
        end = match.end()
        kind = match.lastgroup
        if kind == "simple":
            octets += _SIMPLE[match["simple"]].encode()
        elif kind in ("hex", "octal"):
            octets.append(int(match[kind], 16 if kind == "hex" else 8))
        else:  # code points have no meaning among octets
            raise _bad_escape(match, first)
    return bytes(octets + body[end:].encode())


def _bad_escape(match: re.Match[str], first: int) -> ParseError:
    return ParseError(
        f"{match[0]} is no escape sequence here",
        offset=first + match.start(),
        length=len(match[0]),
    )


_READ: Final[dict[str, Callable[[str, int], Token]]] = {
    "int": _read_int,
    "text": _read_text,
    "double": lambda text, offset: Token("double", float(text), offset, len(text)),
    "bad": _bad,
    "end": lambda _, offset: Token("end", "", offset, 1),
    "quoted": lambda text, offset: Token("quoted", text[1:-1], offset, len(text)),
}
