"""Values while an expression is evaluated, and the functions that compiled expressions call.

bool, int, double, string, bytes, list, map and null are Python's bool, int, float, str, bytes,
list, dict and None. Invariants: a uint is a `Uint`, never a plain int; a bool key of a map is
stored as `BOOL_KEYS[key]`, because Python takes True and 1 for the same key; whatever cannot be
computed raises EvaluationError and nothing else.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

import re2

from rules.cel.errors import EvaluationError
from rules.cel.types import DENOTED, DURATION, TIMESTAMP

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1
UINT_MAX: Final = (1 << 64) - 1
NANOS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP_MIN: Final = -62_135_596_800 * NANOS  # 0001-01-01T00:00:00Z
_TIMESTAMP_MAX: Final = 253_402_300_800 * NANOS - 1  # 9999-12-31T23:59:59.999999999Z


class Uint(int):
    """An unsigned 64-bit integer."""

    __slots__ = ()


class Timestamp(int):
    """An instant: nanoseconds since 1970 UTC, in the years 1 to 9999."""

    __slots__ = ()

    @classmethod
    def of_seconds(cls, seconds: float) -> "Timestamp":
        """The instant of epoch seconds, to the microsecond as far as a float is that exact."""
        return cls(round(seconds * 1_000_000) * 1000)


class Duration(int):
    """A span of time: nanoseconds, 64 bits."""

    __slots__ = ()


class TypeValue(str):
    """A type as a value: its name."""

    __slots__ = ()


class BoolKey:
    """A bool as the key of a map."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value

    def __repr__(self) -> str:
        return str(self.value)


BOOL_KEYS: Final = {False: BoolKey(False), True: BoolKey(True)}

_KINDS: Final[dict[type, str]] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "map",
    type(None): "null_type",
    TypeValue: "type",
    Timestamp: TIMESTAMP.name,
    Duration: DURATION.name,
}
_NUMBERS: Final = frozenset({"int", "uint", "double"})


def kind_of(value: object) -> str:
    """The CEL type of a value. Subclasses, such as a StrEnum, are what they derive from."""
    kind = _KINDS.get(type(value))
    if kind is None:
        for base in type(value).__mro__:
            if base in _KINDS:
                kind = _KINDS[type(value)] = _KINDS[base]
                break
        else:
            raise EvaluationError(f"a Python {type(value).__name__} is no value of an expression")
    return kind


def fail(message: str) -> NoReturn:
    """Raise EvaluationError: where an unchecked expression names what does not exist."""
    raise EvaluationError(message)


# Logic


def truth(value: object) -> bool:
    """The value itself when it is a bool."""
    if value is True or value is False:
        return value
    raise EvaluationError(f"expected bool, found {kind_of(value)}")


def every(*conditions: Callable[[], bool]) -> bool:
    """`&&` of conditions that can fail: one false makes it false, whatever failed before."""
    failure: EvaluationError | None = None
    for condition in conditions:
        try:
            if not condition():
                return False
        except EvaluationError as error:
            failure = error
    if failure is not None:
        raise failure
    return True


def some(*conditions: Callable[[], bool]) -> bool:
    """`||` of conditions that can fail: one true makes it true, whatever failed before."""
    failure: EvaluationError | None = None
    for condition in conditions:
        try:
            if condition():
                return True
        except EvaluationError as error:
            failure = error
    if failure is not None:
        raise failure
    return False


def every_of(values: Iterable[Any], predicate: Callable[[Any], bool]) -> bool:
    """`all` with a predicate that can fail."""
    return every(*(lambda value=value: predicate(value) for value in values))


def some_of(values: Iterable[Any], predicate: Callable[[Any], bool]) -> bool:
    """`exists` with a predicate that can fail."""
    return some(*(lambda value=value: predicate(value) for value in values))


def elements(value: object) -> Iterable[Any]:
    """What a macro walks over: the elements of a list, the keys of a map."""
    kind = kind_of(value)
    if kind == "list":
        return value  # type: ignore[return-value]
    if kind == "map":
        return keys(value)  # type: ignore[arg-type]
    raise EvaluationError(f"expected a list or a map to walk over, found {kind}")


def keys(entries: dict[Any, Any]) -> list[Any]:
    """The keys of a map as values."""
    return [key.value if type(key) is BoolKey else key for key in entries]


# Equality and order


def equal(left: Any, right: Any) -> bool:
    """`==` across types: numbers by value, false for values of different types."""
    kind, other = kind_of(left), kind_of(right)
    if kind != other:
        if kind in _NUMBERS and other in _NUMBERS:
            if "double" in (kind, other):
                return float(left) == float(right)
            return int(left) == int(right)
        return False
    if kind == "list":
        return len(left) == len(right) and all(map(equal, left, right))
    if kind == "map":
        return len(left) == len(right) and all(
            key in right and equal(value, right[key]) for key, value in left.items()
        )
    return bool(left == right)


def unequal(left: object, right: object) -> bool:
    """`!=` across types."""
    return not equal(left, right)


def contained(value: object, values: Iterable[object]) -> bool:
    """`in` a list, by `equal`."""
    return any(equal(value, element) for element in values)


def _key(value: Any) -> Any:
    kind = kind_of(value)
    if kind in ("string", "int", "uint"):
        return value
    if kind == "bool":
        return BOOL_KEYS[value]
    if kind == "double" and value.is_integer():
        return int(value)
    return None  # no map has a null key


def has_key(value: object, entries: dict[Any, Any]) -> bool:
    """`in` a map."""
    return _key(value) in entries


def member(value: object, container: Any) -> bool:
    """`in` a list or a map."""
    kind = kind_of(container)
    if kind == "list":
        return contained(value, container)
    if kind == "map":
        return has_key(value, container)
    raise _no_overload("in", value, container)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: compare(float(left), float(right))


# Lists and maps


def at(values: Sequence[Any], index: int) -> Any:
    """An element of a list."""
    if 0 <= index < len(values):
        return values[index]
    raise EvaluationError(f"index {index} is out of the range of a list of {len(values)}")


def lookup(entries: dict[Any, Any], key: object) -> Any:
    """The value of a key."""
    try:
        return entries[_key(key)]
    except KeyError:
        raise EvaluationError(f"no such key: {key!r}") from None


def select(operand: Any, field: str) -> Any:
    """A field of what is a map, or fails."""
    if kind_of(operand) != "map":
        raise EvaluationError(f"a {kind_of(operand)} has no fields, {field!r} was selected")
    return lookup(operand, field)


def has_field(operand: Any, field: str) -> bool:
    """Whether what is a map, or fails, has a field."""
    if kind_of(operand) != "map":
        raise EvaluationError(f"a {kind_of(operand)} has no fields, {field!r} was asked for")
    return field in operand


def index(operand: Any, key: Any) -> Any:
    """`operand[key]` for a list or a map."""
    kind = kind_of(operand)
    if kind == "map":
        return lookup(operand, key)
    if kind == "list":
        position = kind_of(key)
        if position in ("int", "uint") or (position == "double" and key.is_integer()):
            return at(operand, int(key))
    raise _no_overload("[]", operand, key)


def entries_of(*pairs: tuple[object, object]) -> dict[Any, Any]:
    """A map of key and value pairs."""
    found: dict[Any, Any] = {}
    for name, value in pairs:
        kind = kind_of(name)
        if kind not in ("string", "int", "uint", "bool"):
            raise EvaluationError(f"a {kind} cannot be the key of a map")
        key = _key(name)
        if key in found:
            raise EvaluationError(f"the key {name!r} is there twice")
        found[key] = value
    return found


# Arithmetic


def _int(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise EvaluationError("the result is out of the range of int")


def _uint(value: int) -> Uint:
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise EvaluationError("the result is out of the range of uint")


def _timestamp(nanos: int) -> Timestamp:
    if _TIMESTAMP_MIN <= nanos <= _TIMESTAMP_MAX:
        return Timestamp(nanos)
    raise EvaluationError("the result is out of the range of timestamps, the years 1 to 9999")


def _duration(nanos: int) -> Duration:
    if INT_MIN <= nanos <= INT_MAX:
        return Duration(nanos)
    raise EvaluationError("the result is out of the range of durations")


def add_int(left: int, right: int) -> int:
    """The sum, in range."""
    return _int(left + right)


def subtract_int(left: int, right: int) -> int:
    """The difference, in range."""
    return _int(left - right)


def multiply_int(left: int, right: int) -> int:
    """The product, in range."""
    return _int(left * right)


def negate_int(value: int) -> int:
    """The negative, in range."""
    return _int(-value)


def divide_int(left: int, right: int) -> int:
    """The quotient towards zero."""
    if right == 0:
        raise EvaluationError("division by zero")
    quotient = abs(left) // abs(right)
    return _int(quotient if (left < 0) == (right < 0) else -quotient)


def remainder_int(left: int, right: int) -> int:
    """The remainder, with the sign of the dividend, of a division whose quotient is in range."""
    if right == 0:
        raise EvaluationError("modulus by zero")
    if right == -1:
        _int(-left)
    remainder = abs(left) % abs(right)
    return -remainder if left < 0 else remainder


def add_uint(left: int, right: int) -> Uint:
    """The sum, in range."""
    return _uint(int(left) + int(right))


def subtract_uint(left: int, right: int) -> Uint:
    """The difference, in range."""
    return _uint(int(left) - int(right))


def multiply_uint(left: int, right: int) -> Uint:
    """The product, in range."""
    return _uint(int(left) * int(right))


def divide_uint(left: int, right: int) -> Uint:
    """The quotient."""
    if right == 0:
        raise EvaluationError("division by zero")
    return Uint(int(left) // int(right))


def remainder_uint(left: int, right: int) -> Uint:
    """The remainder."""
    if right == 0:
        raise EvaluationError("modulus by zero")
    return Uint(int(left) % int(right))


def divide_double(left: float, right: float) -> float:
    """The quotient of IEEE 754, where nothing fails."""
    if right:
        return left / right
    if not left or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def add_timestamp(left: int, right: int) -> Timestamp:
    """An instant and a duration, in either order."""
    return _timestamp(int(left) + int(right))


def subtract_timestamp(left: Timestamp, right: Duration) -> Timestamp:
    """The instant earlier by a duration."""
    return _timestamp(int(left) - int(right))


def add_duration(left: Duration, right: Duration) -> Duration:
    """The sum, in range."""
    return _duration(int(left) + int(right))


def subtract_duration(left: int, right: int) -> Duration:
    """The difference of two durations, or of two instants."""
    return _duration(int(left) - int(right))


# Conversions


def int_of_uint(value: Uint) -> int:
    """The same number."""
    return _int(int(value))


def int_of_double(value: float) -> int:
    """Towards zero. The limits themselves are out: a double so large names no exact int."""
    if -(2.0**63) < value < 2.0**63:
        return int(value)
    raise EvaluationError(f"{format_double(value)} is out of the range of int")


def uint_of_int(value: int) -> Uint:
    """The same number."""
    return _uint(value)


def uint_of_double(value: float) -> Uint:
    """Towards zero."""
    if 0 <= value < 2.0**64:
        return Uint(value)
    raise EvaluationError(f"{format_double(value)} is out of the range of uint")


def int_of_string(text: str) -> int:
    """Decimal digits with an optional sign."""
    if re.fullmatch("[+-]?[0-9]{1,64}", text):
        return _int(int(text))
    raise EvaluationError(f"{text!r} spells no int")


def uint_of_string(text: str) -> Uint:
    """Decimal digits."""
    if re.fullmatch("[0-9]{1,64}", text):
        return _uint(int(text))
    raise EvaluationError(f"{text!r} spells no uint")


_DOUBLE: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity|nan)"
)


def double_of_string(text: str) -> float:
    """A decimal number with optional exponent, an infinity or NaN."""
    if not _DOUBLE.fullmatch(text) and not _DOUBLE.fullmatch(text.lower()):
        raise EvaluationError(f"{text!r} spells no double")
    value = float(text)
    if math.isinf(value) and "i" not in text.lower():
        raise EvaluationError(f"{text!r} is out of the range of double")
    return value


def bool_of_string(text: str) -> bool:
    """The spellings that the language takes for true and false."""
    if text in ("1", "t", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "false", "FALSE", "False"):
        return False
    raise EvaluationError(f"{text!r} spells no bool")


def bytes_of_string(text: str) -> bytes:
    """UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise EvaluationError("the string has half of a surrogate pair") from None


def string_of_bytes(value: bytes) -> str:
    """The text of UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise EvaluationError("the bytes are invalid UTF-8") from None


def format_double(value: float) -> str:
    """The shortest decimal that reads back the same, with an exponent where %g has one."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    sign, digits, exponent = re.fullmatch(  # type: ignore[union-attr]  # the form is Python's
        r"(-?)([0-9.]+)(?:e([+-][0-9]+))?", repr(value)
    ).groups()
    whole, _, fraction = digits.partition(".")
    fraction = fraction.rstrip("0")
    point = len(whole) + int(exponent or 0)
    significant = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(significant)
    significant = significant.rstrip("0")
    if not significant:
        return sign + "0"
    if not -4 < point <= 6:
        mantissa = significant[0] + ("." + significant[1:] if len(significant) > 1 else "")
        return f"{sign}{mantissa}e{point - 1:+03d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{significant}"
    whole, fraction = significant[:point].ljust(point, "0"), significant[point:]
    return sign + whole + ("." + fraction if fraction else "")


# Time

_INSTANT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_UNIT_NANOS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": NANOS,
    "m": 60 * NANOS,
    "h": 3_600 * NANOS,
}
_SPAN: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_OFFSET: Final = re.compile(r"([+-]?)([0-9]{2}):([0-9]{2})")
_CYCLE: Final = timedelta(days=146_097)  # 400 years; the calendar and its weekdays repeat


def timestamp_of_string(text: str) -> Timestamp:
    """An RFC 3339 instant; digits after the nanosecond are dropped."""
    match = _INSTANT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        whole = datetime(*map(int, match.groups()[:6]), tzinfo=UTC)  # type: ignore[arg-type,misc]
        hours, minutes = int(match[9] or 0), int(match[10] or 0)
        if hours > 23 or minutes > 59:
            raise ValueError
    except ValueError:
        raise EvaluationError(f"{text!r} is out of the range or form of RFC 3339") from None
    seconds = (whole - _EPOCH) // timedelta(seconds=1)
    seconds -= (-1 if match[8] == "-" else 1) * (hours * 3600 + minutes * 60)
    return _timestamp(seconds * NANOS + int((match[7] or "0")[:9].ljust(9, "0")))


def timestamp_of_int(seconds: int) -> Timestamp:
    """The instant of epoch seconds."""
    return _timestamp(seconds * NANOS)


def int_of_timestamp(instant: Timestamp) -> int:
    """Epoch seconds."""
    return int(instant) // NANOS


def string_of_timestamp(instant: Timestamp) -> str:
    """RFC 3339 in UTC, with as much of a fraction as there is."""
    seconds, nanos = divmod(int(instant), NANOS)
    whole = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return f"{whole}{_fraction(nanos)}Z"


def duration_of_string(text: str) -> Duration:
    """Numbers with units after each other, `1h30m`, `-1.5s`; the units are h, m, s, ms, us, ns."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return Duration(0)
    nanos = position = 0
    while len(body) <= 128 and (match := _SPAN.match(body, position)):
        whole, fraction, unit = match.groups()
        if not whole and not fraction:
            break
        scale = _UNIT_NANOS[unit]
        nanos += int(whole or 0) * scale
        nanos += int(fraction or 0) * scale // 10 ** len(fraction or "")
        position = match.end()
    if not body or position < len(body):
        raise EvaluationError(f"{text!r} spells no duration")
    return _duration(-nanos if text[0] == "-" else nanos)


def string_of_duration(span: Duration) -> str:
    """Seconds, with as much of a fraction as there is."""
    seconds, nanos = divmod(abs(int(span)), NANOS)
    return f"{'-' if span < 0 else ''}{seconds}{_fraction(nanos)}s"


def _fraction(nanos: int) -> str:
    return f".{nanos:09d}".rstrip("0") if nanos else ""


@lru_cache(maxsize=1024)
def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name or of an offset such as +05:30."""
    if match := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset < timedelta(days=1):
            return timezone(-offset if match[1] == "-" else offset)
    else:
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            pass
    raise EvaluationError(f"{name!r} is no time zone")


def _local(instant: Timestamp, zone: str) -> tuple[datetime, int]:
    """Local time, and the years to add to its year."""
    seconds = int(instant) // NANOS
    moment = _EPOCH + timedelta(seconds=seconds)
    if zone == "UTC":
        return moment, 0
    # A zone may push the first and last days out of Python's calendar: move by one cycle.
    if moment.year == 1:
        return (moment + _CYCLE).astimezone(zone_of(zone)), -400
    if moment.year == 9999:
        return (moment - _CYCLE).astimezone(zone_of(zone)), 400
    return moment.astimezone(zone_of(zone)), 0


def year(instant: Timestamp, zone: str = "UTC") -> int:
    """getFullYear"""
    moment, years = _local(instant, zone)
    return moment.year + years


def month(instant: Timestamp, zone: str = "UTC") -> int:
    """getMonth, from 0."""
    return _local(instant, zone)[0].month - 1


def date(instant: Timestamp, zone: str = "UTC") -> int:
    """getDate, from 1."""
    return _local(instant, zone)[0].day


def day_of_month(instant: Timestamp, zone: str = "UTC") -> int:
    """getDayOfMonth, from 0."""
    return _local(instant, zone)[0].day - 1


def day_of_week(instant: Timestamp, zone: str = "UTC") -> int:
    """getDayOfWeek, 0 is Sunday."""
    return _local(instant, zone)[0].isoweekday() % 7


def day_of_year(instant: Timestamp, zone: str = "UTC") -> int:
    """getDayOfYear, from 0."""
    return _local(instant, zone)[0].timetuple().tm_yday - 1


def hours(instant: Timestamp, zone: str = "UTC") -> int:
    """getHours, 0 to 23."""
    return _local(instant, zone)[0].hour


def minutes(instant: Timestamp, zone: str = "UTC") -> int:
    """getMinutes, 0 to 59."""
    return _local(instant, zone)[0].minute


def seconds(instant: Timestamp, zone: str = "UTC") -> int:
    """getSeconds, 0 to 59."""
    return _local(instant, zone)[0].second


def milliseconds(instant: Timestamp, zone: str = "UTC") -> int:
    """getMilliseconds, 0 to 999."""
    _local(instant, zone)  # a zone that does not exist is an error here too
    return int(instant) % NANOS // 1_000_000


def duration_hours(span: Duration) -> int:
    """Whole hours towards zero."""
    return divide_int(int(span), 3_600 * NANOS)


def duration_minutes(span: Duration) -> int:
    """Whole minutes towards zero."""
    return divide_int(int(span), 60 * NANOS)


def duration_seconds(span: Duration) -> int:
    """Whole seconds towards zero."""
    return divide_int(int(span), NANOS)


def duration_milliseconds(span: Duration) -> int:
    """The milliseconds of the last second: what protobuf keeps apart from the seconds."""
    return remainder_int(divide_int(int(span), 1_000_000), 1000)


# Text and types


@lru_cache(maxsize=4096)
def pattern(text: str) -> Callable[[bytes], object]:
    """The search of an RE2 pattern in UTF-8: linear in the text, whatever the pattern."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        # With a pattern in bytes the wrapper leaves out its translation of offsets to code points.
        search: Callable[[bytes], object] = re2.compile(text.encode(), options).search
    except re2.error as error:
        raise EvaluationError(f"{text!r} is no RE2 pattern: {error}") from None
    return search


def matches(text: str, expression: str) -> bool:
    """Whether an RE2 pattern matches anywhere in the text."""
    return pattern(expression)(text.encode("utf-8", "surrogatepass")) is not None


TYPES: Final = {name: TypeValue(name) for name in DENOTED}


def type_of(value: object) -> TypeValue:
    """The type of a value."""
    return TYPES[kind_of(value)]


def _no_overload(name: str, *arguments: object) -> EvaluationError:
    return EvaluationError(f"no overload of {name} for ({', '.join(map(kind_of, arguments))})")


ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIXED_ORDER: Final[dict[tuple[str, ...], Callable[[Any, Any], bool]]] = {
    (sign, left, right): _ordered(compare) if "double" in (left, right) else compare
    for sign, compare in ORDER.items()
    for left in _NUMBERS
    for right in _NUMBERS
    if left != right
}
"""Numbers of different types are ordered by value where the types are known only now."""
