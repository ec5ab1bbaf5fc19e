"""The outcome of one call."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final


class Action(IntEnum):
    """What the switch shall do, in rising order of harshness."""

    ALLOW = 0
    WARN = 1
    BLOCK = 2

    @property
    def word(self) -> str:
        """The action as the contract and the metrics write it."""
        return _WORDS[self]


_WORDS: Final = tuple(action.name.lower() for action in Action)


class Cause(StrEnum):
    """Why, in the words of the lookup contract."""

    SUBSCRIBER_REFUSAL = "subscriber_refusal"
    SUBSCRIBER_ALLOW = "subscriber_allow"
    NO_CONSENT = "no_consent"
    CONSENTED = "consented"
    TIME_BAND = "time_band"
    FREQUENCY = "frequency"
    UNREGISTERED_ENTITY = "unregistered_entity"
    DNO = "dno"
    INVALID_NUMBER = "invalid_number"
    SPOOFED = "spoofed"
    ANALYTICS = "analytics"
    ESCALATION = "escalation"
    ANONYMOUS_REJECTED = "anonymous_rejected"
    NETWORK_LIST = "network_list"
    EMERGENCY = "emergency"
    SAFEGUARD = "safeguard"
    DEGRADED = "degraded"
    INTERNAL_ERROR = "internal_error"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule in shadow mode that would have decided: its id and what it would have done."""

    rule: str
    action: Action


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, by which rule of which revision.

    `rule` is "default" when none matched. `degraded` says that facts were missing. `label` is
    keyed by BCP 47 language tag. `trace` is filled only when asked for: one entry a rule tried.
    `errors` names the rules whose conditions failed and so did not match.
    """

    action: Action
    cause: Cause
    rule: str
    ruleset: str
    degraded: bool = False
    label: dict[str, str] | None = None
    shadow: tuple[Shadow, ...] = ()
    trace: tuple[dict[str, Any], ...] = field(default=())
    errors: tuple[str, ...] = ()
