"""CEL, the Common Expression Language, compiled to plain Python.

Whole as its specification defines it for bool, int, uint, double, string, bytes, list, map,
null, timestamp, duration and type values; without protobuf messages, optionals and extensions.

Where implementations differ: `x in map` is false, not an error, for an x that cannot be a key;
two \\u escapes may spell a character outside the basic plane; a raw string may end in a
backslash; leap seconds, lower-case RFC 3339 and hexadecimal doubles are refused; a literal RE2
pattern or time zone that is none is an error of the check.
"""

from rules.cel.checker import Checked, check
from rules.cel.compiler import Condition, Emitted, compile_condition, emit, text_of
from rules.cel.declarations import Declarations, Function, Variable
from rules.cel.errors import CelError, CheckError, EvaluationError, ParseError
from rules.cel.parser import parse
from rules.cel.runtime import Duration, Timestamp, Uint
from rules.cel.standard import RUNTIME
from rules.cel.syntax import Expr, path
from rules.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    Type,
    list_of,
    map_of,
)

__all__ = [
    "BOOL",
    "BYTES",
    "DOUBLE",
    "DURATION",
    "DYN",
    "INT",
    "NULL",
    "RUNTIME",
    "STRING",
    "TIMESTAMP",
    "TYPE",
    "UINT",
    "CelError",
    "CheckError",
    "Checked",
    "Condition",
    "Declarations",
    "Duration",
    "Emitted",
    "EvaluationError",
    "Expr",
    "Function",
    "ParseError",
    "Timestamp",
    "Type",
    "Uint",
    "Variable",
    "check",
    "compile_condition",
    "emit",
    "list_of",
    "map_of",
    "parse",
    "path",
    "text_of",
]
