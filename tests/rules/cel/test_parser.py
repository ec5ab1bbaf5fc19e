"""Source to syntax: places, mistakes and limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.cel import ParseError, parse, path
from rules.cel.compiler import evaluate
from rules.cel.interchange import spell
from rules.cel.lexer import MAX_LENGTH
from rules.cel.syntax import Call, Logic, Select

MISTAKES = [
    ("", 1, 1, "found the end where an expression was expected"),
    ("1 +", 1, 4, "found the end where an expression was expected"),
    ("a &&\n  & b", 2, 3, "unexpected character '&'"),
    ("(1", 1, 3, "found the end where '\\)' was expected"),
    ("1 2", 1, 3, "found '2' where the end of the expression was expected"),
    ("'abc", 1, 1, "the string is not closed"),
    ("'a\nb'", 1, 1, "the string is not closed"),
    (r"'ab\q'", 1, 4, "is no escape sequence here"),
    (r"'\400'", 1, 2, "is no escape sequence here"),
    (r"'\U00110000'", 1, 2, "is no escape sequence here"),
    (r"b'\u0041'", 1, 3, "is no escape sequence here"),
    (r"'\ud800'", 1, 1, "half of a surrogate pair"),
    ("if", 1, 1, "'if' is a reserved word"),
    ("a.in", 1, 3, "found 'in' where the name of a field or method was expected"),
    ("x == 9223372036854775808", 1, 6, "out of the range of int"),
    ("-9223372036854775809", 1, 1, "out of the range of int"),
    ("18446744073709551616u", 1, 1, "out of the range of uint"),
    ("9" * 5000, 1, 1, "out of the range of int"),
    ("1.", 1, 3, "found the end where the name of a field or method was expected"),
    ("has(a)", 1, 1, r"has\(\) takes the selection of a field"),
    ("[1].all(a.b, true)", 1, 9, "must be a simple name"),
    ("size([1],)", 1, 10, "where an argument was expected"),
    ("{1: 2, 3}", 1, 9, "found '}' where ':' was expected"),
    ("a ? b", 1, 6, "found the end where ':' was expected"),
    ("/* c */ 1", 1, 1, "found '/' where an expression was expected"),
    ("a = b", 1, 3, "unexpected character '='"),
]


@pytest.mark.parametrize(
    ("source", "line", "column", "message"), MISTAKES, ids=[row[0][:30] for row in MISTAKES]
)
def test_mistake(source: str, line: int, column: int, message: str) -> None:
    """A mistake is a ParseError at its place."""
    with pytest.raises(ParseError, match=message) as caught:
        parse(source)
    assert (line, column) == caught.value.at(source)


def test_underlined() -> None:
    """The offending text is underlined in its line, tabs kept in step."""
    source = "true &&\n\tcall.x == 99999999999999999999"
    with pytest.raises(ParseError) as caught:
        parse(source)
    _, text, marks = caught.value.underlined(source).split("\n")
    assert text == "  \tcall.x == 99999999999999999999"
    assert marks == "  \t" + " " * 10 + "^" * 20


def test_places() -> None:
    """Each node covers its own text."""
    source = "a.b &&\n c.d(e, -1) < 2"
    logic = parse(source)
    assert isinstance(logic, Logic)
    covered = [source[node.offset : node.offset + node.length] for node in logic.operands]
    assert covered == ["a.b", "c.d(e, -1) < 2"]
    order = logic.operands[1]
    assert isinstance(order, Call)
    call = order.arguments[0]
    assert isinstance(call, Call)
    assert [source[x.offset : x.offset + x.length] for x in call.arguments] == ["e", "-1"]
    assert (0, len(source)) == (logic.offset, logic.length)


def test_path() -> None:
    """A chain of selections from a name is a path; anything else is none."""
    assert path(parse("call.calling.kind")) == "call.calling.kind"
    assert None is path(parse("f(x).kind"))
    assert isinstance(parse("a . `b-c`"), Select)


DEEP = [
    ("parentheses", "(" * 32 + "7" + ")" * 32, "7"),
    ("lists", "size(" + "[" * 32 + "]" * 32 + ")", "1"),
    ("conditionals", "true ? 1 : " * 32 + "2", "1"),
    ("or", "false || " * 200 + "true", "true"),
    ("and", "true && " * 200 + "false", "false"),
    ("sums", "1" + " + 1" * 100, "101"),
    ("relations", "true" + " == true" * 32, "true"),
    ("not", "!" * 1000 + "true", "true"),
    ("minus", "-" * 1001 + "19", "-19"),
    ("index", "[" * 32 + "1" + "]" * 32 + "[0]" * 32, "1"),
    ("select", "{'a': " * 32 + "1" + "}" * 32 + ".a" * 32, "1"),
    ("calls", "int(uint(" * 16 + "7" + "))" * 16, "7"),
    ("elements", f"size([{','.join('1' for _ in range(2000))}])", "2000"),
    ("macros", "[1].all(x, " * 16 + "true" + ")" * 16, "true"),
    ("unfolded", "x + (" * 32 + "x" + ")" * 32, "33"),
]


@pytest.mark.parametrize(("source", "expected"), [r[1:] for r in DEEP], ids=[r[0] for r in DEEP])
def test_deep(source: str, expected: str) -> None:
    """Thirty-two levels and more of everything work."""
    assert expected == spell(evaluate(source, {"x": 1}))


TOO_DEEP = [
    ("(" * 100_000, "characters"),
    ("(" * 10_000, "nested"),
    ("[" * 1_000 + "]" * 1_000, "nested"),
    ("{1:" * 1_000 + "1" + "}" * 1_000, "nested"),
    ("true ? 1 : " * 1_000 + "2", "nested"),
    ("f(" * 1_000 + ")" * 1_000, "nested"),
    ("1" + " + x" * 10_000, "build on each other"),
    ("1 < 2" + " == true" * 1_000, "build on each other"),
    ("a" + ".b" * 1_000, "build on each other"),
    ("a" + "[0]" * 1_000, "build on each other"),
    ("a" + ".f()" * 1_000, "build on each other"),
    ("!-" * 1_000 + "a", "where an expression|build on each other"),
]


@pytest.mark.parametrize(("source", "message"), TOO_DEEP, ids=[row[0][:12] for row in TOO_DEEP])
def test_too_deep(source: str, message: str) -> None:
    """Past the limits there is a clear error, never Python's RecursionError."""
    with pytest.raises(ParseError, match=message):
        parse(source)


DEEPEST = [
    "x" + " + x" * 127,
    "x + (" * 60 + "x" + " + x" * 60 + ")" * 60,
    "size([x].map(a, " * 30 + "'x'" + "))" * 30,
    "[x].all(a, " * 60 + "x == 1" + ")" * 60,
    "[x].all(a, 1 / x == 1 && 1 / x == 1 && " * 40 + "1 / x == 1" + ")" * 40,
    "(1 / x == 1 && 1 / x == 1 && " * 60 + "1 / x == 1" + ")" * 60,
    "[" * 60 + "x" + "]" * 60,
    "{x: " * 60 + "x" + "}" * 60,
    "(x == 1 ? " * 30 + "1" + " : 2)" * 30,
    "!(" * 60 + "x == 1" + ")" * 60,
]


@pytest.mark.parametrize("source", DEEPEST, ids=[source[:24] for source in DEEPEST])
@pytest.mark.parametrize("strict", [True, False], ids=["checked", "unchecked"])
def test_what_parses_compiles(source: str, strict: bool) -> None:
    """What the parser lets through overflows neither the checker nor Python's compiler."""
    value = evaluate(source, {"x": 1}, strict=strict)
    assert value is not None


def test_source_length_is_bounded() -> None:
    """A source longer than the limit is refused unread."""
    assert spell(evaluate("1" + " " * (MAX_LENGTH - 1), {})) == "1"
    with pytest.raises(ParseError, match="characters"):
        parse("1" + " " * MAX_LENGTH)


FRAGMENTS = st.sampled_from(
    [
        *("a", "1", "2u", "1.5", "'s'", "b'x'", "true", "null", "has", "all", "x", " ", "\n", "//"),
        *"()[]{}.,:?!-+*/%<>=&|'\"\\`",
        *("&&", "||", "==", "!=", "<=", "in", "if", '"""', "r'", "é", "\ud800", "\0"),
    ]
)


@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_any_text_parses_or_fails_cleanly(source: str) -> None:
    """No text raises anything but a ParseError that points into it."""
    try:
        parse(source)
    except ParseError as caught:
        error = caught
    else:
        return
    assert 0 <= error.offset <= len(source)
    assert error.underlined(source)


@given(st.text() | st.binary())
def test_spelling_is_read_back(value: str | bytes) -> None:
    """Any text or bytes, spelt as a literal, reads back the same."""
    assert value == evaluate(spell(value), {})
