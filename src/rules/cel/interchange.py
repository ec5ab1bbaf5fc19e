"""Values as JSON: the form of `cel.expr.Value`, plain JSON, and text as expressions spell it."""

import math
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any, Final

from rules.cel.errors import EvaluationError
from rules.cel.runtime import (
    INT_MAX,
    INT_MIN,
    TYPES,
    UINT_MAX,
    BoolKey,
    Duration,
    Timestamp,
    TypeValue,
    Uint,
    duration_of_string,
    entries_of,
    format_double,
    keys,
    kind_of,
    string_of_duration,
    string_of_timestamp,
    timestamp_of_string,
)
from rules.cel.types import DURATION, DYN, TIMESTAMP, Type, join, list_of, map_of

_URL: Final = "type.googleapis.com/"


class NotAValue(ValueError):  # as the other boundaries are named
    """JSON that is no `cel.expr.Value`, or a value that rules cannot hold."""


def to_json(value: Any) -> dict[str, Any]:
    """A value in the JSON form of `cel.expr.Value`."""
    match kind_of(value):
        case "bool":
            return {"boolValue": value}
        case "int":
            return {"int64Value": str(int(value))}
        case "uint":
            return {"uint64Value": str(int(value))}
        case "double":
            return {"doubleValue": value if math.isfinite(value) else _infinity(value)}
        case "string":
            return {"stringValue": str(value)}
        case "bytes":
            return {"bytesValue": b64encode(value).decode()}
        case "null_type":
            return {"nullValue": None}
        case "type":
            return {"typeValue": str(value)}
        case "list":
            return {"listValue": {"values": [to_json(element) for element in value]}}
        case "map":
            pairs = zip(keys(value), value.values(), strict=True)
            entries = [{"key": to_json(key), "value": to_json(held)} for key, held in pairs]
            return {"mapValue": {"entries": entries}}
        case TIMESTAMP.name:
            return _object(TIMESTAMP, string_of_timestamp(value))
        case _:
            return _object(DURATION, string_of_duration(value))


def _infinity(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _object(kind: Type, text: str) -> dict[str, Any]:
    return {"objectValue": {"@type": _URL + kind.name, "value": text}}


def from_json(value: Any) -> Any:
    """The value of the JSON form of `cel.expr.Value`. Raises NotAValue."""
    if not isinstance(value, dict) or len(value) != 1:
        raise NotAValue(f"expected an object with one member such as int64Value, found {value!r}")
    ((kind, held),) = value.items()
    read = _READ.get(kind)
    if read is None:
        raise NotAValue(f"{kind!r} is no kind of value, expected one of {', '.join(_READ)}")
    try:
        return read(held)
    except (TypeError, ValueError, KeyError, AttributeError, EvaluationError, Base64Error) as error:
        if isinstance(error, NotAValue):
            raise
        raise NotAValue(f"{held!r} does not fit {kind}: {error}") from error


def _read_int(held: Any) -> int:
    number = int(held)
    if not INT_MIN <= number <= INT_MAX:
        raise NotAValue(f"{number} is out of the range of int")
    return number


def _read_uint(held: Any) -> Uint:
    number = int(held)
    if not 0 <= number <= UINT_MAX:
        raise NotAValue(f"{number} is out of the range of uint")
    return Uint(number)


def _read_object(held: Any) -> Any:
    name = held["@type"].removeprefix(_URL)
    if name == TIMESTAMP.name:
        return timestamp_of_string(held["value"])
    if name == DURATION.name:
        return duration_of_string(held["value"])
    raise NotAValue(f"messages such as {name} are not supported")


def _read_bool(held: Any) -> bool:
    if type(held) is not bool:
        raise NotAValue(f"expected true or false, found {held!r}")
    return held


def _read_text(held: Any) -> str:
    if type(held) is not str:
        raise NotAValue(f"expected a string, found {held!r}")
    held.encode()  # half of a surrogate pair is no text
    return held


def _read_map(held: Any) -> Any:
    entries = held.get("entries", ())
    return entries_of(*((from_json(entry["key"]), from_json(entry["value"])) for entry in entries))


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "nullValue": lambda _: None,
    "boolValue": _read_bool,
    "int64Value": _read_int,
    "uint64Value": _read_uint,
    "doubleValue": float,
    "stringValue": _read_text,
    "bytesValue": lambda held: b64decode(held, validate=True),
    "typeValue": lambda held: TYPES.get(held) or TypeValue(held),
    "listValue": lambda held: [from_json(element) for element in held.get("values", ())],
    "mapValue": _read_map,
    "objectValue": _read_object,
}


def from_plain(value: Any) -> Any:
    """The value that plain JSON spells: whole numbers are int, others double."""
    if isinstance(value, dict):
        return {key: from_plain(held) for key, held in value.items()}
    if isinstance(value, list):
        return [from_plain(element) for element in value]
    return _read_int(value) if type(value) is int else value


def static_type(value: Any) -> Type:
    """The narrowest type that a value has."""
    kind = kind_of(value)
    if kind == "list":
        return list_of(_joined(value))
    if kind == "map":
        return map_of(_joined(keys(value)), _joined(value.values()))
    return Type(kind)


def _joined(values: Any) -> Type:
    found = DYN
    for position, value in enumerate(values):
        kind = static_type(value)
        found = join(found, kind) if position else kind
    return found


def spell(value: Any) -> str:
    """A value as an expression would spell it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case BoolKey():
            return spell(value.value)
        case Uint():
            return f"{int(value)}u"
        case Timestamp():
            return f'timestamp("{string_of_timestamp(value)}")'
        case Duration():
            return f'duration("{string_of_duration(value)}")'
        case TypeValue():
            return str(value)
        case float():
            text = format_double(value)
            return text if not math.isfinite(value) or set(text) & set(".e") else f"{text}.0"
        case str():
            return '"' + "".join(map(_spell_character, value)) + '"'
        case bytes():
            return 'b"' + "".join(_spell_octet(octet) for octet in value) + '"'
        case dict():
            entries = (f"{spell(key)}: {spell(held)}" for key, held in value.items())
            return "{" + ", ".join(entries) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(spell, value)) + "]"
    return str(value)


def _spell_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _spell_octet(octet: int) -> str:
    return chr(octet) if 32 <= octet < 127 and octet not in b'"\\' else f"\\x{octet:02x}"
