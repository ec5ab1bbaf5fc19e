"""What is stated of a subscriber, as requests and lines bring it, turned into ledger events.

Types and words are checked here, so that the description of the API is whole; what a field may
hold beyond that is the ledger's to say, and its messages name the same fields.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from consent.category import BIT, Category
from consent.event import Event, EventKind
from consent.held import Held, HeldConsent
from consent.number import NotE164, NumberClass, format_e164, parse_e164, parse_number
from consent.record import Entity, RecordError
from consent.terms import MOST_CALLS, MOST_DAYS

ANONYMOUS: Final = "anonymous"
"""In place of a calling number: whoever sends none."""

INSTANTS: Final = {"confirmed", "retain_until", "subscribed_since"}
"""Of the evidence."""

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
FUTURE_SECONDS: Final = 300
"""How far ahead the clock of who states something may be."""

_BAND: Final = re.compile(r"([01][0-9]|2[0-3]):00-([01][0-9]|2[0-4]):00")
_PLACE: Final = re.compile(r"^events\[\d+\]\.(?:body\.)?")

Number = Annotated[
    str,
    Field(
        max_length=64,
        description="A number: E.164 with +, or national digits of the configured region.",
        examples=["+447700900123"],
    ),
]
EntityName = Annotated[
    str, Field(max_length=64, description="Name of a registered entity.", examples=["acme-bank"])
]
Instant = Annotated[AwareDatetime, Field(description="RFC 3339, with its offset.")]
Decided = Annotated[
    AwareDatetime | None,
    Field(description="When the subscriber decided it; now when absent, never later."),
]


class _Stated(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class ConsentEvidence(_Stated):
    """What proves a decision: kept sealed in the ledger, given out to the subscriber on request."""

    jurisdiction: str | None = Field(None, description="Country whose law applies, ISO 3166-1.")
    basis: Literal["explicit", "inferred", "existing_relation", "contract", "statutory"] | None = (
        Field(None, description="Legal basis.")
    )
    brand: str | None = Field(None, description="Brand under which it was asked for.")
    purpose: str | None = Field(None, description="Purpose in the words shown.")
    channel: str | None = Field(None, description="By which channel: web, call, paper, …")
    captured: str | None = Field(None, description="How and where it was captured.")
    text_sha256: str | None = Field(None, description="SHA-256 of the text shown.")
    text_locale: str | None = Field(None, description="Language of the text shown, BCP 47.")
    text_version: str | None = Field(None, description="Version of the text shown.")
    uri: str | None = Field(None, description="Where the copy is: a recording, a form.")
    sha256: str | None = Field(None, description="SHA-256 of that copy.")
    author: Literal["subject", "agent", "guardian"] | None = Field(
        None, description="Who decided for the subscriber."
    )
    verification: str | None = Field(None, description="Reference of how that was verified.")
    notice_version: str | None = Field(None, description="Version of the privacy notice.")
    confirmed: AwareDatetime | None = Field(None, description="When a confirmation was sent.")
    retain_until: AwareDatetime | None = Field(None, description="Until when it is kept.")
    legal_hold: bool | None = Field(None, description="Whether it must outlive that.")
    source: str | None = Field(None, description="Where the statement comes from.")
    subscribed_since: AwareDatetime | None = Field(
        None, description="Since when the subscriber has the number."
    )
    calling_numbers: list[str] | None = Field(
        None, description="Numbers named as those that would call. `/v1/entities` says who may."
    )
    delegates: list[str] | None = Field(
        None, description="Who was named as calling on behalf of the entity. As above."
    )

    def kept(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        given = self.model_dump(exclude_none=True)
        return {
            name: int(value.timestamp()) if isinstance(value, datetime) else value
            for name, value in given.items()
        }


ModeWord = Literal["voice", "autodialler", "prerecorded"]
DayWord = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]


class ConsentTerms(_Stated):
    """Outside them there is no consent. What is absent sets no limit."""

    days: list[DayWord] | None = Field(
        None, min_length=1, description="Days; a public holiday is `holiday`, and no weekday."
    )
    bands: list[str] | None = Field(
        None, min_length=1, description="Whole hours.", examples=[["09:00-18:00"]]
    )
    zone: str | None = Field(
        None,
        description="IANA time zone of days and bands; that of the number, if it can be in one "
        "only, when absent.",
        examples=["Europe/London"],
    )
    modes: list[ModeWord] | None = Field(None, min_length=1, description="Kinds of call.")
    calls: int | None = Field(
        None, ge=1, le=MOST_CALLS, description="At most so many calls within `per_days`."
    )
    per_days: int | None = Field(None, ge=1, le=MOST_DAYS)

    @field_validator("bands")
    @classmethod
    def _in_whole_hours(cls, bands: list[str] | None) -> list[str] | None:
        return bands and _expect_whole_hours(bands)

    def kept(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        said = self.model_dump(exclude_none=True, mode="json")
        if self.bands:
            said["bands"] = sorted({hour for band in self.bands for hour in _hours(band)})
        if self.days:
            said["days"] = [DAYS.index(day) for day in self.days]
        return said

    @classmethod
    def of(cls, terms: dict[str, Any]) -> Self | None:
        """What the ledger keeps of them, None for none."""
        said = {name: terms[name] for name in cls.model_fields if name in terms}
        if "bands" in said:
            said["bands"] = _bands(said["bands"])
        if "days" in said:
            said["days"] = [DAYS[day] for day in said["days"]]
        return cls(**said) if said else None


class Statement(_Stated):
    """The parts of every statement about one subscriber and one entity."""

    kind: ClassVar[EventKind]

    called: Number
    entity: EntityName
    evidence: ConsentEvidence = Field(default_factory=ConsentEvidence)
    at: Decided = None

    def event(self, *, called: int, entity: int, now: float) -> Event:
        """The event of it; raises RecordError where it lies ahead."""
        at = now if self.at is None else self.at.timestamp()
        if at > now + FUTURE_SECONDS:
            raise RecordError("at lies ahead: expected when it was decided", field="at")
        body = {"entity": entity, "evidence": self.evidence.kept(), **self._says()}
        return Event(0, min(at, now), self.kind, called, body)

    def _says(self) -> dict[str, Any]:
        return {}


class Grant(Statement):
    """A subscriber agrees to the calls of an entity."""

    kind = EventKind.CONSENT_GRANTED
    categories: list[Category] = Field(min_length=1, description='What for; "all" is every trade.')
    expires_at: Instant | None = Field(None, description="Until when; until revoked when absent.")
    effective_at: Instant | None = Field(None, description="From when on; from now when absent.")
    terms: ConsentTerms | None = None

    def _says(self) -> dict[str, Any]:
        terms = self.terms.kept() if self.terms else {}
        if self.effective_at:
            terms["effective"] = _until(self.effective_at)
        return {
            "categories": list(map(str, self.categories)),
            "expires": _until(self.expires_at),
            "terms": terms,
        }


class Renew(Statement):
    """A consent that is held goes on until another instant."""

    kind = EventKind.CONSENT_RENEWED
    expires_at: Instant | None = Field(description="Until when; null: until revoked.")

    def _says(self) -> dict[str, Any]:
        return {"expires": _until(self.expires_at)}


class Narrow(Statement):
    """Some categories of a consent that is held are taken back, or its terms made narrower."""

    kind = EventKind.CONSENT_NARROWED
    withdrawn: list[Category] = Field(default_factory=list, description="What is taken back.")
    terms: ConsentTerms | None = Field(
        None, description="Those that change; none may permit what was not permitted."
    )

    def _says(self) -> dict[str, Any]:
        return {
            "withdrawn": list(map(str, self.withdrawn)),
            "terms": self.terms.kept() if self.terms else {},
        }


class Revoke(Statement):
    """A consent is taken back; without one the entity is refused, whatever it calls about."""

    kind = EventKind.CONSENT_REVOKED
    scope: list[Category] = Field(
        default_factory=list, description="The categories it is taken back for; all when empty."
    )
    effective_at: Instant | None = Field(
        None,
        description="From when on calls are refused; at once when absent. An instant before `at` "
        "is recorded and counts at once.",
    )

    def _says(self) -> dict[str, Any]:
        return {"scope": list(map(str, self.scope)), "effective": _until(self.effective_at)}


class Expire(Statement):
    """A consent that is held has come to its end."""

    kind = EventKind.CONSENT_EXPIRED


def _until(at: datetime | None) -> int:
    return int(at.timestamp()) if at else 0


class GrantLine(Grant):
    """A line of a bulk that grants."""

    do: Literal["grant"]


class RenewLine(Renew):
    """A line of a bulk that renews."""

    do: Literal["renew"]


class NarrowLine(Narrow):
    """A line of a bulk that narrows."""

    do: Literal["narrow"]


class RevokeLine(Revoke):
    """A line of a bulk that revokes."""

    do: Literal["revoke"]


class ExpireLine(Expire):
    """A line of a bulk that ends a consent."""

    do: Literal["expire"]


BulkLine = Annotated[
    GrantLine | RenewLine | NarrowLine | RevokeLine | ExpireLine, Field(discriminator="do")
]


class RefuseAll(_Stated):
    """The subscriber refuses every commercial call, and every consent it gave is void."""

    evidence: ConsentEvidence = Field(default_factory=ConsentEvidence)


class Reassign(_Stated):
    """The number has another subscriber: what the one before decided does not bind the new one."""

    since: Instant | None = Field(None, description="When it was given anew, where known.")


class Prefix(_Stated):
    """Whoever calls from a number that begins so."""

    prefix: str = Field(description="3 to 15 digits with country code.", examples=["4416329600"])
    action: Literal["allow", "block"]


class Preferences(_Stated):
    """What a subscriber set for itself: the whole of it, replacing what was there."""

    refused: list[Category] = Field(default_factory=list, description="Categories refused.")
    accepted: list[Category] = Field(
        default_factory=list, description="Accepted, though a list or `all` refuses them."
    )
    bands: list[str] = Field(
        default_factory=list,
        description="Whole hours at the subscriber's in which it refuses; always when empty.",
        examples=[["21:00-09:00"]],
    )
    days: list[DayWord] = Field(
        default_factory=list, description="Days on which it refuses; every day when empty."
    )
    modes: list[ModeWord] = Field(
        default_factory=list, description="Kinds of call it refuses; each when empty."
    )
    zone: str = Field("", description="IANA time zone.", examples=["Europe/London"])
    prefixes: list[Prefix] = Field(
        default_factory=list, max_length=3, description="Whose calls it takes or not, 3 at most."
    )

    @field_validator("bands")
    @classmethod
    def _in_whole_hours(cls, bands: list[str]) -> list[str]:
        return _expect_whole_hours(bands)

    def body(self) -> dict[str, Any]:
        """That of the ledger's event."""
        return {
            **self.model_dump(include={"refused", "accepted", "modes", "zone"}, mode="json"),
            "bands": sorted({hour for band in self.bands for hour in _hours(band)}),
            "days": [DAYS.index(day) for day in self.days],
            "prefixes": [[each.prefix, each.action] for each in self.prefixes],
        }

    @classmethod
    def of(cls, body: dict[str, Any]) -> Self:
        """What the body of an event says; nothing is set in an empty one."""
        return cls(
            refused=body.get("refused", []),
            accepted=body.get("accepted", []),
            bands=_bands(body.get("bands", [])),
            days=[DAYS[day] for day in body.get("days", [])],
            modes=body.get("modes", []),
            zone=body.get("zone", ""),
            prefixes=[
                Prefix(prefix=digits, action=action) for digits, action in body.get("prefixes", [])
            ],
        )


def _expect_whole_hours(bands: list[str]) -> list[str]:
    for band in bands:
        if not _BAND.fullmatch(band):
            message = "expected whole hours such as 21:00-09:00"
            raise ValueError(message)
    return bands


def _hours(band: str) -> Iterable[int]:
    first, end = int(band[:2]), int(band[6:8])
    return (hour % 24 for hour in range(first, end if end > first else end + 24))


def _bands(hours: Iterable[int]) -> list[str]:
    """Hours as few bands; one over midnight is one."""
    held = set(hours)
    if len(held) == 24:
        return ["00:00-24:00"]
    bands = []
    for first in sorted(hour for hour in held if (hour - 1) % 24 not in held):
        end = first
        while end % 24 in held:
            end += 1
        bands.append(f"{first:02d}:00-{end % 24 or 24:02d}:00")
    return bands


def called_number(text: str, *, region: str, field: str = "called") -> int:
    """The subscriber's number. Raises RecordError for what is none."""
    try:
        return parse_e164(text, region=region)
    except NotE164 as refused:
        raise RecordError(f"{field}: {refused}", field=field) from None


def calling_number(text: str, *, region: str) -> int:
    """A calling number as it is shown to people, odd ones too; 0 for `anonymous`."""
    return 0 if text == ANONYMOUS else shown_number(text, region=region, field="calling")


def shown_number(text: str, *, region: str, field: str) -> int:
    """A number as it is shown to people. Raises RecordError for what holds none."""
    number = parse_number(text, region=region)
    if number.kind is NumberClass.ANONYMOUS or not 0 < number.value < 2**63:
        raise RecordError(f"{field} is {number.kind}, expected a number", field=field)
    return number.value


def plain(refused: RecordError) -> tuple[str, str]:
    """The message of a refusal and its field, by the names that requests use."""
    field = refused.field.removeprefix("body.").replace("expires", "expires_at")
    field = "effective_at" if field == "effective" else field
    said = _PLACE.sub("", str(refused)).replace("expires ", "expires_at ", 1)
    return re.sub("^effective ", "effective_at ", said), field


class RevocationOut(BaseModel):
    """How a consent was taken back."""

    at: datetime = Field(description="When it was decided.")
    effective_at: datetime = Field(description="From when on it counts.")
    retroactive: bool = Field(description="Whether that was before it was decided.")
    scope: list[str] | None = Field(None, description="Of which categories; all when absent.")


class ConsentOut(BaseModel):
    """A consent as it now is."""

    id: int = Field(description="Of the ledger: the event that gave it.")
    version: int = Field(description="How many events made it what it is.")
    called: str | None = Field(None, description="The subscriber; left out where it was asked for.")
    entity: str
    state: Literal["granted", "expired", "revoked"]
    categories: list[str]
    granted_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    sequence: int = Field(description="Of the ledger: its newest event.")
    evidence: dict[str, Any]
    effective_at: datetime | None = Field(None, description="From when on it holds, if later.")
    terms: ConsentTerms | None = None
    revoked_for: list[str] | None = Field(None, description="Categories it was taken back for.")
    revocation: RevocationOut | None = Field(None, description="The newest one.")


def consent_out(held: HeldConsent, *, entity: str, now: float) -> ConsentOut:
    """A held consent for people and programs."""
    state = str(held.state(now))
    effective, gone = held.terms.get("effective"), held.taken_back(now)
    return ConsentOut(
        id=held.first,
        version=held.version,
        effective_at=instant(effective) if effective else None,
        terms=ConsentTerms.of(held.terms),
        revoked_for=sorted(name for name, bit in BIT.items() if gone >> bit & 1) or None,
        revocation=_revocation_out(held.revocation) if held.revocation else None,
        entity=entity,
        state=state,
        categories=list(held.categories),
        granted_at=instant(held.at),
        expires_at=instant(held.expires) if held.expires else None,
        revoked_at=instant(held.revoked_at) if held.revoked_at is not None else None,
        sequence=held.sequence,
        evidence=evidence_out(held.evidence),
    )


def _revocation_out(said: dict[str, Any]) -> RevocationOut:
    effective = said.get("effective", said["at"])
    return RevocationOut(
        at=instant(said["at"]),
        effective_at=instant(effective),
        retroactive=effective < int(said["at"]),
        scope=said.get("scope"),
    )


def evidence_out(evidence: dict[str, Any]) -> dict[str, Any]:
    """ConsentEvidence with its instants written out."""
    return {
        name: instant(value).isoformat() if name in INSTANTS else value
        for name, value in evidence.items()
    }


def personal_out(held: Held) -> dict[str, list[str]]:
    """The two personal lists."""
    lists: dict[str, list[str]] = {"allow": [], "block": []}
    for calling, action in sorted(held.personal.items()):
        lists[action].append(format_e164(calling) if calling else ANONYMOUS)
    return lists


def instant(at: float) -> datetime:
    """Epoch seconds as an instant of UTC."""
    return datetime.fromtimestamp(at, UTC)


def names_of(entities: Iterable[Entity]) -> dict[int, str]:
    """Entities' names by their ids."""
    return {each.id: each.name for each in entities}
