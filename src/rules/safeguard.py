"""What no rule set can take away: the calls that pass before any pack is asked.

Invariants: a safeguard only ever allows; it needs no facts and no lists, so that it stands when
everything else has failed.
"""

import re
from typing import Final

from consent.emergency import is_emergency
from consent.number import Number, NumberClass
from consent.series import series_of
from rules.call import Call
from rules.schema import dialect
from rules.verdict import Action, Cause, Verdict

RULESET: Final = "safeguard"


def _passes(rule: str, cause: Cause) -> Verdict:
    return Verdict(Action.ALLOW, cause, f"safeguard.{rule}", RULESET)


EMERGENCY: Final = _passes("emergency", Cause.EMERGENCY)
PSAP_CALLBACK: Final = _passes("psap_callback", Cause.EMERGENCY)
PRIORITY: Final = _passes("priority", Cause.SAFEGUARD)
PROTECTED_SERIES: Final = _passes("protected_series", Cause.SAFEGUARD)
INVALID_CALLED: Final = _passes("invalid_called", Cause.SAFEGUARD)

_PRIORITY: Final = {
    "emergency": EMERGENCY,
    "psap-callback": PSAP_CALLBACK,
    "wps": PRIORITY,
}
_CPC: Final = {"emergency": EMERGENCY, "priority": PRIORITY}
# RFC 7135 for esnet, RFC 4412 for wps and ets; a value may list several, separated by commas.
_ESNET: Final = re.compile(r"(?:^|,)\s*esnet\.[0-4]\s*(?:,|$)", re.IGNORECASE)
_GOVERNMENT: Final = re.compile(r"(?:^|,)\s*(?:wps|ets)\.[0-4]\s*(?:,|$)", re.IGNORECASE)


def safeguard(call: Call, *, emergency: bool = False) -> Verdict | None:
    """The verdict of the safeguards, or None when the packs are to be asked.

    `emergency` is what the transport found on the raw text, before any other field was looked
    at. Priority marks are believed: whoever translates the question drops them, and
    Resource-Priority with them, from clients that may not assert priority.
    """
    called = call.called
    if (
        emergency
        or _names_emergency(called, call.region)
        or _names_emergency(call.dialled, call.region)
    ):
        return EMERGENCY
    if call.priority and (verdict := _PRIORITY.get(call.priority)):
        return verdict
    if call.cpc and (verdict := _CPC.get(call.cpc)):
        return verdict
    if call.resource_priority:
        if _ESNET.search(call.resource_priority):
            return EMERGENCY
        if _GOVERNMENT.search(call.resource_priority):
            return PRIORITY
    if called.kind is NumberClass.INVALID:
        # A number that we cannot read is ours not to judge.
        return INVALID_CALLED
    if (
        call.calling.series
        and call.route != "international"
        and dialect(call.verstat)[0] != "failed"
    ):
        # A protected number from abroad, or one that failed verification, is a borrowed one.
        series = series_of(call.calling.value, call.calling.country)
        if series is not None and series.protected:
            return PROTECTED_SERIES
    return None


def _names_emergency(number: Number, region: str) -> bool:
    """Whether a number is an emergency one; a subscriber's never is."""
    if number.kind is NumberClass.SUBSCRIBER or not number.text:
        return False
    return is_emergency(number.text, region=number.country or region)
