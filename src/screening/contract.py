"""The lookup contract as data: the fields of a question, the shape of an answer, their OpenAPI.

`wire` reads questions by this table and the API description is written from it, so the two
cannot part.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from consent.category import Category
from rules.verdict import Cause

BODY_LIMIT_BYTES: Final = 65_536


class Kind(Enum):
    """How a field is read."""

    NUMBER = "number"
    TEXT = "text"
    ONE_OF = "one of"
    FLAG = "flag"
    COUNT = "count"
    INSTANT = "instant"


@dataclass(frozen=True, slots=True)
class QuestionField:
    """One field of a question; `values` of a ONE_OF are its canonical forms, told apart by case
    never; `asserted` ones count only from a client configured to assert them."""

    name: str
    kind: Kind
    meaning: str
    values: tuple[str, ...] = ()
    asserted: bool = False


VERSTAT: Final = tuple(
    f"{finding}{level}"
    for finding in ("TN-Validation-Passed", "TN-Validation-Failed", "No-TN-Validation")
    for level in ("", "-A", "-B", "-C")
)
"""verstat as sent: TS 24.229 7.2A.20 and the dialects that add the attestation."""

FIELDS: Final = (
    QuestionField(
        "calling",
        Kind.NUMBER,
        'Network-asserted number (P-Asserted-Identity, else From); "anonymous" or empty when none '
        "was sent. E.164, tel: or sip: URI, or national digits.",
    ),
    QuestionField(
        "called",
        Kind.NUMBER,
        "The subscriber's directory number (Request-URI after translation, without routing "
        "prefix). E.164, tel: or sip: URI, urn:service:sos, or national digits. Required.",
    ),
    QuestionField(
        "dialled",
        Kind.NUMBER,
        "Digits before translation (To): emergency and toll-free numbers are recognised on it or "
        "on `called`.",
    ),
    QuestionField(
        "call_id",
        Kind.TEXT,
        "Opaque key of the call: ICID (P-Charging-Vector) before Call-ID. Without it the decision "
        "id is random and a repeated question is a new one.",
    ),
    QuestionField("presentation", Kind.NUMBER, "From number, when it differs from `calling`."),
    QuestionField(
        "calling_status",
        Kind.ONE_OF,
        "ISUP presentation; SIP Privacy maps to it. A restricted number is screened, never shown.",
        ("available", "restricted", "unavailable"),
    ),
    QuestionField(
        "screening",
        Kind.ONE_OF,
        "ISUP screening indicator.",
        ("network", "user_verified", "user_failed", "user_unverified"),
        asserted=True,
    ),
    QuestionField(
        "cpc",
        Kind.ONE_OF,
        "Calling party's category.",
        ("ordinary", "payphone", "operator", "test", "priority", "emergency"),
        asserted=True,
    ),
    QuestionField(
        "attestation", Kind.ONE_OF, "The originator's claim (RFC 8588).", ("A", "B", "C")
    ),
    QuestionField(
        "verstat",
        Kind.ONE_OF,
        "The terminating check (TS 24.229). A form that names a level fills `attestation` where "
        "that is absent.",
        VERSTAT,
    ),
    QuestionField("origid", Kind.TEXT, "The origination identifier of the PASSporT (RFC 8588)."),
    QuestionField("trunk", Kind.TEXT, "Ingress trunk.", asserted=True),
    QuestionField(
        "route", Kind.ONE_OF, "Where the call comes in from.", ("national", "international")
    ),
    QuestionField(
        "side",
        Kind.ONE_OF,
        "Which end of the call asks.",
        ("originating", "terminating"),
    ),
    QuestionField(
        "roaming",
        Kind.FLAG,
        "True when HLR/HSS says that a home mobile on an international trunk is roaming.",
        asserted=True,
    ),
    QuestionField(
        "diverted_from", Kind.NUMBER, "Last diverting number (Diversion, History-Info, ISUP)."
    ),
    QuestionField("original_called", Kind.NUMBER, "First called number of a diverted call."),
    QuestionField("redirect_reason", Kind.TEXT, "Why the call was diverted, as signalled."),
    QuestionField("redirect_count", Kind.COUNT, "How often the call was diverted."),
    QuestionField("display_name", Kind.TEXT, "What the caller calls itself."),
    QuestionField("call_reason", Kind.TEXT, "What the caller says the call is about (RFC 9796)."),
    QuestionField(
        "purpose",
        Kind.ONE_OF,
        "Declared category of a commercial call.",
        tuple(Category),
        asserted=True,
    ),
    QuestionField(
        "mode",
        Kind.ONE_OF,
        "How the call is made; voice when absent.",
        ("voice", "autodialler", "prerecorded"),
    ),
    QuestionField(
        "priority",
        Kind.ONE_OF,
        "An emergency call, a call back from a PSAP, or a wireless priority call.",
        ("emergency", "psap-callback", "wps"),
        asserted=True,
    ),
    QuestionField(
        "resource_priority",
        Kind.TEXT,
        "RFC 4412 value as sent; counts where `priority` may be asserted.",
        asserted=True,
    ),
    QuestionField("region", Kind.TEXT, "ISO 3166-1 country of national digits and short codes."),
    QuestionField(
        "at",
        Kind.INSTANT,
        "RFC 3339 instant to decide for, instead of now; needs a key with the right.",
    ),
    QuestionField("explain", Kind.FLAG, "Add the trace to the answer; needs a key with the right."),
)
"""Every field of a question, in the order of the contract."""


class SipAnswer(BaseModel):
    """The SIP answer to give to a blocked call."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[int, Field(ge=300, le=699, description="SIP status code.")]
    phrase: str = Field(description="Reason phrase of the status line.")
    reason: str | None = Field(description="Value of the Reason header (RFC 3326).")
    headers: list[tuple[str, str]] = Field(description="Further headers: name and value.")


class ShadowHit(BaseModel):
    """A rule in shadow mode that would have decided."""

    model_config = ConfigDict(extra="forbid")

    rule: str
    action: Literal["allow", "warn", "block"]


class Evidence(BaseModel):
    """What a verdict rests on beside the rules."""

    model_config = ConfigDict(extra="forbid")

    lists: dict[str, int] = Field(description="The lists that were asked, with their generation.")
    named_by: list[str] = Field(description="Calling-side lists that name the calling number.")
    consent_id: int | None = Field(description="The ledger's sequence of the consent, if any.")


class Answer(BaseModel):
    """The verdict on one call."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["allow", "warn", "block"]
    cause: Literal[tuple(str(c) for c in Cause)]  # type: ignore[valid-type]
    rule: str = Field(description='The rule that decided; "default" when none matched.')
    ruleset: str = Field(description="Rule set and revision, name@revision.")
    decision_id: str = Field(
        pattern="^[0-9A-HJKMNP-TV-Z]{26}$",
        description="Keyed hash of the call in Crockford base32; valid as the id of a 603+.",
    )
    degraded: bool = Field(description="Whether facts were missing when it was decided.")
    sip: SipAnswer | None = Field(description="Set for a block.")
    q850: int | None = Field(description="ITU-T Q.850 cause for ISUP; set for a block.")
    label: dict[str, str] | None = Field(description="What to show, by BCP 47 language tag.")
    redress: str | None = Field(description="Where a caller can object.")
    shadow: list[ShadowHit]
    latency_us: int = Field(description="Time from the question read to the answer, µs.")
    trace: list[dict[str, Any]] | None = Field(
        default=None,
        description="Every rule tried; present when `explain` was asked for and permitted.",
    )
    evidence: Evidence | None = Field(
        default=None, description="Present with a trace of rules; a safeguard rests on nothing."
    )


def _schema(field: QuestionField, *, query: bool) -> dict[str, Any]:
    if field.kind is Kind.FLAG:
        schema: dict[str, Any] = {"type": "boolean"}
    elif field.kind is Kind.COUNT:
        schema = {"type": "integer", "minimum": 0}
    elif field.kind is Kind.INSTANT:
        schema = {"type": "string", "format": "date-time"}
    else:
        schema = {"type": "string"}
    if field.values:
        schema["examples"] = [str(value) for value in field.values]
    if not query and field.name != "called":
        schema["type"] = [schema["type"], "null"]
    return schema


def _describe(field: QuestionField) -> str:
    text = field.meaning
    if field.values:
        text += " One of " + ", ".join(f"`{v}`" for v in field.values) + "; others are ignored."
    if field.asserted:
        text += " Counts only from a client configured to assert it."
    return text


def question_schema() -> dict[str, Any]:
    """The JSON schema of the body of POST /v1/screen."""
    return {
        "type": "object",
        "title": "Question",
        "required": ["called"],
        "additionalProperties": True,
        "description": "Absent, null and empty mean the same. Unknown fields are ignored.",
        "properties": {
            f.name: {**_schema(f, query=False), "description": _describe(f)} for f in FIELDS
        },
    }


def question_parameters() -> list[dict[str, Any]]:
    """The query parameters of GET /v1/screen."""
    return [
        {
            "name": f.name,
            "in": "query",
            "required": f.name == "called",
            "description": _describe(f),
            "schema": _schema(f, query=True),
        }
        for f in FIELDS
    ]
