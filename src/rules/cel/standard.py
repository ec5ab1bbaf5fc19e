"""The overloads of the standard operators and functions, for the checker and at run time.

Each is known by its name and the kinds of its arguments, as in `("+", "int", "int")`; a method
has a dot before its name and its target as first argument. A template is Python with {0}, {1}
once each. What is generic in the type of elements has no result here: the checker works it out.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from rules.cel import runtime
from rules.cel.errors import EvaluationError
from rules.cel.runtime import BOOL_KEYS, MIXED_ORDER, ORDER, TYPES, fail, kind_of
from rules.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    Type,
    list_of,
    map_of,
)

_LIST: Final = list_of(Type("dyn"))
_MAP: Final = map_of(Type("dyn"), Type("dyn"))


class Overload(NamedTuple):
    """One implementation; `result` is None where it depends on the types of elements."""

    result: Type | None
    template: str
    fails: bool
    function: Callable[..., Any]


OVERLOADS: Final[dict[tuple[str, ...], Overload]] = {}


def _add(name: str, parameters: tuple[Type, ...], result: Type | None, **how: Any) -> None:
    """`call` names a function of the runtime; `inline` is Python that does the same as `as_`."""
    call: str = how.get("call", "")
    slots = ", ".join(f"{{{position}}}" for position in range(len(parameters)))
    OVERLOADS[name, *(parameter.name for parameter in parameters)] = Overload(
        result,
        f"{call}({slots})" if call else how["inline"],
        how.get("fails", False),
        getattr(runtime, call) if call else how["as_"],
    )


for _name, _word in (("+", "add"), ("-", "subtract"), ("*", "multiply"), ("/", "divide")):
    _add(_name, (INT, INT), INT, call=f"{_word}_int", fails=True)
    _add(_name, (UINT, UINT), UINT, call=f"{_word}_uint", fails=True)
_add("%", (INT, INT), INT, call="remainder_int", fails=True)
_add("%", (UINT, UINT), UINT, call="remainder_uint", fails=True)
_add("-_", (INT,), INT, call="negate_int", fails=True)
_add("-_", (DOUBLE,), DOUBLE, inline="(-{0})", as_=lambda value: -value)
_add("+", (DOUBLE, DOUBLE), DOUBLE, inline="({0} + {1})", as_=lambda left, right: left + right)
_add("-", (DOUBLE, DOUBLE), DOUBLE, inline="({0} - {1})", as_=lambda left, right: left - right)
_add("*", (DOUBLE, DOUBLE), DOUBLE, inline="({0} * {1})", as_=lambda left, right: left * right)
_add("/", (DOUBLE, DOUBLE), DOUBLE, call="divide_double")
_add("+", (STRING, STRING), STRING, inline="({0} + {1})", as_=lambda left, right: left + right)
_add("+", (BYTES, BYTES), BYTES, inline="({0} + {1})", as_=lambda left, right: left + right)
_add("+", (_LIST, _LIST), None, inline="[*{0}, *{1}]", as_=lambda left, right: [*left, *right])
_add("+", (TIMESTAMP, DURATION), TIMESTAMP, call="add_timestamp", fails=True)
_add("+", (DURATION, TIMESTAMP), TIMESTAMP, call="add_timestamp", fails=True)
_add("+", (DURATION, DURATION), DURATION, call="add_duration", fails=True)
_add("-", (TIMESTAMP, DURATION), TIMESTAMP, call="subtract_timestamp", fails=True)
_add("-", (TIMESTAMP, TIMESTAMP), DURATION, call="subtract_duration", fails=True)
_add("-", (DURATION, DURATION), DURATION, call="subtract_duration", fails=True)

for _name, _compare in ORDER.items():
    for _type in (BOOL, INT, UINT, DOUBLE, STRING, BYTES, TIMESTAMP, DURATION):
        _add(_name, (_type, _type), BOOL, inline=f"({{0}} {_name} {{1}})", as_=_compare)

for _prefix in ("", "."):
    for _type in (STRING, BYTES, _LIST, _MAP):
        _add(f"{_prefix}size", (_type,), INT, inline="len({0})", as_=len)
    _add(f"{_prefix}matches", (STRING, STRING), BOOL, call="matches", fails=True)
_add(".contains", (STRING, STRING), BOOL, inline="({1} in {0})", as_=str.__contains__)
_add(".startsWith", (STRING, STRING), BOOL, inline="{0}.startswith({1})", as_=str.startswith)
_add(".endsWith", (STRING, STRING), BOOL, inline="{0}.endswith({1})", as_=str.endswith)

for _type in (BOOL, INT, UINT, DOUBLE, STRING, BYTES):
    _add(_type.name, (_type,), _type, inline="{0}", as_=lambda value: value)
_add("timestamp", (TIMESTAMP,), TIMESTAMP, inline="{0}", as_=lambda value: value)
_add("duration", (DURATION,), DURATION, inline="{0}", as_=lambda value: value)
_add("bool", (STRING,), BOOL, call="bool_of_string", fails=True)
_add("int", (UINT,), INT, call="int_of_uint", fails=True)
_add("int", (DOUBLE,), INT, call="int_of_double", fails=True)
_add("int", (STRING,), INT, call="int_of_string", fails=True)
_add("int", (TIMESTAMP,), INT, call="int_of_timestamp")
_add("uint", (INT,), UINT, call="uint_of_int", fails=True)
_add("uint", (DOUBLE,), UINT, call="uint_of_double", fails=True)
_add("uint", (STRING,), UINT, call="uint_of_string", fails=True)
_add("double", (INT,), DOUBLE, inline="float({0})", as_=float)
_add("double", (UINT,), DOUBLE, inline="float({0})", as_=float)
_add("double", (STRING,), DOUBLE, call="double_of_string", fails=True)
_add(
    "string",
    (BOOL,),
    STRING,
    inline="('true' if {0} else 'false')",
    as_=lambda value: str(value).lower(),
)
_add("string", (INT,), STRING, inline="str({0})", as_=str)
_add("string", (UINT,), STRING, inline="str({0})", as_=str)
_add("string", (DOUBLE,), STRING, call="format_double")
_add("string", (BYTES,), STRING, call="string_of_bytes", fails=True)
_add("string", (TIMESTAMP,), STRING, call="string_of_timestamp")
_add("string", (DURATION,), STRING, call="string_of_duration")
_add("bytes", (STRING,), BYTES, call="bytes_of_string", fails=True)
_add("timestamp", (STRING,), TIMESTAMP, call="timestamp_of_string", fails=True)
_add("timestamp", (INT,), TIMESTAMP, call="timestamp_of_int", fails=True)
_add("duration", (STRING,), DURATION, call="duration_of_string", fails=True)

for _name, _word in (
    *(("getFullYear", "year"), ("getMonth", "month"), ("getDate", "date")),
    *(("getDayOfMonth", "day_of_month"), ("getDayOfWeek", "day_of_week")),
    *(("getDayOfYear", "day_of_year"), ("getHours", "hours"), ("getMinutes", "minutes")),
    *(("getSeconds", "seconds"), ("getMilliseconds", "milliseconds")),
):
    _add(f".{_name}", (TIMESTAMP,), INT, call=_word)
    _add(f".{_name}", (TIMESTAMP, STRING), INT, call=_word, fails=True)
for _word in ("Hours", "Minutes", "Seconds", "Milliseconds"):
    _add(f".get{_word}", (DURATION,), INT, call=f"duration_{_word.lower()}")

CANDIDATES: Final[Mapping[tuple[str, int], list[tuple[tuple[str, ...], Overload]]]] = defaultdict(
    list
)
"""The overloads of a name with a number of arguments: their kinds and themselves."""
for _key, _overload in OVERLOADS.items():
    CANDIDATES[_key[0], len(_key) - 1].append((_key[1:], _overload))

FUNCTIONS: Final = frozenset(
    name.lstrip(".") for name, _ in CANDIDATES if name.strip(".").isalpha()
)
"""The names of the standard functions and methods."""


def invoke(name: str, *arguments: Any) -> Any:
    """A standard operator or function, the overload chosen by the values."""
    key = (name, *map(kind_of, arguments))
    overload = OVERLOADS.get(key)
    if overload is not None:
        return overload.function(*arguments)
    mixed = MIXED_ORDER.get(key)
    if mixed is not None:
        return mixed(*arguments)
    raise EvaluationError(f"no overload of {name.strip('._')} for ({', '.join(key[1:])})")


RUNTIME: Final[Mapping[str, object]] = {
    **{
        name: value
        for name, value in vars(runtime).items()
        if getattr(value, "__module__", "") == runtime.__name__
    },
    "fail": fail,
    "invoke": invoke,
    "BOOL_KEYS": BOOL_KEYS,
    "TYPES": TYPES,
    "EvaluationError": EvaluationError,
    "inf": float("inf"),
    "nan": float("nan"),
}
"""The globals of compiled expressions."""
