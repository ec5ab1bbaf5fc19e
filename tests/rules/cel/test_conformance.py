"""The conformance suite of the CEL specification, through `python -m rules eval --stdin`.

All cases of its sections on what rules need, but those that construct protobuf messages.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.running import ROOT

from rules.cel.interchange import from_json, to_json

SECTIONS = (
    "basic", "comparisons", "conversions", "fp_math", "integer_math", "lists", "logic", "macros",
    "parse", "plumbing", "string", "timestamps",
)  # fmt: skip
CASES, MESSAGES = 921, 81
TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\s*)*(?:
    (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*') | (?P<any>\[[\w./]+\])
    | (?P<word>-?[\w.+-]+) | (?P<sign>[{}:\[\],;<>]) )""",
    re.VERBOSE,
)
ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u(....)|U(........)|(.))", re.DOTALL)
PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


@pytest.fixture(scope="module")
def suite() -> dict[str, str]:
    """The texts of the suite by section."""
    archives = sorted((ROOT / ".venv" / "conformance").glob("*.tar.gz"))
    if not archives:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("the conformance suite is not here: `make test` fetches it where the network is")
    with tarfile.open(archives[0]) as archive:
        texts = {}
        for member in archive.getmembers():
            path = Path(member.name)
            if path.suffix == ".textproto" and path.stem in SECTIONS:
                content = archive.extractfile(member)
                assert content is not None
                texts[path.stem] = content.read().decode()
    assert set(texts) == set(SECTIONS)
    return texts


def unescaped(quoted: str) -> bytes:
    """The bytes of a string of the text format."""

    def replaced(match: re.Match[bytes]) -> bytes:
        octal, code, short, long, other = match.groups()
        if octal or code:
            return bytes([int(octal, 8) if octal else int(code, 16)])
        if short or long:
            return chr(int(short or long, 16)).encode()
        return PLAIN.get(other, other)

    return ESCAPE.sub(replaced, quoted[1:-1].encode())


class Text:
    """A message of the protobuf text format, as lists of (field, value)."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        end = 0
        text = text.rstrip()
        while end < len(text) and (match := TOKEN.match(text, end)):
            end = match.end()
            assert match.lastgroup is not None
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
        assert not text[end:].strip() or text[end:].lstrip().startswith("#"), text[end : end + 80]
        self.at = 0

    def message(self) -> list[tuple[str, Any]]:
        fields = []
        while self.at < len(self.tokens) and self.tokens[self.at][1] not in ("}", ">"):
            name = self.tokens[self.at][1]
            self.at += 1
            if self.tokens[self.at] == ("sign", ":"):
                self.at += 1
            fields.append((name, self.value()))
            while self.at < len(self.tokens) and self.tokens[self.at][1] in (",", ";"):
                self.at += 1
        return fields

    def value(self) -> Any:
        kind, text = self.tokens[self.at]
        self.at += 1
        if text in ("{", "<") and kind == "sign":
            held = self.message()
            self.at += 1
            return held
        if kind == "string":
            whole = unescaped(text)
            while self.at < len(self.tokens) and self.tokens[self.at][0] == "string":
                whole += unescaped(self.tokens[self.at][1])
                self.at += 1
            return whole
        return text


class NeedsMessages(Exception):
    """The case constructs or binds a protobuf message."""


def json_of(value: list[tuple[str, Any]]) -> dict[str, Any]:
    """The JSON form of a `cel.expr.Value`."""
    ((kind, held),) = value
    match kind:
        case "null_value":
            return {"nullValue": None}
        case "bool_value":
            return {"boolValue": held == "true"}
        case "int64_value":
            return {"int64Value": str(int(held, 0))}
        case "uint64_value":
            return {"uint64Value": str(int(held, 0))}
        case "double_value":
            words = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
            return {"doubleValue": words.get(held.lower().removesuffix("inity")) or float(held)}
        case "string_value":
            return {"stringValue": held.decode()}
        case "bytes_value":
            return {"bytesValue": b64encode(held).decode()}
        case "type_value":
            return {"typeValue": held.decode()}
        case "list_value":
            return {"listValue": {"values": [json_of(item) for _, item in held]}}
        case "map_value":
            entries = [{name: json_of(part) for name, part in entry} for _, entry in held]
            return {"mapValue": {"entries": entries}}
        case "object_value":
            ((name, message),) = held
            parts = {field: int(number) for field, number in message}
            seconds, nanos = parts.get("seconds", 0), parts.get("nanos", 0)
            name = name.strip("[]")
            if name.endswith("google.protobuf.Duration"):
                total = seconds * 10**9 + nanos
                sign, total = "-" if total < 0 else "", abs(total)
                text = f"{sign}{total // 10**9}.{total % 10**9:09}s"
            elif name.endswith("google.protobuf.Timestamp"):
                instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
                text = f"{instant:%Y-%m-%dT%H:%M:%S}.{nanos:09}Z".rjust(30, "0")
            else:
                raise NeedsMessages
            return {"objectValue": {"@type": name, "value": text}}
    raise NeedsMessages(kind)


def cases(section: str, text: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Name, question and expected value (None: an error) of the cases without messages."""
    for kind, group in Text(text).message():
        if kind != "section":
            continue
        title = dict(group)["name"].decode()
        for field, test in group:
            if field != "test":
                continue
            given = dict(test)
            name = f"{section}/{title}/{given['name'].decode()}"
            source = given["expr"].decode()
            container = given.get("container", b"").decode()
            question = {"expr": source, "container": container}
            question["check"] = given.get("disable_check") != "true"
            try:
                if "conformance.proto" in container + source or MESSAGE.search(source):
                    raise NeedsMessages
                question["vars"] = {
                    dict(binding)["key"].decode(): json_of(dict(dict(binding)["value"])["value"])
                    for bound, binding in test
                    if bound == "bindings"
                }
                expected: Any = None
                if "eval_error" not in given and "any_eval_errors" not in given:
                    expected = to_json(from_json(json_of(given.get("value", TRUE))))
            except NeedsMessages:
                yield name, {}, None
                continue
            yield name, question, expected


MESSAGE = re.compile(r"TestAllTypes|google\.protobuf\.\w+\s*\{|\bproto[23]\b")
TRUE = [("bool_value", "true")]


def same(found: Any, expected: Any) -> bool:
    """Whether two values in JSON are one, the order of a map's entries aside."""
    if "mapValue" in expected and "mapValue" in found:
        entries = expected["mapValue"]["entries"]
        others = found["mapValue"]["entries"]
        return len(entries) == len(others) and all(
            any(same(a["key"], b["key"]) and same(a["value"], b["value"]) for b in others)
            for a in entries
        )
    return bool(found == expected)


def test_every_case_without_messages(suite: dict[str, str]) -> None:
    """Each comes to its value, or to an error where one is expected; no more are left out."""
    asked = [case for section in SECTIONS for case in cases(section, suite[section])]
    assert len(asked) == CASES
    kept = [case for case in asked if case[1]]
    assert len(asked) - len(kept) == MESSAGES
    lines = "".join(json.dumps(question) + "\n" for _, question, _ in kept)
    done = subprocess.run(
        [sys.executable, "-m", "rules", "eval", "--stdin"],
        input=lines, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [
        f"{name}: expected {expected}, found {answer}"
        for (name, _, expected), answer in zip(kept, answers, strict=True)
        if (
            "error" not in answer
            if expected is None
            else not same(answer.get("value", {}), expected)
        )
    ]
    assert not wrong, "\n".join(wrong)
