"""SIP answers: whatever a rule set says and a caller sends, nothing but one answer goes out."""

import json
import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rules.document import Document, RuleSetError
from rules.pack import read_pack
from rules.ruleset import RuleSet
from rules.sip import OWN
from rules.verdict import Action, Cause, Verdict
from screening.decision_id import decision_id
from screening.screener import Decision
from screening.wire import write_answer

REDRESS = "https://redress.example/x"
NETWORK_BLOCKED = {
    "code": 603,
    "phrase": "Network Blocked",
    "reason": 'SIP;cause=603;text="v=analytics1;url={redress};id={id}";location=RLN',
}
REJECTED = {
    "code": 608,
    "phrase": "Rejected",
    "headers": {"Call-Info": "<{redress}>;purpose=jwscard"},
}


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for surrogates, which are no text in either.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def ruleset(answer: dict[str, Any], *, redress: str = REDRESS) -> RuleSet:
    """A set that answers so for `analytics`. Raises RuleSetError where it may not."""
    head = {"name": "t", "revision": "1", "default": "allow", "redress": redress}
    text = f"ruleset = {toml(head)}\nsip.analytics = {toml(answer)}\n"
    return read_pack([Document("t.toml", text)]).ruleset


def sent(rules: RuleSet, identity: str) -> dict[str, Any]:
    """What a switch is told to send."""
    verdict = Verdict(Action.BLOCK, Cause.ANALYTICS, "t.rule", rules.label)
    answer = orjson.loads(write_answer(Decision(verdict, rules, identity), latency_us=0))
    return dict(answer["sip"])


# An own reading of RFC 3326, to check the other one by: parameters split outside of quotes.


def unquoted(text: str, separator: str) -> list[str]:
    """`text` split at a separator that no quotes hold; every quote ends."""
    parts, quoted, escaped = [""], False, False
    for letter in text:
        if letter == separator and not quoted:
            parts.append("")
            continue
        parts[-1] += letter
        if escaped:
            escaped = False
        elif quoted and letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
    assert not quoted, text
    assert not escaped, text
    return parts


def is_reason(text: str) -> bool:
    token = r"[A-Za-z0-9.!%*_+`'~-]+"
    for value in unquoted(text, ","):
        protocol, *parameters = unquoted(value.strip(" "), ";")
        if not re.fullmatch(token, protocol):
            return False
        for parameter in parameters:
            name, _, given_value = parameter.partition("=")
            if not re.fullmatch(token, name):
                return False
            if given_value.startswith('"'):
                if given_value[-1] != '"' or len(given_value) < 2:
                    return False
            elif "=" in parameter and not re.fullmatch(token, given_value):
                return False
    return True


pieces = st.sampled_from(
    ["SIP", "Q.850", ";", ",", '"', "\\", "cause=603", 'text="v=analytics1;', "{id}", "{redress}",
     "url={redress}", ";location=RLN", "\r\n", "\n", "\r", "\x00", "\x7f", "\x85", "\u2028", "\t",
     " ", "<", ">", "=", "é", "%", "%0d%0a", "{", "}", "Via: x", "https://a.example", "Rejected"]
)  # fmt: skip
texts = st.one_of(
    st.lists(pieces, max_size=8).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([NETWORK_BLOCKED["reason"], 'Q.850;cause=21;text="{redress}"', "Unwanted"]),
)
names = st.one_of(st.sampled_from(["Call-Info", "X-Id", "Via", "Content-Length", "A:B"]), texts)
answers = st.fixed_dictionaries(
    {"code": st.integers(300, 699), "phrase": texts},
    optional={"reason": texts, "headers": st.dictionaries(names, texts, max_size=3)},
)


@settings(max_examples=600, deadline=None)
@example(answer=NETWORK_BLOCKED, redress=REDRESS, calling="", called="\r\n", call_id="\r\nVia: x")
@example(answer=REJECTED, redress=REDRESS, calling='"', called="{id}", call_id="x")
@given(
    answer=answers,
    redress=st.one_of(st.just(REDRESS), texts, texts.map(lambda text: "https://" + text)),
    calling=st.text(max_size=20),
    called=st.text(max_size=20),
    call_id=st.text(max_size=20),
)
def test_no_text_of_a_rule_set_or_a_call_injects(
    answer: dict[str, Any], redress: str, calling: str, called: str, call_id: str
) -> None:
    """Refused at load, or: one status line, a Reason of the grammar, headers of one line each."""
    try:
        rules = ruleset(answer, redress=redress)
    except RuleSetError:
        return
    identity = decision_id(call_id=call_id, calling=calling, called=called, key=b"k" * 32)
    out = sent(rules, identity)
    values = [out["phrase"], out["reason"] or "x", *(value for _, value in out["headers"])]
    for value in values:
        assert value.splitlines() == [value]
        assert not re.search(r"[\x00-\x1f\x7f]", value)
    assert out["reason"] is None or is_reason(out["reason"])
    for name, _ in out["headers"]:
        assert re.fullmatch(r"[A-Za-z0-9.!%*_+`'~-]+", name)
        assert name.lower() not in OWN


def test_an_analytics_block_is_as_carriers_expect_it() -> None:
    """Phrase, Reason and id of a 603+ (the id at most 64 of letters, digits, - and _)."""
    identity = decision_id(call_id="c", calling="+12125550123", called="+12125550142", key=b"k")
    out = sent(ruleset(NETWORK_BLOCKED), identity)
    assert (out["code"], out["phrase"]) == (603, "Network Blocked")
    found = re.fullmatch(
        r'SIP;cause=603;text="v=analytics1;url=(https://[^;"]+);id=([A-Za-z0-9_-]{1,64})"'
        r";location=RLN",
        out["reason"],
    )
    assert found is not None
    assert found.groups() == (REDRESS, identity)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"phrase": "Decline"}, 'an analytics block is 603 "Network Blocked"'),
        ({"code": 608}, 'an analytics block is 603 "Network Blocked"'),
        ({"reason": 'SIP;cause=603;text="v=analytics1;id={id}";location=RLN'}, "names a url"),
        ({"reason": 'SIP;cause=603;text="x;v=analytics1;url={redress}"'}, "begins with"),
        ({"reason": 'SIP;cause=603;text="v=analytics1;url={redress}"'}, "has a location"),
        ({"reason": 'SIP;cause=603;text="v=analytics1'}, "expected a Reason"),
        ({"reason": "SIP cause=603"}, "expected a Reason"),
        ({"reason": 'Q.850;cause=21;text="a" b'}, "expected a Reason"),
        ({"reason": "x;{redress}"}, "expected a Reason"),
        ({"reason": 'Q.850;text="\r\nVia: x"'}, "a control character"),
        ({"phrase": "Network {id}"}, "a reason phrase is one line"),
        ({"headers": {"Via": "x"}}, "Via is not for a rule set to give"),
        ({"headers": {"reason": "x"}}, "reason is not for a rule set to give"),
        ({"headers": {"X Y": "x"}}, "is no header name"),
        ({"headers": {"X-Y": "a\u2028b"}}, "one line of text"),
        ({"reason": 'Q.850;text="a\u2028b"'}, "expected a Reason"),
        ({"phrase": "a\x85b"}, "a reason phrase is one line"),
        ({"headers": {"X-Y": ""}}, "one line of text"),
        ({"code": 608, "phrase": "Rejected", "reason": ""}, "a 608 says in Call-Info"),
    ],
)
def test_an_answer_that_peers_would_misread_is_told_at_its_line(
    change: dict[str, Any], told: str
) -> None:
    """With file and line of the answer, and what was expected."""
    with pytest.raises(RuleSetError) as refused:
        ruleset(NETWORK_BLOCKED | change)
    assert any(told in each.message for each in refused.value.problems), refused.value.problems
    assert str(refused.value.problems[0]).startswith("t.toml:2:")


@pytest.mark.parametrize(
    "redress",
    ["http://a.example", "https://", "https://a b", 'https://a"', "https://a;b", "https://a\x00",
     "https://a\x7f", "https://é.example", "https://a\\", "https://a>", "https://a\u2028"],
)  # fmt: skip
def test_redress_is_a_plain_url(redress: str) -> None:
    """It goes into quoted strings and angle brackets, so it holds nothing that ends either."""
    with pytest.raises(RuleSetError) as refused:
        ruleset(NETWORK_BLOCKED, redress=redress)
    assert "redress is an https URL" in str(refused.value.problems[0])
