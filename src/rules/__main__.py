"""`python -m rules`: expressions evaluated by hand or by a conformance suite; the page of facts."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rules.cel.compiler import evaluate
from rules.cel.errors import CelError, EvaluationError
from rules.cel.interchange import NotAValue, from_json, from_plain, spell, to_json
from rules.cel.runtime import kind_of
from rules.reference import facts_page

_STDIN = """\
With --stdin, each line of input is a JSON object and gives one line of output, in order:

  {"expr": "x + 1", "vars": {"x": {"int64Value": "41"}}}
  {"value": {"int64Value": "42"}}

"vars" and the value are in the JSON form of cel.expr.Value; 64-bit integers are strings, bytes
base64, timestamps and durations an objectValue of their well-known type. "container" is the
namespace in which names are looked up, "" by default; "check" (true by default) says whether
types are checked before the evaluation. What goes wrong is an error with its phase:

  {"error": "undeclared name 'y'", "phase": "check"}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code is 0, 1 for an error of the expression, 2 of the usage."""
    parser = argparse.ArgumentParser(prog="python -m rules", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    command = commands.add_parser(
        "eval",
        help="evaluate an expression of the Common Expression Language",
        description="Evaluate an expression and print its value and type.",
        epilog=_STDIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("expression", nargs="?", help="such as 'size(x) > 2 && x[0] == \"a\"'")
    command.add_argument(
        "--vars",
        default="{}",
        metavar="JSON",
        help="variables as a plain JSON object of names (dots allowed) and values",
    )
    command.add_argument("--container", default="", metavar="NAME", help="namespace of the names")
    command.add_argument(
        "--no-check", action="store_true", help="leave wrong types and names to the evaluation"
    )
    command.add_argument("--stdin", action="store_true", help="many expressions, one JSON a line")
    commands.add_parser(
        "facts",
        help="print the reference page of facts",
        description="Print the reference page of facts and functions, which is docs/facts.md.",
    )
    options = parser.parse_args(arguments)
    if options.command == "facts":
        sys.stdout.write(facts_page())
        return 0
    if options.stdin == (options.expression is not None):
        command.error("give an expression or --stdin, one of the two")
    if options.stdin:
        for answer in answers(sys.stdin.buffer):
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
        return 0
    try:
        variables = from_plain(json.loads(options.vars))
        if not isinstance(variables, dict):
            raise NotAValue("expected an object of names and values")
    except ValueError as error:
        command.error(f"--vars: {error}")
    try:
        value = evaluate(
            options.expression,
            variables,
            container=options.container,
            strict=not options.no_check,
        )
    except CelError as error:
        sys.stderr.write(f"{error.phase} error at {error.underlined(options.expression)}\n")
        return 1
    except EvaluationError as error:
        sys.stderr.write(f"eval error: {error}\n")
        return 1
    sys.stdout.write(f"{spell(value)}  ({kind_of(value)})\n")
    return 0


def answers(questions: Iterable[bytes]) -> Iterator[str]:
    """A line of JSON for each line of JSON."""
    for line in questions:
        if line.strip():
            yield json.dumps(_answer(line), separators=(",", ":"))


def _answer(line: bytes) -> dict[str, Any]:
    try:
        question = json.loads(line)
        variables = {name: from_json(value) for name, value in (question.get("vars") or {}).items()}
        value = evaluate(
            question["expr"],
            variables,
            container=question.get("container") or "",
            strict=question.get("check", True),
        )
        return {"value": to_json(value)}
    except CelError as error:
        return {"error": str(error), "phase": error.phase}
    except EvaluationError as error:
        return {"error": str(error), "phase": "eval"}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        return {"error": f"the question is malformed: {error}", "phase": "parse"}


if __name__ == "__main__":
    sys.exit(main())
