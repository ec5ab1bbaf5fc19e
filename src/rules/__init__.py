"""(call, facts) -> verdict: pure, without I/O and without a clock; `rules.loading` reads files."""

from rules.bind import CallingSide, bind
from rules.call import Call
from rules.document import Problem, RuleSetError
from rules.explanation import explain
from rules.loading import Packs, load_packs
from rules.ruleset import ReadPlan, RuleSet, SipAnswer, evaluate
from rules.safeguard import safeguard
from rules.verdict import Action, Cause, Shadow, Verdict

__all__ = [
    "Action",
    "Call",
    "CallingSide",
    "Cause",
    "Packs",
    "Problem",
    "ReadPlan",
    "RuleSet",
    "RuleSetError",
    "Shadow",
    "SipAnswer",
    "Verdict",
    "bind",
    "evaluate",
    "explain",
    "load_packs",
    "safeguard",
]
