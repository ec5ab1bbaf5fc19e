"""What an expression says, as parsed: each node with its place in the source."""

from dataclasses import dataclass

from rules.cel.types import Type


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, string, bytes, bool or null, with the type that its spelling gives it."""

    value: bool | int | float | str | bytes | None
    type: Type
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Name:
    """A simple name; `rooted` when a dot before it excludes locals and the container."""

    name: str
    rooted: bool
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`: a field of a map, or part of a dotted name."""

    operand: "Expr"
    field: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Has:
    """`has(operand.field)`."""

    operand: "Expr"
    field: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Call:
    """`function(…)` or `target.function(…)`; operators and indexing are called by their sign."""

    function: str
    target: "Expr | None"
    arguments: "tuple[Expr, ...]"
    offset: int
    length: int
    rooted: bool = False


@dataclass(frozen=True, slots=True)
class Logic:
    """Operands joined by one of `&&` and `||`."""

    operator: str
    operands: "tuple[Expr, ...]"
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? chosen : otherwise`."""

    condition: "Expr"
    chosen: "Expr"
    otherwise: "Expr"
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[…]`."""

    elements: "tuple[Expr, ...]"
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{key: value, …}`."""

    entries: "tuple[tuple[Expr, Expr], ...]"
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Message:
    """`name{field: value, …}`: parsed, to say in the check that messages are not supported."""

    name: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Comprehension:
    """`over.macro(variable, body)`; `guard` is the middle argument of a `map` with three."""

    macro: str
    over: "Expr"
    variable: str
    guard: "Expr | None"
    body: "Expr"
    offset: int
    length: int


Expr = (
    Literal
    | Name
    | Select
    | Has
    | Call
    | Logic
    | Conditional
    | ListOf
    | MapOf
    | Message
    | Comprehension
)


def path(expr: Expr) -> str | None:
    """The dotted name that an expression spells, `call.category`, or None."""
    parts: list[str] = []
    while isinstance(expr, Select):
        parts.append(expr.field)
        expr = expr.operand
    if not isinstance(expr, Name):
        return None
    parts.append(expr.name)
    return ".".join(reversed(parts))
