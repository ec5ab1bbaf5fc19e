"""The JSON body of a question, read so that what a caller wrote cannot make it unreadable.

A switch pastes names and numbers from the signalling into its question: Latin-1 bytes, half of a
surrogate pair, a control character that it did not escape. A strict parser refuses the whole
question for them, and with it an emergency call.
"""

import json
import re
from typing import Any, Final, NoReturn

import orjson


class NotJSON(Exception):
    """The body is no JSON, however it is read; the message says where."""


_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


def parse_body(body: bytes) -> Any:
    """What the body says: as strict JSON, else with what is no Unicode replaced by U+FFFD.

    Control characters in strings are kept for who reads the fields. Raises NotJSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as strict:
        try:
            text = body.decode("utf-8-sig", "replace")
            return _readable(json.loads(text, strict=False, parse_constant=_refuse))
        except (ValueError, RecursionError):
            # The strict parser's word: where the lenient one stopped says less.
            raise NotJSON(str(strict)) from None


def _refuse(constant: str) -> NoReturn:
    message = f"{constant} is no JSON"
    raise ValueError(message)


def _readable(value: Any) -> Any:
    """The value with lone surrogates replaced; what lies deeper than a field's value stays."""
    if isinstance(value, dict):
        return {_text(name): _text(held) for name, held in value.items()}
    return _text(value)


def _text(value: Any) -> Any:
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value
