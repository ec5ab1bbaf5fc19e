"""One decision as the log holds it: from a worker's tuple to a record without numbers.

`COLUMNS` is the one table of a record's fields: what is written, exported and documented.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from consent.conduct import BLOCK, NAMES
from consent.keyring import Keyring
from rules.hours import NotKnown, local_times
from screening.recording.outbox import OWN, SHARED


class Column(NamedTuple):
    """A field of a record: its name, its type in an export (DuckDB's), what it holds."""

    name: str
    type: str
    meaning: str


_SHADOW: Final = "STRUCT(rule VARCHAR, action VARCHAR)[]"
_LISTS: Final = "STRUCT(name VARCHAR, generation BIGINT, age_s BIGINT)[]"

COLUMNS: Final = (
    Column("n", "BIGINT", "its place in the log"),
    Column("kind", "VARCHAR", '"call"; others are of the log itself'),
    Column("instant", "DOUBLE", "the instant that the call was decided for, epoch seconds"),
    Column("id", "VARCHAR", "the decision id: idempotency key and redress id"),
    Column("attempt", "INTEGER", "the how-manieth question about this call"),
    Column("call_key", "VARCHAR", "keyed hash of the switch's call_id, the same for every leg"),
    Column("instance", "VARCHAR", "the node and worker that decided"),
    Column("transport", "VARCHAR", '"http", "grpc" or "jsonrpc"'),
    Column("token_key", "INTEGER", "the version of the key of the tokens"),
    Column("calling", "VARCHAR", 'token of the calling number, "" without one'),
    Column("calling_block", "VARCHAR", "token of its first digits: the thousand it lies in"),
    Column("neighbour", "BOOLEAN", "whether it lies in the ten thousand of the called number"),
    Column("calling_class", "VARCHAR", "what kind of number it is"),
    Column("calling_country", "VARCHAR", "country of origin, ISO 3166-1"),
    Column("calling_status", "VARCHAR", "ISUP presentation: the privacy flag"),
    Column("called", "VARCHAR", "token of the called number"),
    Column("called_class", "VARCHAR", "what kind of number it is"),
    Column("called_country", "VARCHAR", "its country, ISO 3166-1"),
    Column("diverted_from", "VARCHAR", 'token of the number that diverted the call, or ""'),
    Column("trunk", "VARCHAR", "ingress trunk"),
    Column("route", "VARCHAR", '"national", "international" or ""'),
    Column("side", "VARCHAR", '"originating", "terminating" or ""'),
    Column("mode", "VARCHAR", "how the call is made"),
    Column("attestation", "VARCHAR", "the originator's claim (RFC 8588)"),
    Column("verstat", "VARCHAR", "the terminating check as sent (TS 24.229)"),
    Column("vouched", "BOOLEAN", "whether the client or trunk vouches for calling numbers"),
    Column("emergency", "BOOLEAN", "whether an emergency number was called"),
    Column("replay", "BOOLEAN", "whether it was decided for another instant than its own"),
    Column("category", "VARCHAR", 'what the call is for, or ""'),
    Column("category_basis", "VARCHAR", '"purpose", "entity", "series" or ""'),
    Column("entity", "BIGINT", "the entity of the calling number, 0 for none"),
    Column("zone", "VARCHAR", "the called party's registered zone, where it was read"),
    Column("local_times", "VARCHAR[]", "times at the called party, where a time band decided"),
    Column("action", "VARCHAR", "what was answered"),
    Column("cause", "VARCHAR", "why"),
    Column("rule", "VARCHAR", "the rule that decided"),
    Column("ruleset", "VARCHAR", "its rule set and revision"),
    Column("rules", "VARCHAR", "digest of all packs in force"),
    Column("degraded", "BOOLEAN", "whether facts were missing"),
    Column("internal_error", "BOOLEAN", "whether the default was given after a fault of ours"),
    Column("errors", "VARCHAR[]", "rules whose conditions failed"),
    Column("shadow", _SHADOW, "what rules in shadow mode would have decided"),
    Column("label", "JSON", "what was to be shown, by language"),
    Column("sip", "INTEGER", "SIP status code, 0 where the call was not refused"),
    Column("phrase", "VARCHAR", "its reason phrase"),
    Column("q850", "INTEGER", "Q.850 cause"),
    Column("redress", "VARCHAR", "where a caller can object"),
    Column("lists", _LISTS, "do-not-call lists that were asked, and their age"),
    Column("consent", "BIGINT", "the ledger's sequence of the consent, 0 for none"),
    Column(
        "signals",
        "JSON",
        "the calling number's, as read; shares in thousandths; null where all are 0, or no rule "
        "asked",
    ),
    Column("decided_us", "INTEGER", "from the question to the decision, µs"),
    Column("facts_us", "INTEGER", "of that, the read of the index, µs; null without one"),
    Column("hash", "VARCHAR", "the link of the chain"),
)
"""The fields of a record of kind `call`, in their order."""

_AROUND: Final = 10_000
_MOST_TOKENS: Final = 1 << 16
_MOST_SHAPES: Final = 20_000
_OWN: Final = len(OWN)
_NAMES: Final = SHARED[2:]
_ZONE: Final = len(OWN) + SHARED.index("zone")


class Tokens:
    """What stands for numbers in the log, under the newest key."""

    def __init__(self, keyring: Keyring) -> None:
        self.version: Final = keyring.version("token")
        self._keyring: Final = keyring
        self._known: Final[dict[int, str]] = {}
        self._keyed: Final = hashlib.blake2b(digest_size=10, key=keyring.digest(0))

    def of(self, number: int) -> str:
        """The token of a number that calls once or seldom comes again: one that is called."""
        return self._keyring.token(number)

    def repeated(self, number: int) -> str:
        """The same, remembered: of a caller or a block."""
        known = self._known
        token = known.get(number)
        if token is None:
            if len(known) >= _MOST_TOKENS:
                known.clear()
            token = known[number] = self._keyring.token(number)
        return token

    def call_key(self, call_id: str) -> str:
        """What stands for the switch's key of a call."""
        keyed = self._keyed.copy()
        keyed.update(call_id.encode("utf-8", "replace"))
        return keyed.hexdigest()


class Records:
    """Makes records of the calls of batches, under one key for tokens.

    What many calls share is written once and remembered: it is most of a record.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens: Final = tokens
        self._shapes: Final[dict[bytes, bytes]] = {}
        self._signals: Final[dict[bytes, orjson.Fragment]] = {}

    def of(
        self,
        call: list[Any],
        *,
        attempt: int,
        verdict: bytes,
        lists: bytes,
        time_band: bool,
    ) -> bytes:
        """The record of a call as `outbox` has it, without place and hash.

        `verdict` and `lists` are the `members` that its batch holds for it. What is empty (no
        text, 0, false, nothing) is left out.
        """
        calling: int
        called: int
        decided_s: float
        (
            decision_id, at, call_id, calling, called, diverted_from, decided_s, facts_s, consent,
            signals,
        ) = call[:_OWN]  # fmt: skip
        tokens = self._tokens
        own: dict[str, Any] = {"kind": "call", "instant": at, "id": decision_id}
        if attempt > 1:
            own["attempt"] = attempt
        if call_id:
            own["call_key"] = tokens.call_key(call_id)
        if calling:
            own["calling"] = tokens.repeated(calling)
            own["calling_block"] = tokens.repeated(calling // BLOCK)
            if calling // _AROUND == called // _AROUND:
                own["neighbour"] = True
        if called:
            own["called"] = tokens.of(called)
        if diverted_from:
            own["diverted_from"] = tokens.of(diverted_from)
        if consent:
            own["consent"] = consent
        if signals is not None:
            own["signals"] = self._seen(signals)
        if facts_s is not None:
            own["facts_us"] = _us(facts_s)
        if time_band:
            own["local_times"] = _local_times(at, call[_ZONE], called)
        own["decided_us"] = _us(decided_s)
        shared = self._shared(call[_OWN + 2 :])
        return b"%b%b%b%b}" % (orjson.dumps(own)[:-1], shared, lists, verdict)

    def _shared(self, values: list[Any]) -> bytes:
        """The members of the places from SHARED's third on."""
        key = orjson.dumps(values)
        made = self._shapes.get(key)
        if made is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            made = self._shapes[key] = members(dict(zip(_NAMES, values, strict=True)))
        return made

    def _seen(self, signals: list[int]) -> orjson.Fragment:
        """The signals that are not 0, by name."""
        key = orjson.dumps(signals)
        made = self._signals.get(key)
        if made is None:
            if len(self._signals) >= _MOST_SHAPES:
                self._signals.clear()
            seen = {name: value for name, value in zip(NAMES, signals, strict=True) if value}
            made = self._signals[key] = orjson.Fragment(orjson.dumps(seen))
        return made

    def heard(self, kind: str, told: Mapping[str, Any], *, at: float) -> bytes:
        """The record of what came after a call: kind "end" or "complaint", about its caller."""
        calling = told["calling"]
        fields = {
            "id": told.get("id", ""),
            "calling": self._tokens.repeated(calling) if calling else "",
            "calling_block": self._tokens.repeated(calling // BLOCK) if calling else "",
            "entity": told["entity"],
            "trunk": told["trunk"],
            "answered": told.get("answered", False),
            "seconds": told.get("seconds", 0),
            "token_key": self._tokens.version,
        }
        return orjson.dumps({"kind": kind, "instant": round(at, 3), **_filled(fields)})

    def verdict(self, **fields: Any) -> bytes:
        """The members of a verdict, and of what made it."""
        return members({**fields, "token_key": self._tokens.version})


def members(fields: Mapping[str, Any]) -> bytes:
    """Members of a JSON object, those that are not empty, each after a comma."""
    filled = _filled(fields)
    return b"," + orjson.dumps(filled)[1:-1] if filled else b""


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in _EMPTY}


_EMPTY: Final[tuple[Any, ...]] = ("", 0, None, [], {})
"""What is left out of a record; false is 0."""


def _us(seconds: float) -> int:
    return int(seconds * 1e6 + 0.5)


def _local_times(at: float, zone: str, called: int) -> list[str]:
    try:
        times = local_times(at, zone=zone, number=called)
        return [time.isoformat(timespec="minutes") for time in times]
    except (NotKnown, ValueError, OverflowError, OSError):
        return []
