"""Peers that read codes in their own way: refusals as a client or trunk wants them told."""

from pathlib import Path

import pytest
from tests.running import running_service

from screening.access import AccessError, Clients

REFUSED = {"calling": "+861012345678", "called": "+8613123456789"}
CLIENTS = """
[peer]
networks = ["127.0.0.1"]
asserts = ["trunk"]
sip.block = { code = 603, phrase = "Decline", reason = 'SIP;cause=603;text="{id}"', q850 = 16 }
trunk_sip.t1.subscriber_refusal = { code = 480, phrase = "Gone", headers = { X-Why = "id {id}" } }
"""


def test_a_refusal_is_told_as_its_asker_wants(tmp_path: Path) -> None:
    """By client, by trunk before it, by cause before every cause; and as the rule set says to
    everybody else, in the same service, with the same verdict."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "clients.toml").write_text(CLIENTS + '\n[other]\nkeys = ["other"]\n')
    with running_service(state, "--sample") as service:
        key = service.cli("keys", "add", "other", "--role", "lookup").stdout.split()[-1]
        first = service.first_key
        answers = [
            service.screen(**REFUSED, call_id="a"),
            service.screen(**REFUSED, call_id="b", trunk="t1"),
            service.screen(**REFUSED, call_id="c"),
        ]
        (state / "first-key").write_text(key)
        answers.append(service.screen(**REFUSED, call_id="d"))
        (state / "first-key").write_text(first)
    identity = [answer["decision_id"] for answer in answers]
    declined = {"code": 603, "phrase": "Decline", "headers": []}
    assert [answer["sip"] for answer in answers[:3]] == [
        declined | {"reason": f'SIP;cause=603;text="{identity[0]}"'},
        {"code": 480, "phrase": "Gone", "reason": None,
         "headers": [["X-Why", f"id {identity[1]}"]]},
        declined | {"reason": f'SIP;cause=603;text="{identity[2]}"'},
    ]  # fmt: skip
    assert [answer["q850"] for answer in answers] == [16, 21, 16, 21]
    assert dict(answers[3]["sip"])["code"] == 607  # type: ignore[call-overload]
    assert {answer["rule"] for answer in answers} == {"cn.dnc.category"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('sip = 5', "sip is 5, expected a table"),
        ('sip.nuisance = {}', "'nuisance' is neither a cause nor 'block'"),
        ('sip.block = 603', "sip.block is 603, expected a table"),
        ('sip.block = { phrase = "x" }', "sip.block.code is 0, expected 300 to 699"),
        ('sip.block = { code = "603", phrase = "x" }', "sip.block.code is '603', no int"),
        ('sip.block = { code = 603 }', "sip.block.phrase: a reason phrase"),
        ('sip.block = { code = 603, phrase = "a\\r\\nVia: x" }', "sip.block.phrase: a reason"),
        ('sip.block = { code = 603, phrase = "x", q850 = 0 }', "q850 is 0, expected 1 to 127"),
        ('sip.block = { code = 603, phrase = "x", why = 1 }', "why is 1, expected code, phrase"),
        ('sip.block = { code = 603, phrase = "x", reason = "a b" }', "reason: expected a Reason"),
        ('sip.block = { code = 603, phrase = "x", reason = "{redress}" }', "{id} is all that"),
        ('sip.block = { code = 603, phrase = "x", headers = { Via = "x" } }', "Via is not for"),
        ('sip.block = { code = 603, phrase = "x", headers = { X = 5 } }', "expected texts"),
        ('trunk_sip = 1', "trunk_sip is 1, expected a table of trunks"),
        ('trunk_sip.t.block = 1', "trunk_sip.t.block is 1, expected a table"),
    ],
)  # fmt: skip
def test_what_no_peer_could_be_told_is_refused(tmp_path: Path, line: str, told: str) -> None:
    """By client, cause and part."""
    path = tmp_path / "clients.toml"
    path.write_text(f'[peer]\nkeys = ["k"]\n{line}\n')
    with pytest.raises(AccessError) as refused:
        Clients.load(path)
    assert told in str(refused.value)
