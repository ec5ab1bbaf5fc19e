"""Checked expressions: what is left to compute, with types resolved and names bound.

A term knows the facts it reads and whether it can fail, because both decide how it is compiled.
"""

import math
from dataclasses import dataclass

from rules.cel.runtime import Duration, Timestamp, TypeValue, Uint
from rules.cel.types import Type

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known now."""

    value: object
    type: Type
    uses: frozenset[str] = _NONE
    can_fail: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Python with {0}, {1}, … for the compiled operands, parenthesised by itself."""

    template: str
    operands: "tuple[Term, ...]"
    type: Type
    uses: frozenset[str]
    can_fail: bool


@dataclass(frozen=True, slots=True)
class Not:
    """`!operand`."""

    operand: "Term"
    type: Type
    uses: frozenset[str]
    can_fail: bool


@dataclass(frozen=True, slots=True)
class Junction:
    """Operands joined by `&&` or `||`."""

    operator: str
    operands: "tuple[Term, ...]"
    type: Type
    uses: frozenset[str]
    can_fail: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """`condition ? chosen : otherwise`."""

    condition: "Term"
    chosen: "Term"
    otherwise: "Term"
    type: Type
    uses: frozenset[str]
    can_fail: bool


@dataclass(frozen=True, slots=True)
class Quantifier:
    """`all` or `exists` over the values of a term, `local` being their Python name."""

    macro: str
    over: "Term"
    local: str
    predicate: "Term"
    type: Type
    uses: frozenset[str]
    can_fail: bool


Term = Constant | Code | Not | Junction | Choice | Quantifier


def uses_of(*terms: Term) -> frozenset[str]:
    """The facts that any of the terms reads."""
    found = _NONE
    for term in terms:
        if term.uses:
            found = found | term.uses if found else term.uses
    return found


def literal(value: object) -> str:
    """A constant as Python text, over the names of the runtime."""
    match value:
        case bool() | None:
            return str(value)
        case Uint() | Timestamp() | Duration():
            return f"{type(value).__name__}({int(value)})"
        case int():
            return f"({value})" if value < 0 else str(value)
        case float():
            text = repr(abs(value))
            return f"(-{text})" if math.copysign(1.0, value) < 0 else text
        case TypeValue():
            return f"TYPES[{str(value)!r}]"
        case str() | bytes():
            return repr(value)
        case tuple() | list():
            return f"({''.join(f'{literal(element)}, ' for element in value)})"
    raise TypeError(f"a {type(value).__name__} is no constant")
