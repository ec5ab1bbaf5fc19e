"""The shadow rule that a finding proposes: a `[[rule]]` to add to a pack and try.

It names no number: a number or block is told by how it conducts itself, an entity by its id, a
trunk by its name. Who knows the number may have it named instead.
"""

import json
from typing import Final

from consent.conduct import BLOCK as BLOCK_NUMBERS
from screening.watching.detector import Finding
from screening.watching.party import BLOCK, ENTITY, NEIGHBOURS, NUMBER, TRUNK

_UNKNOWN: Final = '!call.vouched && call.attestation != "A" && !entity.registered'


def condition(finding: Finding, *, number: int = 0) -> str:
    """The CEL of the rule; `number` is the calling number, or one of the block, if it is known."""
    # Half of what was seen, and more than was ever expected.
    calls = max(8, round(max(finding.hourly / 2, finding.expected_hourly * 1.5)))
    kind = finding.kind
    if kind in (TRUNK, NEIGHBOURS):
        trunk = f"call.trunk == {json.dumps(finding.key, ensure_ascii=False)}"
        rare = "signals.calling.attempts_7d <= 2"
        near = " && calling.country == called.country" if kind == NEIGHBOURS else ""
        return f"{trunk} && {_UNKNOWN} && {rare}{near}"
    if kind == ENTITY:
        return f"entity.id == {finding.key} && signals.entity.distinct_called_1h > {calls}"
    if number and kind == NUMBER:
        return f'calling.number == "+{number}"'
    if number:
        return f'calling.number.startsWith("+{number // BLOCK_NUMBERS}")'
    if kind == BLOCK:
        return f"{_UNKNOWN} && signals.block.distinct_called_1h > {calls}"
    return f"signals.calling.distinct_called_1h > {calls} && {_answers(finding)}"


def _answers(finding: Finding) -> str:
    ended, answered = finding.evidence.get("ended", 0), finding.evidence.get("answered", 0)
    if ended < 5:
        return "!entity.registered"
    return f"signals.calling.answered_share_1h < {min(0.95, answered / ended + 0.1):.2f}"


def rule(finding: Finding, warning_id: str, *, number: int = 0) -> str:
    """The rule as TOML."""
    when = json.dumps(condition(finding, number=number), ensure_ascii=False).replace("\x7f", "")
    return (
        "[[rule]]\n"
        f'id = "watch.{warning_id.lower()}"\n'
        f"when = {when}\n"
        'then = "warn"\n'
        'cause = "analytics"\n'
        'mode = "shadow"\n'
        f'why = "Proposed by the watch: a campaign of the kind {finding.kind}."\n'
        f'source = "screening watch, warning {warning_id}"\n'
        'label = { en = "Suspected campaign" }\n'
    )
