"""Tokens to syntax: precedence climbing, macros recognised as they are met.

Invariants: no source makes Python's own stack overflow, because both the nesting of the source
and the height of the tree are bounded; every node knows its place.
"""

from functools import lru_cache
from typing import Final

from rules.cel.errors import ParseError
from rules.cel.lexer import RESERVED, Token, tokens
from rules.cel.syntax import (
    Call,
    Comprehension,
    Conditional,
    Expr,
    Has,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Message,
    Name,
    Select,
    path,
)
from rules.cel.types import BOOL, BYTES, DOUBLE, INT, NULL, STRING, UINT

MAX_NESTING: Final = 64
"""Brackets, arguments and branches within each other; the language asks for 32."""
MAX_HEIGHT: Final = 128
"""Operators and selections applied to each other's results; the language asks for 32."""

_PRECEDENCE: Final = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("<", "<=", ">=", ">", "==", "!=", "in"), 3),
    **dict.fromkeys("+-", 4),
    **dict.fromkeys("*/%", 5),
}
_MACROS: Final = {"all": (2,), "exists": (2,), "exists_one": (2,), "map": (2, 3), "filter": (2,)}
_TEXT: Final = {"double": DOUBLE, "string": STRING, "bytes": BYTES}
_WORDS: Final = {"true": (True, BOOL), "false": (False, BOOL), "null": (None, NULL)}


@lru_cache(maxsize=4096)
def parse(source: str) -> Expr:
    """The expression that a source spells. Raises ParseError."""
    parser = _Parser(tokens(source))
    expr = parser.expression()
    parser.expect("end")
    return expr


class _Parser:
    __slots__ = ("_height", "_nesting", "_next", "_position", "_tokens")

    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._position = 0
        self._next = found[0]
        self._nesting = 0
        self._height = 0  # of the tree that was returned last

    def expression(self) -> Expr:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise ParseError(
                f"the expression is nested more than {MAX_NESTING} deep", offset=self._next.offset
            )
        condition = self._binary(1)
        if self._next.kind == "?":
            height = self._height
            self._advance()
            chosen = self._binary(1)
            height = max(height, self._height)
            self.expect(":")
            otherwise = self.expression()
            self._grow(max(height, self._height))
            condition = Conditional(
                condition, chosen, otherwise, *_span(condition.offset, otherwise)
            )
        self._nesting -= 1
        return condition

    def expect(self, kind: str) -> Token:
        token = self._next
        if token.kind != kind:
            wanted = {"end": "the end of the expression", "name": "a name"}.get(kind, repr(kind))
            raise _unexpected(token, wanted)
        if kind != "end":
            self._advance()
        return token

    def _advance(self) -> Token:
        token = self._next
        self._position += 1
        self._next = self._tokens[self._position]
        return token

    def _grow(self, height: int) -> None:
        self._height = height + 1
        if height >= MAX_HEIGHT:
            raise ParseError(
                f"more than {MAX_HEIGHT} operations build on each other", offset=self._next.offset
            )

    def _binary(self, precedence: int) -> Expr:
        left = self._unary()
        while (found := _PRECEDENCE.get(self._next.kind, 0)) >= precedence:
            operator = self._next.kind
            if operator in ("&&", "||"):
                left = self._logic(operator, left, found + 1)
                continue
            height = self._height
            self._advance()
            right = self._binary(found + 1)
            self._grow(max(height, self._height))
            left = Call(operator, None, (left, right), *_span(left.offset, right))
        return left

    def _logic(self, operator: str, first: Expr, precedence: int) -> Expr:
        operands = [first]
        height = self._height
        while self._next.kind == operator:
            self._advance()
            operands.append(self._binary(precedence))
            height = max(height, self._height)
        self._grow(height)
        return Logic(operator, tuple(operands), *_span(first.offset, operands[-1]))

    def _unary(self) -> Expr:
        sign = self._next
        if sign.kind not in ("-", "!"):
            return self._member()
        signs = [self._advance()]
        while self._next.kind == sign.kind:
            signs.append(self._advance())
        if sign.kind == "-" and self._next.kind in ("int", "double"):
            operand = self._member(minus=signs.pop())
        else:
            operand = self._member()
        # An even number of signs is two, so that the operand is still checked.
        for token in signs[: 2 - len(signs) % 2]:
            self._grow(self._height)
            operand = Call(f"{token.kind}_", None, (operand,), *_span(token.offset, operand))
        return operand

    def _member(self, minus: Token | None = None) -> Expr:
        expr = self._primary(minus)
        while True:
            height = self._height
            kind = self._next.kind
            if kind == ".":
                expr = self._selected(expr)
            elif kind == "[":
                self._advance()
                index = self.expression()
                height = max(height, self._height)
                end = self.expect("]")
                expr = Call("[]", None, (expr, index), *_span(expr.offset, end))
            elif kind == "{" and (name := path(expr)) is not None:
                expr = self._message(expr, name)
            else:
                return expr
            self._grow(max(height, self._height))

    def _selected(self, operand: Expr) -> Expr:
        self._advance()
        field = self._next
        if field.kind not in ("name", "quoted"):
            raise _unexpected(field, "the name of a field or method")
        self._advance()
        name = str(field.value)
        if self._next.kind != "(" or field.kind == "quoted":
            self._height = 0
            return Select(operand, name, *_span(operand.offset, field))
        arguments, end = self._arguments(")")
        offset, length = _span(operand.offset, end)
        if len(arguments) in _MACROS.get(name, ()):
            return _comprehension(name, operand, arguments, offset, length)
        return Call(name, operand, arguments, offset, length)

    def _primary(self, minus: Token | None) -> Expr:
        kind = self._next.kind
        if kind == "end":
            raise _unexpected(self._next, "an expression")
        token = self._advance()
        self._height = 0
        if kind == "name" or (kind == "." and self._next.kind == "name"):
            return self._named(token)
        if kind in ("int", "uint"):
            return _integer(token, minus)
        if kind in _TEXT:
            value = -float(token.value) if minus else token.value
            return Literal(value, _TEXT[kind], *_span((minus or token).offset, token))
        if kind in _WORDS:
            return Literal(*_WORDS[kind], token.offset, token.length)
        if kind == "(":
            expr = self.expression()
            self.expect(")")
            return expr
        if kind == "[":
            self._position -= 1
            self._next = token
            elements, end = self._arguments("]")
            return ListOf(elements, *_span(token.offset, end))
        if kind == "{":
            return self._map(token)
        raise _unexpected(token, "an expression")

    def _named(self, token: Token) -> Expr:
        rooted = token.kind == "."
        name = self._advance() if rooted else token
        text = str(name.value)
        if text in RESERVED:
            raise ParseError(f"{text!r} is a reserved word", offset=name.offset, length=name.length)
        if self._next.kind != "(":
            return Name(text, rooted, *_span(token.offset, name))
        arguments, end = self._arguments(")")
        offset, length = _span(token.offset, end)
        if text == "has" and not rooted:
            if len(arguments) != 1 or not isinstance(arguments[0], Select):
                raise ParseError(
                    "has() takes the selection of a field, as in has(a.b)",
                    offset=offset,
                    length=length,
                )
            return Has(arguments[0].operand, arguments[0].field, offset, length)
        return Call(text, None, arguments, offset, length, rooted)

    def _arguments(self, closing: str) -> tuple[tuple[Expr, ...], Token]:
        self._advance()
        found: list[Expr] = []
        height = 0
        while self._next.kind != closing:
            found.append(self.expression())
            height = max(height, self._height)
            if self._next.kind != ",":
                break
            self._advance()
            # A comma may follow the last element of a list, but no argument.
            if closing == ")" and self._next.kind == ")":
                raise _unexpected(self._next, "an argument")
        self._grow(height)
        return tuple(found), self.expect(closing)

    def _map(self, token: Token) -> Expr:
        entries: list[tuple[Expr, Expr]] = []
        height = 0
        while self._next.kind != "}":
            key = self.expression()
            height = max(height, self._height)
            self.expect(":")
            entries.append((key, self.expression()))
            height = max(height, self._height)
            if self._next.kind != ",":
                break
            self._advance()
        end = self.expect("}")
        self._grow(height)
        return MapOf(tuple(entries), *_span(token.offset, end))

    def _message(self, expr: Expr, name: str) -> Expr:
        self._advance()
        while self._next.kind != "}":
            if self._next.kind not in ("name", "quoted"):
                raise _unexpected(self._next, "the name of a field")
            self._advance()
            self.expect(":")
            self.expression()
            if self._next.kind != ",":
                break
            self._advance()
        return Message(name, *_span(expr.offset, self.expect("}")))


def _span(offset: int, last: Expr | Token) -> tuple[int, int]:
    return offset, last.offset + last.length - offset


def _unexpected(token: Token, wanted: str) -> ParseError:
    found = "the end" if token.kind == "end" else repr(str(token.value))
    return ParseError(
        f"found {found} where {wanted} was expected", offset=token.offset, length=token.length
    )


def _integer(token: Token, minus: Token | None) -> Literal:
    offset, length = _span((minus or token).offset, token)
    value = -int(token.value) if minus else int(token.value)
    kind = UINT if token.kind == "uint" else INT
    if not (0 <= value < 1 << 64 if kind is UINT else -(1 << 63) <= value < 1 << 63):
        raise ParseError(f"the number is out of the range of {kind}", offset=offset, length=length)
    return Literal(value, kind, offset, length)


def _comprehension(
    macro: str, over: Expr, arguments: tuple[Expr, ...], offset: int, length: int
) -> Comprehension:
    variable = arguments[0]
    if not isinstance(variable, Name) or variable.rooted:
        raise ParseError(
            f"the first argument of {macro}() must be a simple name",
            offset=variable.offset,
            length=variable.length,
        )
    guard = arguments[1] if len(arguments) == 3 else None
    return Comprehension(macro, over, variable.name, guard, arguments[-1], offset, length)
