"""What expressions mean: tables by part of the language, each row checked and unchecked."""

import math
from typing import Any

import pytest

from rules.cel import CelError, EvaluationError, Uint
from rules.cel.compiler import evaluate
from rules.cel.interchange import spell

VALUES = [
    # literals
    ("0x7f", "127"),
    ("-0x10", "-16"),
    ("12U", "12u"),
    ("0xFFu", "255u"),
    (".25", "0.25"),
    ("1e3", "1000.0"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("18446744073709551615u", "18446744073709551615u"),
    (r"'\x41\u00e9\U0001F600\101'", '"Aé😀A"'),
    (r"'\ud83d\ude00'", '"😀"'),
    (r"b'\xff\377é'", r'b"\xff\xff\xc3\xa9"'),
    (r"r'\n'", r'"\\n"'),
    (r"bR'\n'", r'b"\x5cn"'),
    ("'''a'b\nc'''", '"a\'b\\U0000000ac"'),
    ('"""a"b"""', '"a\\"b"'),
    ("1 // and no more\n + 1", "2"),
    ("[1, 2,]", "[1, 2]"),
    ("{'a': 1,}", '{"a": 1}'),
    # arithmetic
    ("-7 / 2", "-3"),
    ("-7 % 3", "-1"),
    ("7 % -3", "1"),
    ("1 - 2 - 3", "-4"),
    ("1 + 2 * 3", "7"),
    ("--5", "5"),
    ("---5", "-5"),
    ("7u / 2u", "3u"),
    ("1.0 / 0.0", "+Inf"),
    ("-1.0 / 0.0", "-Inf"),
    ("1.0 / -0.0", "-Inf"),
    ("0.0 / 0.0", "NaN"),
    ("-(0.0)", "-0.0"),
    ("'a' + 'b'", '"ab"'),
    ("b'a' + b'b'", 'b"ab"'),
    ("[1] + [2.0]", "[1, 2.0]"),
    # equality and order
    ("dyn(1) == 1u && dyn(1u) == 1.0 && dyn(1.0) == 1", "true"),
    ("dyn(true) == 1", "false"),
    ("dyn('1') == 1", "false"),
    ("dyn(null) == false", "false"),
    ("0.0 / 0.0 == 0.0 / 0.0", "false"),
    ("0.0 / 0.0 != 0.0 / 0.0", "true"),
    ("-0.0 == 0.0", "true"),
    ("[1.0, 2] == [1u, 2.0]", "true"),
    ("[[0.0 / 0.0]] == [[0.0 / 0.0]]", "false"),
    ("{1: 'a', 2u: 'b'} == {2: 'b', 1u: 'a'}", "true"),
    ("dyn(true) in [1, 2]", "false"),
    ("dyn(9223372036854775807) < 9223372036854775808.0", "false"),
    ("dyn(-1) < 0u", "true"),
    ("dyn(9223372036854775808u) > 9223372036854775807", "true"),
    ("dyn(1.5) >= 1u", "true"),
    ("'Z' < 'a' && 'a' < 'é' && b'a' < b'ab' && false < true", "true"),
    ("1 == 1 == true", "true"),
    # logic
    ("false && 1 / 0 == 1", "false"),
    ("1 / 0 == 1 && false", "false"),
    ("true || 1 / 0 == 1", "true"),
    ("1 / 0 == 1 || 2 % 0 == 1 || true", "true"),
    ("1 / 0 == 1 && 2 % 0 == 1 && false", "false"),
    ("true ? 1 : 1 / 0", "1"),
    ("false ? 1 : true ? 2 : 3", "2"),
    ("!true || !!true", "true"),
    # lists and maps
    ("[1, 2, 3][2]", "3"),
    ("[1, 2][dyn(1.0)]", "2"),
    ("{'a': {'b': 7}}.a['b']", "7"),
    ("{1: 'a'}[dyn(1u)]", '"a"'),
    ("{1u: 'a'}[dyn(1.0)]", '"a"'),
    ("{true: 'yes', 1: 'one'}[true]", '"yes"'),
    ("{true: 'yes', 1: 'one'}[1]", '"one"'),
    ("dyn(true) in {1: 'one'}", "false"),
    ("dyn([]) in {1: 'one'}", "false"),
    ("{'if': 1, 'a b': 2}.if + {'a b': 2}.`a b`", "3"),
    ("has({'a': 1}.a) && !has({'a': 1}.b)", "true"),
    ("size('naïve') + size(b'naïve') + size([1]) + size({1: 1})", "13"),
    ("'πέντε'.size()", "5"),
    # macros
    ("[1, 2, 3].all(x, x > 0)", "true"),
    ("[].all(x, x) && ![].exists(x, x)", "true"),
    ("[0, 2].exists(x, 4 / x == 2)", "true"),
    ("[0, 2].all(x, 4 / x == 3)", "false"),
    ("[1, 2, 3].exists_one(x, x > 2)", "true"),
    ("[1, 2, 3].map(x, x * x)", "[1, 4, 9]"),
    ("[1, 2, 3].map(x, x > 1, x * x)", "[4, 9]"),
    ("[1, 2, 3].filter(x, x % 2 == 1)", "[1, 3]"),
    ("{'a': 1, true: 2}.map(k, type(k))", "[string, bool]"),
    ("[[1, 2], [3]].exists(x, x.exists(y, y == size(x) + 2))", "true"),
    ("[1].map(x, [2].map(x, x + 1))", "[[3]]"),
    ("[1, 2].map(x, [10].map(y, x + y))", "[[11], [12]]"),
    # types and conversions
    ("type(1) == int && type(1u) == uint && type(type(1)) == type", "true"),
    ("[type(''), type(b''), type(1.0), type(null)]", "[string, bytes, double, null_type]"),
    ("type(timestamp(0)) == google.protobuf.Timestamp", "true"),
    ("int(-3.99)", "-3"),
    ("int('+12') + int(12u)", "24"),
    ("uint('12') + uint(12.9)", "24u"),
    ("double('-1.5e3')", "-1500.0"),
    ("double('inf')", "+Inf"),
    ("string(1.0) + string(0.1) + string(-0.0)", '"10.1-0"'),
    ("string(123456.0) + ' ' + string(1234567.0)", '"123456 1.234567e+06"'),
    ("string(1e-4) + ' ' + string(12.5e-6)", '"0.0001 1.25e-05"'),
    ("string(true) + string(7u) + string(b'x')", '"true7x"'),
    ("bool('T' == 't' ? 'f' : 'True')", "true"),
    ("bytes('é') == b'é'", "true"),
    # text
    ("'abc'.contains('bc') && 'abc'.startsWith('') && 'abc'.endsWith('c')", "true"),
    ("'añb'.matches('^a.b$') && matches('xay', 'a') && !'a'.matches('^b')", "true"),
    ("'a\\nb'.matches('a$')", "false"),
]

ERRORS = [
    ("9223372036854775807 + 1", "out of the range of int"),
    ("-9223372036854775808 - 1", "out of the range of int"),
    ("-(-9223372036854775808)", "out of the range of int"),
    ("-9223372036854775808 / -1", "out of the range of int"),
    ("-9223372036854775808 % -1", "out of the range of int"),
    ("5000000000 * 5000000000", "out of the range of int"),
    ("0u - 1u", "out of the range of uint"),
    ("1 / 0", "division by zero"),
    ("1u % 0u", "modulus by zero"),
    ("[1][1]", "index 1"),
    ("[1][-1]", "index -1"),
    ("{'a': 1}.b", "no such key: 'b'"),
    ("{'a': 1}[dyn(1)]", "no such key"),
    ("[1][dyn(0.5)]", r"no overload of \[\]"),
    ("{dyn('a'): 1, 'a': 2}", "there twice"),
    ("{dyn(1.5): 1}", "a double cannot be the key"),
    ("dyn('a') + 1", r"no overload of \+ for \(string, int\)"),
    ("dyn('a') < 1", "no overload of <"),
    ("dyn(1) && true", "expected bool, found int"),
    ("dyn(1).all(x, true)", "expected a list or a map"),
    ("dyn(1).a", "has no fields"),
    ("has(dyn(1).a)", "has no fields"),
    ("1 / 0 == 1 || false", "division by zero"),
    ("[1, 0].exists(x, 1 / x == 2)", "division by zero"),
    ("[1, 0].exists_one(x, 1 / x == 1)", "division by zero"),
    ("[1, 0].map(x, 1 / x)", "division by zero"),
    ("int('1_0')", "spells no int"),
    ("int('9223372036854775808')", "out of the range"),
    ("int(9223372036854775807.0)", "out of the range"),
    ("int(0.0 / 0.0)", "out of the range"),
    ("int(18446744073709551615u)", "out of the range"),
    ("uint('-1')", "spells no uint"),
    ("uint(-0.5)", "out of the range"),
    ("double('0x1')", "spells no double"),
    ("double('1e999')", "out of the range"),
    ("bool('tRuE')", "spells no bool"),
    (r"string(b'\xff')", "invalid UTF-8"),
    ("'a'.matches(dyn('['))", "no RE2 pattern"),
]


def outcome(source: str, *, strict: bool, variables: dict[str, Any] | None = None) -> str:
    """The value spelt, or "error"."""
    try:
        return spell(evaluate(source, variables or {}, strict=strict))
    except (CelError, EvaluationError):
        return "error"


@pytest.mark.parametrize(("source", "expected"), VALUES, ids=[source for source, _ in VALUES])
def test_value(source: str, expected: str) -> None:
    """An expression has the value that the language definition gives it."""
    assert expected == outcome(source, strict=True)


@pytest.mark.parametrize(("source", "expected"), VALUES, ids=[source for source, _ in VALUES])
def test_value_unchecked(source: str, expected: str) -> None:
    """Leaving out the check changes no value."""
    assert expected == outcome(source, strict=False)


@pytest.mark.parametrize(("source", "message"), ERRORS, ids=[source for source, _ in ERRORS])
@pytest.mark.parametrize("strict", [True, False], ids=["checked", "unchecked"])
def test_error(source: str, message: str, strict: bool) -> None:
    """What has no value says why when it is evaluated, not before."""
    with pytest.raises(EvaluationError, match=message):
        evaluate(source, {}, strict=strict)


UNCHECKED = [
    ("1.0 == 1", "true"),
    ("[1] == [1.0]", "true"),
    ("1 == 'a'", "false"),
    ("'cows' ? false : 17", "error"),
    ("true ? 'cows' : 17", '"cows"'),
    ("false && 32", "false"),
    ("'horses' && false", "false"),
    ("'a' && 'b'", "error"),
    ("[0] < [1]", "error"),
    ("null < null", "error"),
    ("-(5u)", "error"),
    ("!1", "error"),
    ("x || true", "true"),
    ("x", "error"),
    ("a.while() || true", "true"),
    ("f(17) || true", "true"),
    ("size(1, 2) || true", "true"),
    ("dyn", "error"),
    ("1 in 'abc'", "error"),
    ("{1.5: 1}", "error"),
]


@pytest.mark.parametrize(("source", "expected"), UNCHECKED, ids=[row[0] for row in UNCHECKED])
def test_unchecked(source: str, expected: str) -> None:
    """Without the check, wrong types and names fail only where they are reached."""
    assert expected == outcome(source, strict=False)
    if expected == "error":
        with pytest.raises(EvaluationError):
            evaluate(source, {}, strict=False)


NAMES = [
    ("y", "x", {"x.y": True, "y": "no"}, "true"),
    (".y", "x", {"x.y": True, "y": "root"}, '"root"'),
    ("b.c", "x.y", {"x.b.c": 1, "b.c": 2}, "1"),
    ("a.b.c", "", {"a.b.c": "longest", "a.b": {"c": "field"}}, '"longest"'),
    ("a.b.c", "", {"a.b": {"c": "field"}}, '"field"'),
    ("(a.b).c", "", {"a.b": {"c": "field"}}, '"field"'),
    ("[0].exists(y, y == 0)", "com", {"com.y": 42}, "true"),
    ("[{'z': 0}].exists(y, y.z == 0)", "", {"y.z": 42}, "true"),
    ("[{'z': 0}].exists(y, .y.z == 42)", "com", {"com.y.z": 7, "y.z": 42}, "true"),
    ("type == 3", "", {"type": 3}, "true"),
    ("a[a[a[0]]]", "", {"a": [0]}, "0"),
    ("x.size() > size", "", {"x": [1, 2], "size": 1}, "true"),
    ("c.f", "", {"c.f": "its own namespace"}, '"its own namespace"'),
    ("u + 1u", "", {"u": Uint(1)}, "2u"),
]


@pytest.mark.parametrize(
    ("source", "container", "variables", "expected"), NAMES, ids=[row[0] for row in NAMES]
)
@pytest.mark.parametrize("strict", [True, False], ids=["checked", "unchecked"])
def test_names(
    source: str, container: str, variables: dict[str, Any], expected: str, strict: bool
) -> None:
    """Names resolve from the container outwards, the longest first, locals before all."""
    value = evaluate(source, variables, container=container, strict=strict)
    assert expected == spell(value)


QUOTES = ["'", '"', "'''", '"""']


@pytest.mark.parametrize("quote", QUOTES)
def test_literals_keep_control_characters(quote: str) -> None:
    """Every control character may stand in a literal; line ends only in triple quotes."""
    controls = "".join(chr(code) for code in (*range(1, 10), 11, 12, *range(14, 32), 127))
    text = f" {controls}\U00088888 " + ("\r\n\r\n" if len(quote) == 3 else "")
    for prefix, value in (("", text), ("r", text), ("b", text.encode()), ("Br", text.encode())):
        assert value == evaluate(f"{prefix}{quote}{text}{quote}", {})


ESCAPES = r" \\ \? \" \' \` \a \b \f \n \r \t \v \x4a \X4B \012 \177 "
READ = " \\ ? \" ' ` \a \b \f \n \r \t \v J K \n \x7f "


@pytest.mark.parametrize("quote", QUOTES)
def test_escapes_in_every_literal(quote: str) -> None:
    """The escapes are the same in every kind of quotes, and none in a raw literal."""
    assert evaluate(quote + ESCAPES + quote, {}) == READ
    assert READ.encode() == evaluate("B" + quote + ESCAPES + quote, {})
    raw = ESCAPES.replace(quote, "")
    assert raw == evaluate("R" + quote + raw + quote, {})
    assert raw.encode() == evaluate("bR" + quote + raw + quote, {})


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\f", "\r", "// ?\n", "\r\n"], ids=repr)
def test_space_between_tokens(space: str) -> None:
    """White space and comments may stand between any two tokens."""
    source = space.join(["[", "{", "'k'", ":", "x", ".", "y", "}", "]", "[", "0", "]", ".", "k"])
    assert evaluate(f"{space}{source}{space}", {"x": {"y": 7}}) == 7


RESERVED = [
    *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
    *("namespace", "package", "return", "var", "void", "while"),
]


@pytest.mark.parametrize("word", RESERVED)
def test_reserved_words_name_fields_only(word: str) -> None:
    """A reserved word names a field or a method, but no variable and no function."""
    assert evaluate(f"{{'{word}': 1}}.{word}", {}) == 1
    assert True is evaluate(f"a.{word}() || true", {}, strict=False)
    for source in (word, f"{word}(1)", f"[1].all({word}, true)"):
        with pytest.raises(CelError, match="reserved"):
            evaluate(source, {word: 1})


def test_a_uint_stays_a_uint() -> None:
    """The type of a uint survives arithmetic, lists and macros."""
    value = evaluate("[1u, 2u].map(x, x * 3u + uint(1))", {})
    assert [Uint] * 2 == [type(element) for element in value]


def test_nothing_but_cel_errors_for_extremes() -> None:
    """Doubles beyond the integers neither overflow Python's conversions nor crash."""
    for value in (math.inf, -math.inf, math.nan, 1e308, -1e308):
        for source in ("int(x)", "uint(x)", "[1][dyn(x)]", "{1: 1}[dyn(x)]"):
            with pytest.raises(EvaluationError):
                evaluate(source, {"x": value})
