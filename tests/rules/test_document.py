"""Places in TOML files: what the scan finds is what tomllib reads."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.document import Document, Path, RuleSetError

EVERYTHING = r'''# a comment with = and [brackets] and "quotes"
bare-key = "basic \"quoted\" \\ string" # and a comment
'quoted key' = 'literal # no comment'
"b\u0061sic" = 1_000
dotted . name.'part' = +1.5e3
day = 1979-05-27
instant = 1979-05-27 07:32:00Z   # a space inside
local = 07:32:00.999
flag=true
nested = [ [1, 2], # comment ]
  ["a,]", {x = 1, "y z" = [ {deep.er = 'v'} ]}, ],
]
many = """\
  one \
  two ""quotes"" """
more = \'\'\'
'literal' \n lines''\'\'\'
[table]
key = {}
[table."sub.table"]
key = []
[[array]]
id = "first"
[array.inner]
key = 1
[[array.list]]
n = 1
[[array.list]]
n = 2
[[array]]
id = "second"
[[array.list]]
n = 3
'''.replace("\\'", "'")


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Every value that is no table and no array, by its path."""
    if isinstance(value, dict):
        return {
            p: v for name, item in value.items() for p, v in leaves(item, (*path, name)).items()
        }
    if isinstance(value, list):
        return {p: v for at, item in enumerate(value) for p, v in leaves(item, (*path, at)).items()}
    return {path: value}


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_the_scan_finds_each_value_where_tomllib_reads_it(newline: str) -> None:
    """The text at a path's place, read alone, is the value at the path."""
    text = EVERYTHING.replace("\n", newline)
    document = Document("all.toml", text)
    for path, value in leaves(document.data).items():
        span = document.spans[path]
        assert tomllib.loads(f"x = {text[slice(*span.value)]}") == {"x": value}
    assert len(leaves(document.data)) == 21


@given(
    st.recursive(
        st.integers() | st.booleans() | st.text(alphabet="ab'\"\\\n#=[]{},.é \t"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(alphabet="a-.\"'é]", max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_the_scan_follows_any_inline_value(value: Any) -> None:
    """Strings full of syntax, deep arrays and tables do not lead it astray."""
    document = Document("any.toml", f"x = {written(value)}\ny = 1")
    assert document.data["x"] == value
    assert set(leaves(document.data)) <= set(document.spans)
    place = document.spans["y",].key[0]
    assert document.text[place:] == "y = 1"


def written(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'
        case list():
            return f"[{', '.join(map(written, value))}]"
    return (
        "{" + ", ".join(f"{written(name)} = {written(item)}" for name, item in value.items()) + "}"
    )


@pytest.mark.parametrize(
    ("literal", "inside", "underlined"),
    [
        ("'abc'", (1, 1), "b"),
        (r'"a\tbc"', (2, 2), "bc"),
        (r'"\u00e9\\x"', (2, 1), "x"),
        ('"""\nabc"""', (0, 2), "ab"),
        ("'''a\nbcd'''", (3, 9), "cd"),
        ("'abc'", (3, 1), "'"),
    ],
    ids=["literal", "escape", "escapes", "opening newline", "second line", "past the end"],
)
def test_a_part_of_a_string_is_underlined_where_it_is_written(
    literal: str, inside: tuple[int, int], underlined: str
) -> None:
    """Offsets count the string's characters, places those of the file."""
    document = Document("f.toml", f"first = 1\nwhen = {literal}\n")
    problem = document.problem(("when",), "wrong", inside=inside)
    line = document.text.split("\n")[problem.line - 1]
    assert line[problem.column - 1 :].startswith(underlined)
    carets = problem.excerpt.split("\n")[1].strip()
    assert carets == "^" * len(underlined)


@pytest.mark.parametrize(
    ("text", "place"),
    [("a = 1\nb = = 2", "f.toml:2:5: not TOML"), ("a = [1", "f.toml:1:7: not TOML"),
     ("a = 1\na = 2", "f.toml:2:6: not TOML")],
    ids=["value", "end", "twice"],
)  # fmt: skip
def test_what_is_no_toml_is_refused_with_its_place(text: str, place: str) -> None:
    """tomllib's message, and the line underlined."""
    with pytest.raises(RuleSetError) as refused:
        Document("f.toml", text)
    assert str(refused.value).startswith(place)
