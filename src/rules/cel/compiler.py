"""Terms to Python: plain expressions over `c` (the call), `f` (the facts) and the runtime.

For a set of unknown facts a condition becomes two: `must` is true when the condition is true
whatever the unknown facts are, `may` when they can be such that it is true. Hence
`must <= condition <= may`, and both are the condition itself where nothing unknown is used.
Operators that absorb errors become Python's own wherever at most one operand can fail.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rules.cel.checker import Checked, check
from rules.cel.declarations import Declarations, Variable
from rules.cel.errors import CheckError
from rules.cel.interchange import static_type
from rules.cel.parser import parse
from rules.cel.standard import RUNTIME
from rules.cel.terms import Choice, Code, Constant, Junction, Not, Quantifier, Term, literal
from rules.cel.types import BOOL, DYN

Condition = Callable[[Any, Any], bool]

_MAX_BRACKETS: Final = 180
"""Brackets within each other; Python's tokenizer takes 200."""
_HELPERS: Final = {"&&": ("every", "and"), "||": ("some", "or")}
_BRACKETS: Final = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|([(\[{])|([)\]}])""")


@dataclass(frozen=True, slots=True)
class Emitted:
    """A condition as Python text, twice: see the module."""

    must: str
    may: str


def emit(checked: Checked, *, unknown: frozenset[str] = frozenset()) -> Emitted:
    """A condition as Python, with the facts named in `unknown` not to be had.

    Raises CheckError when the expression is no condition.
    """
    term = checked.term
    if term.type == DYN:
        term = Code("truth({0})", (term,), BOOL, term.uses, can_fail=True)
    elif term.type != BOOL:
        raise CheckError(
            f"a condition must be bool, found {term.type}",
            offset=checked.expr.offset,
            length=checked.expr.length,
        )
    must, may = _pair(term, unknown)
    for text in {must, may}:
        _measure(text, checked)
    return Emitted(must, may)


def emit_value(checked: Checked) -> str:
    """Any expression as Python text."""
    text = text_of(checked.term)
    _measure(text, checked)
    return text


def compile_text(text: str) -> Callable[[Any, Any], Any]:
    """The function of `c` and `f` that Python text computes."""
    # The text is our own: names and literals of the source enter it only through repr.
    return eval(f"lambda c, f: {text}", _GLOBALS)  # type: ignore[no-any-return]  # noqa: S307


def compile_condition(
    source: str, declarations: Declarations, *, unknown: frozenset[str] = frozenset()
) -> tuple[Condition, Condition]:
    """`must` and `may` of a condition, ready to call. Raises CelError."""
    emitted = emit(check(parse(source), declarations), unknown=unknown)
    return compile_text(emitted.must), compile_text(emitted.may)


def evaluate(
    source: str, variables: Mapping[str, Any], *, container: str = "", strict: bool = True
) -> Any:
    """The value of an expression once, for variables typed by their values.

    Raises CelError, and EvaluationError where the evaluation has no value.
    """
    declarations = Declarations(
        {
            name: Variable(static_type(value), f"c[{name!r}]", "")
            for name, value in variables.items()
        }
    )
    checked = check(parse(source), declarations, container=container, strict=strict)
    return compile_text(emit_value(checked))(variables, None)


_GLOBALS: Final = dict(RUNTIME)


def text_of(term: Term) -> str:
    """A checked expression, or a part of one, as Python text."""
    match term:
        case Constant(value):
            return literal(value)
        case Code(template, operands):
            return template.format(*map(text_of, operands))
        case Not(operand):
            return _not(text_of(operand))
        case Junction(operator, operands):
            return _join(operator, [(text_of(operand), operand.can_fail) for operand in operands])
        case Choice(condition, chosen, otherwise):
            return _either(text_of(condition), text_of(chosen), text_of(otherwise))
        case Quantifier(predicate=predicate):
            return _quantified(term, text_of(predicate))


def _pair(term: Term, unknown: frozenset[str]) -> tuple[str, str]:
    if term.uses.isdisjoint(unknown):
        text = text_of(term)
        return text, text
    match term:
        case Not(operand):
            must, may = _pair(operand, unknown)
            return _not(may), _not(must)
        case Junction(operator, operands):
            pairs = [(*_pair(operand, unknown), operand.can_fail) for operand in operands]
            return (
                _join(operator, [(must, fails) for must, _, fails in pairs]),
                _join(operator, [(may, fails) for _, may, fails in pairs]),
            )
        case Choice(type=kind) if kind == BOOL:
            return _choice(term, unknown)
        case Quantifier(over=over, predicate=predicate) if over.uses.isdisjoint(unknown):
            must, may = _pair(predicate, unknown)
            return _quantified(term, must), _quantified(term, may)
    return "False", "True"


def _choice(term: Choice, unknown: frozenset[str]) -> tuple[str, str]:
    chosen, otherwise = _pair(term.chosen, unknown), _pair(term.otherwise, unknown)
    if term.condition.uses.isdisjoint(unknown):
        condition = text_of(term.condition)
        return (
            _either(condition, chosen[0], otherwise[0]),
            _either(condition, chosen[1], otherwise[1]),
        )
    if term.condition.can_fail:
        # Then it is not known either whether it fails, and a choice fails with its condition.
        return "False", "True"
    must, may = _pair(term.condition, unknown)
    fails = (term.chosen.can_fail, term.otherwise.can_fail)

    def arms(first: str, left: str, second: str, right: str) -> str:
        parts = (
            (_join("&&", [(first, False), (left, fails[0])]), fails[0]),
            (_join("&&", [(second, False), (right, fails[1])]), fails[1]),
        )
        return _join("||", parts)

    return (
        arms(must, chosen[0], _not(may), otherwise[0]),
        arms(may, chosen[1], _not(must), otherwise[1]),
    )


def _either(condition: str, chosen: str, otherwise: str) -> str:
    if condition in ("True", "False"):
        return chosen if condition == "True" else otherwise
    return f"({chosen} if {condition} else {otherwise})"


def _quantified(term: Quantifier, predicate: str) -> str:
    over = text_of(term.over)
    if term.predicate.can_fail:
        helper = "every_of" if term.macro == "all" else "some_of"
        return f"{helper}({over}, lambda {term.local}: {predicate})"
    helper = "all" if term.macro == "all" else "any"
    return f"{helper}({predicate} for {term.local} in {over})"


def _not(text: str) -> str:
    return {"True": "False", "False": "True"}.get(text) or f"(not {text})"


def _join(operator: str, operands: Sequence[tuple[str, bool]]) -> str:
    """The texts joined; each comes with whether it can fail."""
    helper, word = _HELPERS[operator]
    neutral, absorbing = ("True", "False") if operator == "&&" else ("False", "True")
    left = [operand for operand in operands if operand[0] != neutral]
    if any(text == absorbing for text, _ in left):
        return absorbing
    # What can fail goes last: then it is reached only where its failure is the result.
    parts = [text for text, fails in left if not fails]
    failing = [text for text, fails in left if fails]
    if len(failing) > 1:
        failing = [f"{helper}({', '.join(f'lambda: {text}' for text in failing)})"]
    parts += failing
    if len(parts) > 1:
        return f"({f' {word} '.join(parts)})"
    return parts[0] if parts else neutral


def _measure(text: str, checked: Checked) -> None:
    if text.count("(") + text.count("[") + text.count("{") <= _MAX_BRACKETS:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += bool(match[1]) - bool(match[2])
        if depth > _MAX_BRACKETS:
            raise CheckError(
                "the expression is nested too deeply to compile",
                offset=checked.expr.offset,
                length=checked.expr.length,
            )
