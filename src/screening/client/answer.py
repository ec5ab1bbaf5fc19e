"""Answers as types, and what stands for one where there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

ACTIONS = ("allow", "warn", "block")


class Unavailable(Exception):
    """No verdict: the service did not answer in time, or not with one. The message says why."""


@dataclass(frozen=True, slots=True)
class SipAnswer:
    """How to refuse a blocked call."""

    code: int
    phrase: str
    reason: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ShadowHit:
    """A rule in shadow mode that would have decided."""

    rule: str
    action: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on one call, field by field as the contract has it.

    `failed_open` says that it is none: the service gave no verdict, `failure` says why, and the
    call is allowed all the same.
    """

    action: Literal["allow", "warn", "block"]
    cause: str
    rule: str
    ruleset: str
    decision_id: str
    degraded: bool
    sip: SipAnswer | None = None
    q850: int | None = None
    label: Mapping[str, str] | None = None
    redress: str | None = None
    shadow: tuple[ShadowHit, ...] = ()
    latency_us: int = 0
    trace: tuple[Mapping[str, Any], ...] = ()
    evidence: Mapping[str, Any] | None = None
    failed_open: bool = False
    failure: str = ""

    @property
    def is_allow(self) -> bool:
        """Whether the call may ring as it is."""
        return self.action == "allow"

    @property
    def is_warn(self) -> bool:
        """Whether the call may ring, with its label."""
        return self.action == "warn"

    @property
    def is_block(self) -> bool:
        """Whether the call is to be refused, as `sip` says."""
        return self.action == "block"


def failed_open(failure: str) -> Answer:
    """What stands for a verdict that did not come."""
    return Answer(
        "allow", "degraded", "default", "none", "", degraded=True, failed_open=True, failure=failure
    )


def answer_from(document: object) -> Answer:
    """The answer in a JSON document; fields that it does not know are left out.

    Raises Unavailable where it is none.
    """
    try:
        fields = cast("Mapping[str, Any]", document)
        if fields["action"] not in ACTIONS:
            raise ValueError(fields["action"])
        sip = fields.get("sip")
        return Answer(
            action=fields["action"],
            cause=fields["cause"],
            rule=fields["rule"],
            ruleset=fields["ruleset"],
            decision_id=fields["decision_id"],
            degraded=fields["degraded"],
            sip=sip
            and SipAnswer(
                sip["code"],
                sip["phrase"],
                sip.get("reason"),
                tuple((name, value) for name, value in sip.get("headers", ())),
            ),
            q850=fields.get("q850"),
            label=fields.get("label"),
            redress=fields.get("redress"),
            shadow=tuple(ShadowHit(hit["rule"], hit["action"]) for hit in fields.get("shadow", ())),
            latency_us=fields.get("latency_us", 0),
            trace=tuple(fields.get("trace") or ()),
            evidence=fields.get("evidence"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as broken:
        raise Unavailable(f"the answer is no verdict: {broken!r}") from None
