"""Syntax to terms: names resolved, overloads chosen, types checked.

Strict, as rules are loaded, whatever cannot work is a CheckError. Lenient, as the language
allows, it becomes an EvaluationError of the part that does not work, so that the rest of the
expression may still decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rules.cel.declarations import Declarations, Function, nearest
from rules.cel.errors import CelError, CheckError, EvaluationError
from rules.cel.parser import parse
from rules.cel.runtime import (
    TYPES,
    Uint,
    contained,
    entries_of,
    equal,
    pattern,
    type_of,
    zone_of,
)
from rules.cel.standard import CANDIDATES, FUNCTIONS, OVERLOADS
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
from rules.cel.terms import (
    Choice,
    Code,
    Constant,
    Junction,
    Not,
    Quantifier,
    Term,
    literal,
    uses_of,
)
from rules.cel.types import (
    BOOL,
    DENOTED,
    DYN,
    INT,
    STRING,
    TYPE,
    UINT,
    Type,
    compatible,
    identity_safe,
    join,
    list_of,
    map_of,
)

_ERASED = {"list": list_of(DYN), "map": map_of(DYN, DYN)}


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression that fits its declarations.

    `uses` are the dotted names of the variables and functions it reads, those inside macros
    included; `can_fail` says that evaluation may raise EvaluationError.
    """

    expr: Expr
    term: Term
    calls: tuple[tuple[str, tuple[Expr, ...]], ...]

    @property
    def type(self) -> Type:
        """The type of its value."""
        return self.term.type

    @property
    def uses(self) -> frozenset[str]:
        """The variables and functions it reads."""
        return self.term.uses

    @property
    def can_fail(self) -> bool:
        """Whether evaluation may raise EvaluationError."""
        return self.term.can_fail

    def arguments(self, function: str) -> list[tuple[Expr, ...]]:
        """The arguments of each call of a declared function, as written.

        `syntax.path` gives the variable that one names; a literal has its `value`.
        """
        return [arguments for name, arguments in self.calls if name == function]


def check(
    expr: Expr, declarations: Declarations, *, container: str = "", strict: bool = True
) -> Checked:
    """Resolve and type an expression. Raises CheckError; when not strict, for messages only."""
    checker = _Checker(declarations, container, strict)
    term = checker.term(expr)
    return Checked(expr, term, tuple(checker.calls))


@dataclass(slots=True)
class _Checker:
    declarations: Declarations
    container: str
    strict: bool
    calls: list[tuple[str, tuple[Expr, ...]]] = field(default_factory=list)
    locals: dict[str, tuple[str, Type]] = field(default_factory=dict)
    expanding: tuple[str, ...] = ()
    depth: int = 0  # comprehensions around what is being checked

    def term(self, expr: Expr) -> Term:
        match expr:
            case Literal(value, kind):
                # The literals of a uint are plain numbers in the syntax.
                return Constant(Uint(value) if kind == UINT else value, kind)  # type: ignore[arg-type]
            case Name() | Select():
                return self._path(expr)
            case Call():
                return self._call(expr)
            case Logic():
                return self._logic(expr)
            case Conditional():
                return self._conditional(expr)
            case Has():
                return self._has(expr)
            case Comprehension():
                return self._comprehension(expr)
            case ListOf(elements):
                return self._list([self.term(element) for element in elements])
            case MapOf():
                return self._map(expr)
            case Message(name):
                raise _error(expr, f"cannot make a {name}: messages are not supported")

    def _wrong(self, expr: Expr, message: str, *, hint: str = "", length: int = 0) -> Term:
        """A CheckError, or a term that fails with the same message."""
        if self.strict:
            raise CheckError(message, offset=expr.offset, length=length or expr.length, hint=hint)
        return Code(
            f"fail({message!r})".replace("{", "{{").replace("}", "}}"), (), DYN, frozenset(), True
        )

    # Names

    def _candidates(self, name: str, *, rooted: bool) -> list[str]:
        if rooted or not self.container:
            return [name]
        parts = self.container.split(".")
        return [".".join([*parts[:count], name]) for count in range(len(parts), -1, -1)]

    def _path(self, expr: Name | Select) -> Term:
        fields: list[Select] = []
        operand: Expr = expr
        while isinstance(operand, Select):
            fields.append(operand)
            operand = operand.operand
        fields.reverse()
        if not isinstance(operand, Name):
            found = self.term(operand)
        elif operand.name in self.locals and not operand.rooted:
            python, kind = self.locals[operand.name]
            found = Code(python, (), kind, frozenset(), False)
        else:
            whole = str(path(expr))
            # The longest prefix that names something wins; the rest selects fields of it.
            while (named := self._named(whole, expr, rooted=operand.rooted)) is None:
                if "." not in whole:
                    return self._undeclared(expr)
                whole = whole.rpartition(".")[0]
            found = named
            fields = fields[whole.count(".") :]
        for field_ in fields:
            found = self._selected(field_, found, field_.field)
        return found

    def _named(self, name: str, expr: Expr, *, rooted: bool) -> Term | None:
        declarations = self.declarations
        for candidate in self._candidates(name, rooted=rooted):
            if variable := declarations.variables.get(candidate):
                python = variable.operand.replace("{", "{{").replace("}", "}}")
                uses = frozenset((candidate,))
                return Code(python, (), variable.type, uses, variable.can_fail)
            if candidate in declarations.macros:
                return self._macro(candidate, expr)
            if candidate in DENOTED:
                return Constant(TYPES[candidate], TYPE)
        return None

    def _macro(self, name: str, expr: Expr) -> Term:
        if name in self.expanding:
            raise _error(expr, f"{name} is defined by itself")
        inner = _Checker(
            self.declarations, "", self.strict, self.calls, {}, (*self.expanding, name), self.depth
        )
        try:
            return inner.term(parse(self.declarations.macros[name]))
        except CelError as error:
            raise _error(expr, f"in the definition of {name}: {error}") from error

    def _undeclared(self, expr: Expr) -> Term:
        name = str(path(expr))
        if name in self.declarations.functions:
            return self._wrong(expr, f"{name} is a function: it is called with arguments")
        hint = nearest(name, (*self.declarations.names(), *self.locals)) if self.strict else ""
        return self._wrong(expr, f"undeclared name {name!r}", hint=hint)

    def _selected(self, expr: Expr, operand: Term, name: str) -> Term:
        kind = operand.type
        if kind.name == "map" and compatible(kind.parameters[0], STRING):
            return self._code(
                "lookup({0}, {1})",
                (operand, Constant(name, STRING)),
                kind.parameters[1],
                fails=True,
            )
        if kind != DYN and self.strict:
            return self._wrong(expr, f"a {kind} has no fields, {name!r} was selected")
        return self._code("select({0}, {1})", (operand, Constant(name, STRING)), DYN, fails=True)

    def _has(self, expr: Has) -> Term:
        spelt = path(expr.operand)
        if self.strict and f"{spelt}.{expr.field}" in self.declarations.variables:
            return self._wrong(expr, f"{spelt}.{expr.field} always has a value: has() is for maps")
        operand = self.term(expr.operand)
        kind = operand.type
        name = Constant(expr.field, STRING)
        if kind.name == "map":
            return self._code("({1} in {0})", (operand, name), BOOL)
        if kind != DYN and self.strict:
            return self._wrong(expr, f"has() asks for a field of a map, found {kind}")
        return self._code("has_field({0}, {1})", (operand, name), BOOL, fails=True)

    # Logic

    def _condition(self, expr: Expr, role: str) -> Term:
        term = self.term(expr)
        if term.type == BOOL:
            return term
        if term.type != DYN:
            message = f"{role} must be bool, found {term.type}"
            if self.strict:
                return self._wrong(expr, message)
        return self._code("truth({0})", (term,), BOOL, fails=True)

    def _logic(self, expr: Logic) -> Term:
        operands = tuple(
            self._condition(operand, f"an operand of {expr.operator}") for operand in expr.operands
        )
        failing = any(operand.can_fail for operand in operands)
        return Junction(expr.operator, operands, BOOL, uses_of(*operands), failing)

    def _conditional(self, expr: Conditional) -> Term:
        condition = self._condition(expr.condition, "the condition of ?:")
        chosen, otherwise = self.term(expr.chosen), self.term(expr.otherwise)
        if self.strict and not compatible(chosen.type, otherwise.type):
            return self._wrong(
                expr, f"the branches of ?: are of types {chosen.type} and {otherwise.type}"
            )
        parts = (condition, chosen, otherwise)
        return Choice(
            *parts,
            join(chosen.type, otherwise.type),
            uses_of(*parts),
            any(part.can_fail for part in parts),
        )

    # Lists, maps and macros

    def _list(self, elements: Sequence[Term]) -> Term:
        kind = list_of(_joined(elements))
        if all(isinstance(element, Constant) for element in elements):
            return Constant(tuple(element.value for element in elements), kind)  # type: ignore[union-attr]
        slots = ", ".join(f"{{{position}}}" for position in range(len(elements)))
        return self._code(f"({slots},)", tuple(elements), kind)

    def _map(self, expr: MapOf) -> Term:
        keys = [self.term(key) for key, _ in expr.entries]
        values = [self.term(value) for _, value in expr.entries]
        kind = map_of(_joined(keys), _joined(values))
        for key, (written, _) in zip(keys, expr.entries, strict=True):
            if self.strict and key.type.name not in ("string", "int", "uint", "bool", "dyn"):
                return self._wrong(written, f"a {key.type} cannot be the key of a map")
        pairs = tuple(term for pair in zip(keys, values, strict=True) for term in pair)
        slots = ", ".join(f"({{{2 * n}}}, {{{2 * n + 1}}})" for n in range(len(keys)))
        fails = True
        if all(isinstance(key, Constant) for key in keys):
            try:
                entries_of(*((key.value, None) for key in keys))  # type: ignore[union-attr]
                fails = False
            except EvaluationError as error:
                return self._wrong(expr, str(error))
        return self._code(f"entries_of({slots})", pairs, kind, fails=fails)

    def _comprehension(self, expr: Comprehension) -> Term:
        over = self.term(expr.over)
        kind = over.type
        if kind.name == "list":
            element = kind.parameters[0]
        elif kind.name == "map":
            element = kind.parameters[0]
            over = self._code("keys({0})", (over,), list_of(element))
        elif kind == DYN or not self.strict:
            element = DYN
            over = self._code("elements({0})", (over,), list_of(DYN), fails=True)
        else:
            return self._wrong(
                expr.over, f"{expr.macro}() walks over a list or a map, found {kind}"
            )
        self.depth += 1
        local = f"_{self.depth}"
        outer = self.locals
        self.locals = {**outer, expr.variable: (local, element)}
        try:
            guard = (
                self._condition(expr.guard, "the second argument of map()") if expr.guard else None
            )
            if expr.macro == "map":
                body = self.term(expr.body)
            else:
                body = self._condition(expr.body, f"the second argument of {expr.macro}()")
        finally:
            self.locals = outer
            self.depth -= 1
        match expr.macro:
            case "all" | "exists":
                fails = over.can_fail or body.can_fail
                return Quantifier(expr.macro, over, local, body, BOOL, uses_of(over, body), fails)
            case "exists_one":
                template = f"(sum(1 for {local} in {{0}} if {{1}}) == 1)"
                return self._code(template, (over, body), BOOL)
            case "filter":
                template = f"[{local} for {local} in {{0}} if {{1}}]"
                return self._code(template, (over, body), over.type)
            case _:
                parts = (over, body) if guard is None else (over, body, guard)
                condition = " if {2}" if guard else ""
                template = f"[{{1}} for {local} in {{0}}{condition}]"
                return self._code(template, parts, list_of(body.type))

    # Calls

    def _call(self, expr: Call) -> Term:
        name = expr.function
        if expr.target is not None:
            spelt = path(expr.target)
            if spelt is not None and spelt.partition(".")[0] not in self.locals:
                declared = self._declared(f"{spelt}.{name}", expr)
                if declared is not None:
                    return declared
            arguments = (expr.target, *expr.arguments)
            overloaded = f".{name}"
        else:
            declared = self._declared(name, expr)
            if declared is not None:
                return declared
            arguments = expr.arguments
            overloaded = name
        # The name comes first: a misspelt method of a dotted name is not a misspelt name.
        special = _SPECIAL.get(overloaded)
        if (overloaded, len(arguments)) not in CANDIDATES and special is None:
            return self._unknown_function(expr, overloaded, len(arguments))
        terms = tuple(self.term(argument) for argument in arguments)
        if special is not None:
            return getattr(self, special)(expr, terms)  # type: ignore[no-any-return]
        return self._standard(expr, overloaded, terms)

    def _declared(self, name: str, expr: Call) -> Term | None:
        rooted = expr.rooted
        for candidate in self._candidates(name, rooted=rooted):
            if function := self.declarations.functions.get(candidate):
                return self._apply(candidate, function, expr)
        return None

    def _apply(self, name: str, function: Function, expr: Call) -> Term:
        wanted = function.parameters
        if len(expr.arguments) != len(wanted):
            return self._wrong(
                expr, f"{name}() takes {len(wanted)} arguments, found {len(expr.arguments)}"
            )
        terms = tuple(self.term(argument) for argument in expr.arguments)
        for term, kind, argument in zip(terms, wanted, expr.arguments, strict=True):
            if term.type != kind and (term.type == DYN or not compatible(term.type, kind)):
                return self._wrong(argument, f"{name}() takes a {kind} here, found {term.type}")
        self.calls.append((name, expr.arguments))
        python = function.python
        return Code(
            f"({python})" if " " in python else python,
            terms,
            function.type,
            uses_of(*terms) | {name},
            function.can_fail or any(term.can_fail for term in terms),
        )

    def _unknown_function(self, expr: Call, overloaded: str, arity: int) -> Term:
        name = expr.function
        if name in FUNCTIONS:
            counts = sorted(count for key, count in CANDIDATES if key == overloaded)
            if counts:
                wanted = " or ".join(str(count - (overloaded[0] == ".")) for count in counts)
                found = arity - (overloaded[0] == ".")
                return self._wrong(expr, f"{name}() takes {wanted} arguments, found {found}")
            style = f"called as {name}(x)" if overloaded[0] == "." else f"called as x.{name}()"
            return self._wrong(expr, f"{name}() is {style}")
        spelt = path(expr.target) if expr.target is not None else None
        whole = f"{spelt}.{name}" if spelt else name
        hint = nearest(whole, (*self.declarations.functions, *FUNCTIONS)) if self.strict else ""
        if not hint and self.strict:
            hint = nearest(name, FUNCTIONS)
        return self._wrong(expr, f"undeclared function {whole!r}", hint=hint)

    def _standard(self, expr: Expr, name: str, terms: tuple[Term, ...]) -> Term:
        kinds = tuple(term.type.name for term in terms)
        overload = OVERLOADS.get((name, *kinds))
        if overload is not None:
            result = overload.result
            if result is None:
                result = join(terms[0].type, terms[1].type)
            fails = overload.fails
            valid = _LITERALS.get(name, zone_of if name.startswith(".get") else None)
            if valid and len(terms) == 2 and isinstance(terms[1], Constant):
                try:
                    valid(str(terms[1].value))
                    fails = False
                except EvaluationError as error:
                    return self._wrong(expr, str(error))
            if all(isinstance(term, Constant) for term in terms):
                try:
                    value = overload.function(*(term.value for term in terms))  # type: ignore[union-attr]
                    return Constant(value, result)
                except EvaluationError:
                    pass  # it fails when evaluated, if it is evaluated
            return self._code(overload.template, terms, result, fails=fails)
        candidates = [
            candidate
            for parameters, candidate in CANDIDATES[name, len(terms)]
            if all(
                kind in (parameter, "dyn")
                for kind, parameter in zip(kinds, parameters, strict=True)
            )
        ]
        if not candidates and self.strict:
            shown = ", ".join(str(term.type) for term in terms)
            return self._wrong(expr, f"no overload of {name.strip('._')} for ({shown})")
        results = {candidate.result for candidate in candidates}
        result = results.pop() if len(results) == 1 else None
        slots = ", ".join(f"{{{position}}}" for position in range(len(terms)))
        return self._code(f"invoke({name!r}, {slots})", terms, result or DYN, fails=True)

    def _code(
        self, template: str, operands: tuple[Term, ...], kind: Type, *, fails: bool = False
    ) -> Code:
        failing = fails or any(operand.can_fail for operand in operands)
        return Code(template, operands, kind, uses_of(*operands), failing)

    def _equality(self, expr: Call, terms: tuple[Term, ...]) -> Term:
        left, right = terms
        sign = expr.function
        if self.strict and not compatible(left.type, right.type):
            return self._wrong(expr, f"no overload of {sign} for ({left.type}, {right.type})")
        if isinstance(left, Constant) and isinstance(right, Constant):
            return Constant(equal(left.value, right.value) == (sign == "=="), BOOL)
        if left.type == right.type and not left.type.parameters and left.type != DYN:
            return self._code(f"({{0}} {sign} {{1}})", terms, BOOL)
        return self._code(f"{'equal' if sign == '==' else 'unequal'}({{0}}, {{1}})", terms, BOOL)

    def _in(self, expr: Call, terms: tuple[Term, ...]) -> Term:
        value, container = terms
        kind = container.type
        if kind.name not in ("list", "map"):
            if kind != DYN and self.strict:
                return self._wrong(expr, f"in asks for a list or a map, found {kind}")
            return self._code("member({0}, {1})", terms, BOOL, fails=True)
        element = kind.parameters[0]
        if self.strict and not compatible(value.type, element):
            return self._wrong(expr, f"no overload of in for ({value.type}, {kind})")
        constant = isinstance(value, Constant) and isinstance(container, Constant)
        if kind.name == "map":
            if value.type == element and element in (STRING, INT, UINT):
                return self._code("({0} in {1})", terms, BOOL)
            return self._code("has_key({0}, {1})", terms, BOOL)
        if constant:
            return Constant(contained(value.value, container.value), BOOL)  # type: ignore[arg-type,union-attr]
        if value.type == element and not element.parameters and identity_safe(element):
            if isinstance(container, Constant) and element in (STRING, INT):
                # Python makes one frozen set of a set of literals: a single look, however many.
                values = literal(container.value)[1:-1].replace("{", "{{").replace("}", "}}")
                return self._code(
                    f"({{0}} in {{{{{values}}}}})" if values else "False", (value,), BOOL
                )
            return self._code("({0} in {1})", terms, BOOL)
        return self._code("contained({0}, {1})", terms, BOOL)

    def _index(self, expr: Call, terms: tuple[Term, ...]) -> Term:
        operand, key = terms
        kind = operand.type
        if kind.name == "list" and key.type == INT:
            return self._code("at({0}, {1})", terms, kind.parameters[0], fails=True)
        if kind.name == "map" and compatible(key.type, kind.parameters[0]):
            return self._code("lookup({0}, {1})", terms, kind.parameters[1], fails=True)
        if self.strict and kind != DYN and not (kind.name == "list" and key.type == DYN):
            return self._wrong(expr, f"no overload of [] for ({kind}, {key.type})")
        result = kind.parameters[0] if kind.name == "list" else DYN
        return self._code("index({0}, {1})", terms, result, fails=True)

    def _not(self, expr: Call, terms: tuple[Term, ...]) -> Term:
        (operand,) = terms
        if operand.type != BOOL:
            if operand.type != DYN and self.strict:
                return self._wrong(expr, f"no overload of ! for ({operand.type})")
            operand = self._code("truth({0})", (operand,), BOOL, fails=True)
        return Not(operand, BOOL, operand.uses, operand.can_fail)

    def _dyn(self, expr: Call, terms: tuple[Term, ...]) -> Term:
        if len(terms) != 1:
            return self._wrong(expr, "dyn() takes 1 argument")
        return self._code("{0}", terms, DYN)

    def _type(self, expr: Call, terms: tuple[Term, ...]) -> Term:
        if len(terms) != 1:
            return self._wrong(expr, "type() takes 1 argument")
        if isinstance(terms[0], Constant):
            return Constant(type_of(terms[0].value), TYPE)
        return self._code("type_of({0})", terms, TYPE)


_LITERALS: Final = {"matches": pattern, ".matches": pattern}
"""What makes sure that a literal second argument is one that cannot fail."""
_SPECIAL: Final = {
    "==": "_equality",
    "!=": "_equality",
    "in": "_in",
    "[]": "_index",
    "!_": "_not",
    "dyn": "_dyn",
    "type": "_type",
}
"""What is generic in its arguments, or has no overloads at all."""


def _joined(terms: Sequence[Term]) -> Type:
    if not terms:
        return DYN
    kind = terms[0].type
    for term in terms[1:]:
        kind = join(kind, term.type)
    return kind


def _error(expr: Expr, message: str) -> CheckError:
    return CheckError(message, offset=expr.offset, length=expr.length)
