"""What expressions may name: the facts of a call, functions on them, and a pack's own names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from rules.cel.types import Type


@dataclass(frozen=True, slots=True)
class Variable:
    """A fact: `python` is an expression over `c` (the call) and `f` (the facts).

    `unit` is "" for numbers without one; `source` says where the fact comes from; `can_fail`
    says that it may have no value, for which `python` raises EvaluationError.
    """

    type: Type
    python: str
    meaning: str
    unit: str = ""
    source: str = "call"
    can_fail: bool = False

    @property
    def operand(self) -> str:
        """`python` as it stands within a larger expression."""
        simple = self.python.replace(".", "").replace("_", "").isalnum()
        return self.python if simple else f"({self.python})"


@dataclass(frozen=True, slots=True)
class Function:
    """A function on facts: `python` has {0}, {1}, … once each for the compiled arguments.

    `can_fail` says that it may raise EvaluationError.
    """

    parameters: tuple[Type, ...]
    type: Type
    python: str
    meaning: str
    source: str = "call"
    can_fail: bool = False


@dataclass(frozen=True, slots=True)
class Declarations:
    """Dotted names to what they mean; a macro is an expression put in the place of its name."""

    variables: Mapping[str, Variable] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    macros: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> Iterable[str]:
        """Every name that may stand where a value is expected."""
        yield from self.variables
        yield from self.macros


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid name most like a misspelt one, or ""."""
    found = get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return found[0] if found else ""
