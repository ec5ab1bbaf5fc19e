"""Answers as bytes, all but the id and the time of each made once a verdict.

Invariant: the bytes are those of the form's `write`, which holds the decision's id only where the
contract and the rule set's `{id}` put it.
"""

from typing import Final

from rules.ruleset import RuleSet
from rules.verdict import Verdict
from screening.screener import Decision
from screening.sip_profile import SipProfile
from screening.wire import write_answer

ID_BYTES: Final = 26
_ID: Final = "id-of-decision-put-in-here"
_MOST: Final = 4096
"""Rules that differ in what they shadow or in their errors have verdicts of their own."""


class Form:
    """One verdict of one rule set as JSON; `fill` is `text % (id, … , latency)`."""

    __slots__ = ("_ids", "_text", "profile", "ruleset", "verdict")

    def __init__(
        self, verdict: Verdict, ruleset: RuleSet | None, profile: SipProfile | None
    ) -> None:
        self.verdict: Final = verdict
        self.ruleset: Final = ruleset
        self.profile: Final = profile
        whole = self.write(Decision(verdict, ruleset, _ID, profile=profile), latency_us=0)
        self._ids = whole.count(_ID.encode())
        self._text = self.timed(whole.replace(b"%", b"%%").replace(_ID.encode(), b"%b"))

    @staticmethod
    def write(decision: Decision, *, latency_us: int) -> bytes:
        """The whole answer."""
        return write_answer(decision, latency_us=latency_us)

    @staticmethod
    def timed(text: bytes) -> bytes:
        """The text of an answer that took no time, with a place for the time."""
        before, mark, after = text.rpartition(b'"latency_us":0')
        return before + mark[:-1] + b"%d" + after

    def fill(self, decision_id: str, latency_us: int) -> bytes:
        """The answer of one decision."""
        if self._ids == 1:
            return self._text % (decision_id.encode(), latency_us)
        return self._text % (*(decision_id.encode(),) * self._ids, latency_us)


class Answers:
    """The forms of the verdicts met so far; `form` says as what."""

    def __init__(self, form: type[Form] = Form) -> None:
        self._form = form
        self._forms: dict[tuple[int, int, int], Form] = {}

    def body(self, decision: Decision, latency_us: int) -> bytes:
        """The answer that the form's `write` gives."""
        verdict, ruleset, profile = decision.verdict, decision.ruleset, decision.profile
        if verdict.trace or decision.evidence is not None:
            return self._form.write(decision, latency_us=latency_us)
        key = (id(verdict), id(ruleset), id(profile))
        form = self._forms.get(key)
        if (
            form is None
            or form.verdict is not verdict
            or form.ruleset is not ruleset
            or form.profile is not profile
        ):
            if len(self._forms) >= _MOST:
                self._forms.clear()
            # Held by the form, so that nothing else comes to have their identities.
            form = self._forms[key] = self._form(verdict, ruleset, profile)
        return form.fill(decision.decision_id, latency_us)
