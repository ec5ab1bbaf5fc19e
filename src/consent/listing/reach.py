"""How far a pattern looks: which leading digits settle whether it matches, whatever follows.

The patterns are libphonenumber's, which consist of digits, sets, branches and repeats. They are
followed digit by digit as derivatives: what may still come after those read.
"""

import importlib
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

DIGITS: Final = "0123456789"

# A term is a sequence of ("set", digits), ("or", terms), ("many", least, most, term), ("end",).
Term = tuple[Any, ...]
State = frozenset[Term]
"""What may still come: any of the terms; () is a match that is complete."""


@cache
def pattern_state(pattern: str) -> State:
    """The state before the first digit. Raises ValueError for a construct that is not known."""
    return frozenset({_term(importlib.import_module("re._parser").parse(pattern))})


def after(state: State, digits: str) -> State:
    """The state when the digits have been read."""
    for digit in digits:
        state = _step(state, digit)
    return state


def is_over(state: State) -> bool:
    """Whether no match can grow any more: for patterns that match a beginning."""
    return all(not term or term[0] == ("end",) for term in state)


@cache
def is_uniform(state: State, length: int) -> bool:
    """Whether either all or none of the strings of `length` further digits match wholly."""
    if not length or not state:
        return True
    following = {_step(state, digit) for digit in DIGITS}
    return len(following) == 1 and is_uniform(following.pop(), length - 1)


def _term(parsed: Iterable[Any]) -> Term:
    nodes: list[Any] = []
    for op, argument in parsed:
        match str(op):
            case "LITERAL":
                nodes.append(("set", chr(argument)))
            case "IN":
                nodes.append(("set", "".join(map(_members, argument))))
            case "BRANCH":
                nodes.append(("or", tuple(map(_term, argument[1]))))
            case "SUBPATTERN":
                nodes.extend(_term(argument[-1]))
            case "MAX_REPEAT":
                least, most, repeated = argument
                nodes.append(("many", int(least), int(most), _term(repeated)))
            case "AT":
                nodes.append(("end",))
            case _:
                raise ValueError(f"pattern has {op}, expected digits, sets, branches, repeats")
    return tuple(nodes)


def _members(member: tuple[Any, Any]) -> str:
    op, argument = member
    match str(op):
        case "LITERAL":
            return chr(argument)
        case "RANGE":
            return "".join(map(chr, range(argument[0], argument[1] + 1)))
        case "CATEGORY":
            return DIGITS
    raise ValueError(f"pattern has {op} in a set, expected digits and ranges")


@cache
def _step(state: State, digit: str) -> State:
    return frozenset().union(*(_after(term, digit) for term in state))


@cache
def _after(term: Term, digit: str) -> State:
    if not term:
        return frozenset()
    head, rest = term[0], term[1:]
    match head:
        case ("set", digits):
            return frozenset({rest}) if digit in digits else frozenset()
        case ("or", terms):
            return frozenset().union(*(_after(branch + rest, digit) for branch in terms))
        case ("many", least, most, repeated):
            left = (("many", max(least - 1, 0), most - 1, repeated),) if most > 1 else ()
            taken = _after(repeated + left + rest, digit)
            return taken if least else taken | _after(rest, digit)
    return frozenset()  # ("end",): no digit follows it
