"""`python -m rules`."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rules.__main__ import answers, main
from rules.schema import FUNCTIONS, VARIABLES

SOURCE = Path(__file__).parents[2] / "src"


def test_prints_the_value_and_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    """A value is printed as an expression spells it, with its type."""
    assert main(["eval", "x.map(n, n * 2)[0] + y.z", "--vars", '{"x": [20], "y.z": 2}']) == 0
    assert capsys.readouterr().out == "42  (int)\n"


def test_underlines_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is shown in its line, and the exit code is 1."""
    assert main(["eval", "true && cal.x", "--vars", '{"call.x": true}']) == 1
    expected = (
        "check error at 1:9: undeclared name 'cal.x'; did you mean call.x?\n"
        "  true && cal.x\n"
        "          ^^^^^\n"
    )
    assert expected == capsys.readouterr().err


def test_says_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """An evaluation without a value says why, and the exit code is 1."""
    assert main(["eval", "1 / 0"]) == 1
    assert capsys.readouterr().err == "eval error: division by zero\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["eval"],
        ["eval", "1", "--stdin"],
        ["eval", "1", "--vars", "[]"],
        ["eval", "1", "--vars", "{"],
    ],
    ids=" ".join,
)
def test_usage(arguments: list[str]) -> None:
    """A wrong command line is exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


QUESTIONS = [
    ({"expr": "1 + 1"}, {"value": {"int64Value": "2"}}),
    (
        {"expr": "y", "container": "x", "vars": {"x.y": {"boolValue": True}}},
        {"value": {"boolValue": True}},
    ),
    ({"expr": "x || true", "check": False}, {"value": {"boolValue": True}}),
    ({"expr": "x || true"}, {"error": "undeclared name 'x'", "phase": "check"}),
    (
        {"expr": "1 +"},
        {"error": "found the end where an expression was expected", "phase": "parse"},
    ),
    ({"expr": "1 / 0"}, {"error": "division by zero", "phase": "eval"}),
    ({"expr": "'é\\U0001F600'"}, {"value": {"stringValue": "é😀"}}),
]


def test_answers_line_by_line() -> None:
    """Each question has its answer, in order; a blank line is none."""
    lines = "\n\n".join(json.dumps(question) for question, _ in QUESTIONS).encode()
    found = [json.loads(answer) for answer in answers(io.BytesIO(lines))]
    assert [answer for _, answer in QUESTIONS] == found


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"expr": 1}',
        b'{"expr": "1", "vars": {"x": 1}}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_malformed_question_is_answered(line: bytes) -> None:
    """No line ends the session."""
    (answer,) = answers([line])
    assert "malformed" in json.loads(answer)["error"]


def test_the_committed_page_of_facts_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/facts.md is what the table gives, each fact and function once."""
    assert main(["facts"]) == 0
    page = capsys.readouterr().out
    committed = SOURCE.parent / "docs" / "facts.md"
    assert committed.read_text("utf-8") == page, "python -m rules facts > docs/facts.md"
    for name in VARIABLES:
        assert page.count(f"| `{name}` |") == 1
    for name in FUNCTIONS:
        assert page.count(f"| `{name}(") == 1


def test_the_command_itself() -> None:
    """The module runs as a program, and answers as it is asked."""
    with subprocess.Popen(
        [sys.executable, "-m", "rules", "eval", "--stdin"],
        cwd=SOURCE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for question, answer in QUESTIONS:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            assert answer == json.loads(process.stdout.readline())
        process.stdin.close()
    assert process.returncode == 0
