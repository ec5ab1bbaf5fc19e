"""Names and types before anything is evaluated."""

import pytest

from rules.cel import (
    BOOL,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    CheckError,
    Declarations,
    Function,
    Variable,
    check,
    list_of,
    map_of,
    parse,
    path,
)

DECLARATIONS = Declarations(
    variables={
        "call.category": Variable(STRING, "c.category", "what the call is for"),
        "call.commercial": Variable(BOOL, "c.commercial", "whether it is marketing"),
        "call.redirects": Variable(INT, "c.redirect_count", "how often it was redirected"),
        "call.at": Variable(TIMESTAMP, "Timestamp.of_seconds(c.at)", "when it came", unit="s"),
        "call.tags": Variable(list_of(STRING), "c.tags", "labels"),
        "call.headers": Variable(map_of(STRING, STRING), "c.headers", "as sent"),
        "call.extra": Variable(DYN, "c.extra", "anything"),
        "consent.state": Variable(STRING, "f.state", "the consent", source="index"),
    },
    functions={
        "called.refuses": Function((STRING,), BOOL, "f.refuses({0})", "a refusal", source="index"),
        "called.ratio": Function((INT, INT), INT, "f.ratio({0}, {1})", "a share", can_fail=True),
    },
    macros={
        "call.authenticated": "call.category == 'service' || called.refuses('all')",
        "call.trusted": "call.authenticated && consent.state == 'granted'",
        "cycle.a": "cycle.b",
        "cycle.b": "!cycle.a",
        "bad.macro": "call.categroy == ''",
    },
)

MISTAKES = [
    ("call.categroy == 'x'", "undeclared name 'call.categroy'", "call.categroy", "call.category"),
    ("call.commercial && consnt.state == 'x'", "undeclared", "consnt.state", "consent.state"),
    ("call", "undeclared name 'call'", "call", "call.at"),
    ("!call.authentcated", "undeclared", "call.authentcated", "call.authenticated"),
    ("called.refuse('x')", "undeclared function", "called.refuse('x')", "called.refuses"),
    ("call.category.startWith('x')", "undeclared function", None, "startsWith"),
    ("called.refuses", "is a function", None, ""),
    ("called.refuses(1)", "takes a string here, found int", "1", ""),
    ("called.refuses(call.extra)", "takes a string here, found dyn", "call.extra", ""),
    ("called.refuses()", "takes 1 arguments, found 0", None, ""),
    ("call.category.matches()", "takes 1 arguments, found 0", None, ""),
    ("startsWith(call.category, 'a')", r"called as x\.startsWith", None, ""),
    ("call.category.int()", r"called as int\(x\)", None, ""),
    ("call.category == 3", r"no overload of == for \(string, int\)", None, ""),
    ("call.redirects < 3.0", r"no overload of < for \(int, double\)", None, ""),
    ("call.redirects + 1u", r"no overload of \+ for \(int, uint\)", None, ""),
    ("call.category in ['a', 'b'] + [3, 4]", None, None, ""),
    ("call.category in [3, 4]", r"no overload of in for \(string, list\(int\)\)", None, ""),
    ("call.category in 'abc'", "in asks for a list or a map, found string", None, ""),
    ("call.redirects && true", "an operand of && must be bool, found int", "call.redirects", ""),
    ("!call.category", r"no overload of ! for \(string\)", None, ""),
    ("call.category ? 1 : 2", r"the condition of \?: must be bool", "call.category", ""),
    ("true ? 1 : 'a'", "branches", None, ""),
    ("call.category.kind", "a string has no fields", None, ""),
    ("has(call.category)", "always has a value", None, ""),
    ("has(call.category.x)", r"has\(\) asks for a field of a map, found string", None, ""),
    ("call.tags['a']", r"no overload of \[\] for \(list\(string\), string\)", None, ""),
    ("call.headers[1]", r"no overload of \[\]", None, ""),
    ("call.category.all(x, true)", r"walks over a list or a map", "call.category", ""),
    ("call.tags.exists(t, t)", r"second argument of exists\(\) must be bool", "t", ""),
    ("call.category.matches('[')", "no RE2 pattern", None, ""),
    ("call.at.getHours('Europe/Atlantis')", "no time zone", None, ""),
    ("{1.5: 1}", "a double cannot be the key", "1.5", ""),
    ("{'a': 1, 'a': 2}", "there twice", None, ""),
    ("Thing{a: 1}", "messages are not supported", None, ""),
    ("cycle.a", "defined by itself", "cycle.a", ""),
    ("bad.macro", "in the definition of bad.macro: .*did you mean call.category", None, ""),
]


@pytest.mark.parametrize(
    ("source", "message", "text", "hint"), MISTAKES, ids=[row[0] for row in MISTAKES]
)
def test_mistake(source: str, message: str | None, text: str | None, hint: str) -> None:
    """A mistake is a CheckError that covers the wrong text and names the nearest valid name."""
    if message is None:
        assert check(parse(source), DECLARATIONS).type == BOOL
        return
    with pytest.raises(CheckError, match=message) as caught:
        check(parse(source), DECLARATIONS)
    error = caught.value
    assert hint == error.hint
    assert (text or source) == source[error.offset : error.offset + error.length]


TYPES = [
    ("call.redirects + 1", "int"),
    ("call.tags + ['a']", "list(string)"),
    ("[1, 'a']", "list(dyn)"),
    ("[[1], []]", "list(list(dyn))"),
    ("{'a': 1, 'b': 2.0}", "map(string, dyn)"),
    ("call.tags[0]", "string"),
    ("call.headers.host", "string"),
    ("call.extra.a.b", "dyn"),
    ("call.extra + 1", "int"),
    ("call.extra < 1", "bool"),
    ("call.tags.map(t, size(t))", "list(int)"),
    ("call.headers.filter(k, k != '')", "list(string)"),
    ("call.at - call.at", "google.protobuf.Duration"),
    ("type(call.at)", "type"),
    ("dyn(1)", "dyn"),
    ("call.commercial ? dyn(1) : 2", "dyn"),
]


@pytest.mark.parametrize(("source", "expected"), TYPES, ids=[source for source, _ in TYPES])
def test_type(source: str, expected: str) -> None:
    """The type of an expression follows from its parts."""
    assert expected == str(check(parse(source), DECLARATIONS).type)


FAILING = [
    ("call.category == 'a' && call.redirects < 3", False),
    ("call.category.matches('^a')", False),
    ("call.category.matches(consent.state)", True),
    ("call.at.getHours('Asia/Kolkata') < 9", False),
    ("call.redirects + 1 < 3", True),
    ("1 + 1 < call.redirects", False),
    ("duration('1h') < duration('2h')", False),
    ("call.extra == 1", False),
    ("call.extra < 1", True),
    ("call.tags[0] == 'a'", True),
    ("'a' in call.tags && has(call.headers.host)", False),
    ("called.ratio(1, 2) > 1", True),
    ("[1, 2].all(x, x < call.redirects)", False),
    ("[1, 2].all(x, x / call.redirects > 1)", True),
]


@pytest.mark.parametrize(("source", "expected"), FAILING, ids=[source for source, _ in FAILING])
def test_can_fail(source: str, expected: bool) -> None:
    """Only what may raise when it is evaluated says so."""
    assert expected == check(parse(source), DECLARATIONS).can_fail


def test_uses_reach_through_macros() -> None:
    """The facts that a macro reads are facts that the expression reads."""
    checked = check(parse("call.commercial && call.trusted"), DECLARATIONS)
    expected = {"call.commercial", "call.category", "called.refuses", "consent.state"}
    assert expected == checked.uses


def test_arguments_for_the_read_plan() -> None:
    """Every call of a function shows its arguments, those inside macros included."""
    source = "called.refuses(call.category) || called.refuses('loans') || call.authenticated"
    found = check(parse(source), DECLARATIONS).arguments("called.refuses")
    shown = [path(first) or getattr(first, "value", None) for (first,) in found]
    assert shown == ["call.category", "loans", "all"]
