"""The static types of expressions; `dyn` stands for a type known only when evaluated."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Type:
    """A type by its CEL name; lists have one parameter, maps two (key and value)."""

    name: str
    parameters: "tuple[Type, ...]" = ()

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(map(str, self.parameters))})"


BOOL: Final = Type("bool")
INT: Final = Type("int")
UINT: Final = Type("uint")
DOUBLE: Final = Type("double")
STRING: Final = Type("string")
BYTES: Final = Type("bytes")
NULL: Final = Type("null_type")
TYPE: Final = Type("type")
TIMESTAMP: Final = Type("google.protobuf.Timestamp")
DURATION: Final = Type("google.protobuf.Duration")
DYN: Final = Type("dyn")

DENOTED: Final = (
    *("bool", "int", "uint", "double", "string", "bytes", "null_type", "type", "list", "map"),
    *(TIMESTAMP.name, DURATION.name),
)
"""The types that have a name in expressions, as in `type(x) == int`; `dyn` has none."""


def list_of(element: Type) -> Type:
    """The type of lists of `element`."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """The type of maps from `key` to `value`."""
    return Type("map", (key, value))


def compatible(left: Type, right: Type) -> bool:
    """Whether a value may be of both types: what `==` and function arguments ask."""
    if left == right or DYN in (left, right):
        return True
    if left.name == right.name:
        return all(map(compatible, left.parameters, right.parameters))
    # Null stands in for the types that are messages in protobuf.
    return NULL in (left, right) and bool({TIMESTAMP, DURATION} & {left, right})


def join(left: Type, right: Type) -> Type:
    """The narrowest type that covers both."""
    if left == right:
        return left
    if left.name == right.name and left.parameters:
        return Type(left.name, tuple(map(join, left.parameters, right.parameters)))
    return DYN


def identity_safe(kind: Type) -> bool:
    """Whether Python's containers compare such elements as CEL does.

    They take one object to be equal to itself, which a NaN is not.
    """
    if kind.name in ("list", "map"):
        return all(map(identity_safe, kind.parameters))
    return kind not in (DYN, DOUBLE)
