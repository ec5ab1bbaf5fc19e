"""Rule sets that are wrong: one mistake a case, with the place and the advice it is told by."""

import pytest

from rules.coverage import coverage
from rules.document import Document, RuleSetError
from rules.pack import Pack, read_pack

GOOD = """\
[ruleset]
name = "t"
revision = "1"
default = "allow"
redress = "https://redress.example/t"

[define]
"call.authenticated" = 'call.vouched'
"calling.odd" = 'calling.class == "invalid"'

[sip.analytics]
code = 603
phrase = "Network Blocked"
reason = 'SIP;cause=603;text="v=analytics1;url={redress};id={id}";location=RLN'
headers = { X-Case = "{id}" }

[[rule]]
id = "t.allow"
when = 'called.personal == "allow" && call.authenticated'
then = "allow"
cause = "subscriber_allow"
why = "why"
source = "source"

[[rule]]
id = "t.block"
when = 'call.commercial && called.refuses(call.category) && called.within("08:00", "21:00")'
then = "block"
cause = "subscriber_refusal"
why = "why"
source = "source"
mode = "enforce"
percent = 12.5
label = { en = "Marketing" }

[[rule]]
id = "t.often"
when = 'call.mode == "voice" && called.calls_30d > 4'
needs = { "called.calls_30d" = "int" }
mode = "off"
then = "block"
cause = "frequency"
why = "why"
source = "source"

[[case]]
name = "refused"
call = { calling = "+12015550123", called = "+12125550101", purpose = "loans", at = "AT" }
facts = { listed = ["loans"], profile = { zone = "America/New_York" } }
expect = { action = "block", cause = "subscriber_refusal", rule = "t.block" }
""".replace("AT", "2026-11-23T17:00Z")


def read(text: str) -> Pack:
    return read_pack([Document("t/rules.toml", text)])


def test_the_good_set_is_good() -> None:
    """What the mistakes below are made in is accepted, and its roll-out counts as complete."""
    pack = read(GOOD)
    assert pack.ruleset.label == "t@1"
    assert [rule.id for rule in pack.ruleset.rules] == ["t.allow", "t.block", "t.often"]
    assert pack.ruleset.rules[2].needs == ("called.calls_30d",)
    assert pack.warnings == ()
    answer = pack.ruleset.answer(pack.ruleset.rules[1].cause)
    assert (answer.code, answer.phrase) == (603, "Decline")


MISTAKES = [
    pytest.param(
        'then = "allow"',
        'than = "allow"',
        'unknown key "than"; did you mean "then"?',
        id="an unknown key",
    ),
    pytest.param(
        "percent = 12.5",
        "colour = 3",
        'unknown key "colour"; the keys here are id, when',
        id="a key of nowhere",
    ),
    pytest.param(
        'mode = "off"',
        'mode = "shadow"',
        't/rules.toml:39:1: a rule that needs facts which do not exist yet has mode = "off"',
        id="a rule that is on and cannot be",
    ),
    pytest.param(
        'mode = "off"\nthen',
        "then",
        'a rule that needs facts which do not exist yet has mode = "off"',
        id="a rule that forgot to be off",
    ),
    pytest.param(
        "called.calls_30d >",
        "called.cals_30d >",
        "undeclared name 'called.cals_30d'; did you mean \"called.calls_30d\"?",
        id="a misspelt fact to come",
    ),
    pytest.param(
        "call.mode ==",
        "call.mod ==",
        'did you mean "call.mode"?',
        id="a misspelt fact beside one to come",
    ),
    pytest.param(
        '"called.calls_30d" = "int"',
        '"called.calls_30d" = "string"',
        "t/rules.toml:38:33: no overload of > for (string, int)",
        id="a fact to come of the wrong type",
    ),
    pytest.param(
        '"called.calls_30d" = "int"',
        '"called.calls_30d" = "integer"',
        '"integer" is no type of a fact',
        id="a fact to come of no type",
    ),
    pytest.param(
        '"called.calls_30d" = "int"',
        '"called.calls_30d" = "int", "called.calls_7d" = "int"',
        "the condition does not name called.calls_7d",
        id="a fact to come that nothing asks for",
    ),
    pytest.param(
        '"called.calls_30d" = "int"',
        '"calls 30d" = "int"',
        '"calls 30d" is no name for a fact',
        id="a fact to come of no name",
    ),
    pytest.param(
        "[define]",
        "[macros]",
        'unknown key "macros"; the keys here are ruleset',
        id="a table of nowhere",
    ),
    pytest.param(
        "call.commercial",
        "call.comercial",
        'did you mean "call.commercial"?\n    when = \'call.comercial && ',
        id="a misspelt fact",
    ),
    pytest.param(
        "called.refuses(",
        "called.refusess(",
        'did you mean "called.refuses"?',
        id="a misspelt function",
    ),
    pytest.param('called.personal == "allow"', "called.personal == 1", "string", id="a wrong type"),
    pytest.param(
        "'call.vouched'",
        "'call.trunk'",
        "a condition is true or false; this one is string",
        id="a condition that is none",
    ),
    pytest.param(
        "call.commercial &&", "call.commercial & &", "t/rules.toml:27:25: ", id="a broken condition"
    ),
    pytest.param(
        "'call.vouched'",
        "'call.vouchd'",
        "t/rules.toml:8:25: undeclared name 'call.vouchd'; did you mean \"call.vouched\"?",
        id="a macro of an unknown fact",
    ),
    pytest.param(
        '"calling.odd"',
        '"calling.class"',
        "is a fact and cannot be defined",
        id="a macro over a fact",
    ),
    pytest.param(
        "'call.vouched'", "'call.authenticated'", "is defined by itself", id="a macro of itself"
    ),
    pytest.param(
        'id = "t.block"',
        'id = "t.allow"',
        'a second rule with the id "t.allow"',
        id="a duplicate id",
    ),
    pytest.param(
        'id = "t.block"',
        'id = "t block"',
        'id "t block" is not of the form',
        id="an id with a space",
    ),
    pytest.param(
        'then = "block"',
        'then = "blok"',
        '"blok" is no action; did you mean "block"?',
        id="an unknown action",
    ),
    pytest.param(
        'cause = "subscriber_refusal"\nwhy',
        'cause = "dont_like"\nwhy',
        '"dont_like" is no cause; one of subscriber_refusal, ',
        id="an unknown cause",
    ),
    pytest.param(
        'mode = "enforce"', 'mode = "shadov"', 'did you mean "shadow"?', id="an unknown mode"
    ),
    pytest.param(
        "percent = 12.5",
        "percent = 101",
        "percent is 0 to 100, found 101",
        id="a percentage over 100",
    ),
    pytest.param(
        "percent = 12.5",
        'percent = "half"',
        "percent is an integer or a number, found a string",
        id="a text for a number",
    ),
    pytest.param(
        'why = "why"\nsource = "source"\nmode',
        'why = " "\nsource = "source"\nmode',
        "why is empty",
        id="no reason",
    ),
    pytest.param('source = "source"\nmode', "mode", "source is missing", id="no source"),
    pytest.param(
        "called.refuses(call.category)",
        "called.refuses(call.purpose)",
        "called.refuses() takes call.category or a literal category",
        id="a computed category",
    ),
    pytest.param(
        "called.refuses(call.category)",
        'called.refuses("lones")',
        "'lones' is no category",
        id="an unknown category",
    ),
    pytest.param(
        '"21:00"', '"25:00"', 'time "25:00" is not of the form "HH:MM"', id="an hour that is none"
    ),
    pytest.param('"21:00"', "called.zone", "called.within() takes literals", id="a computed hour"),
    pytest.param(
        "call.commercial &&",
        "!facts.known &&",
        "a rule that tests facts.known may only allow",
        id="an unknown that blocks",
    ),
    pytest.param(
        "label = { en =",
        'label = { "e n" =',
        '"e n" is no language tag',
        id="a label without a language",
    ),
    pytest.param(
        '"Marketing"', '"Mark\\neting"', "a label is one line of text", id="a label of two lines"
    ),
    pytest.param(
        '"Network Blocked"',
        '"Network\\r\\nX: y"',
        "a control character, '\\r', in what goes into a SIP header",
        id="a line end in a phrase",
    ),
    pytest.param('"{id}"', '"a\\nb"', "a control character, '\\n'", id="a line end in a header"),
    pytest.param("X-Case", '"X:Case"', "is no header name", id="a header name with a colon"),
    pytest.param(
        "id={id}",
        "id={call_id}",
        "{call_id} is not filled in; {id} and {redress} are",
        id="a placeholder of nowhere",
    ),
    pytest.param(
        'redress = "https://redress.example/t"', "", "has no redress to fill in", id="no redress"
    ),
    pytest.param(
        "https://redress.example/t",
        "http://redress.example/",
        "redress is an https URL",
        id="a redress that is no URL",
    ),
    pytest.param(
        '"v=analytics1;url',
        '"url=x;v=analytics1;url',
        'begins with "v=analytics1;"',
        id="an analytics text that begins otherwise",
    ),
    pytest.param(
        "url={redress};",
        "",
        "names a url (https), tel or email",
        id="an analytics text without a contact",
    ),
    pytest.param(
        "code = 603",
        "code = 200",
        "a final answer is 300 to 699, found 200",
        id="an answer that is none",
    ),
    pytest.param(
        "[sip.analytics]",
        "[sip.analitics]",
        'did you mean "analytics"?',
        id="an answer for no cause",
    ),
    pytest.param(
        'default = "allow"', 'default = "ring"', '"ring" is no action', id="a default that is none"
    ),
    pytest.param('revision = "1"', 'revision = "1 2"', "revision", id="a revision with a space"),
    pytest.param("[ruleset]", "[define.x]", "no [ruleset] table in the pack", id="no head"),
    pytest.param(
        'action = "block", cause',
        'action = "warn", cause',
        'case "refused" fails: expected warn subscriber_refusal t.block, found block ',
        id="a case that fails",
    ),
    pytest.param(
        'listed = ["loans"]',
        "listed = []",
        "found allow default default; t.block came to false with call.category = 'loans', ",
        id="a case whose rule does not match",
    ),
    pytest.param(
        'rule = "t.block"',
        'rule = "t.blok"',
        '"t.blok" is no rule of this set; did you mean "t.block"?',
        id="a case of an unknown rule",
    ),
    pytest.param(
        "called = ", "caled = ", 'did you mean "called"?', id="a case of an unknown field"
    ),
    pytest.param(
        'listed = ["loans"]',
        'listed = ["loan"]',
        't/rules.toml:49:21: "loan" is no category; did you mean "loans"?',
        id="a case of an unknown category",
    ),
    pytest.param(
        "America/New_York", "America/New_Yrok", "is no IANA time zone", id="a case of no zone"
    ),
    pytest.param(
        "2026-11-23T17:00Z",
        "2026-11-23T17:00",
        "at is an RFC 3339 instant",
        id="a case at no instant",
    ),
    pytest.param(
        'purpose = "loans"',
        'purpose = "loanz"',
        'did you mean "loans"?',
        id="a case of an unknown purpose",
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    MISTAKES,
)
def test_a_mistake_is_told_with_its_place(before: str, after: str, message: str) -> None:
    """File, line, column, the line underlined, and what was probably meant."""
    assert before in GOOD
    with pytest.raises(RuleSetError) as refused:
        read(GOOD.replace(before, after, 1))
    text = str(refused.value)
    assert message in text
    first = refused.value.problems[0]
    assert first.file == "t/rules.toml"
    if first.line:
        assert first.excerpt.split("\n")[1].strip() == "^" * first.excerpt.count("^")


def test_every_problem_is_told_at_once() -> None:
    """Two mistakes, two problems, in the order of the file."""
    text = GOOD.replace('then = "allow"', 'then = "alow"').replace("call.commercial", "call.comm")
    with pytest.raises(RuleSetError) as refused:
        read(text)
    assert [problem.line for problem in refused.value.problems] == [20, 27]


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ("'called.personal == \"allow\"    && call.vouched'",
         '"t.allow" above has the same condition'),
        ("'call.commercial && false'", "its condition is always false"),
    ],
    ids=["a copy", "a contradiction"],
)  # fmt: skip
def test_a_rule_that_is_never_reached_is_a_warning(when: str, reason: str) -> None:
    """The set is used all the same."""
    extra = GOOD.split("[[rule]]")[1].replace("t.allow", "t.late")
    old = "'called.personal == \"allow\" && call.authenticated'"
    assert old in extra
    (warning,) = read(f"{GOOD}\n[[rule]]{extra.replace(old, when)}").warnings
    assert warning.message == f'rule "t.late" is never reached: {reason}'
    assert warning.line > GOOD.count("\n")


def test_nothing_is_reached_below_a_rule_that_always_matches() -> None:
    """Each rule below it is warned of."""
    text = GOOD.replace('called.personal == "allow" && call.authenticated', "true")
    text = text.split("[[case]]")[0]
    (warning,) = read(text).warnings
    assert warning.message == 'rule "t.block" is never reached: "t.allow" above always matches'


def test_a_fact_that_has_come_is_told() -> None:
    """The set is used, and its author learns that the rule need not wait any longer."""
    text = GOOD.replace("called.calls_30d", "call.redirect_count")
    (warning,) = read(text).warnings
    assert warning.message == "call.redirect_count is a fact by now: the rule needs not wait for it"


def test_coverage_counts_the_cases_of_each_rule() -> None:
    """By what each condition came to; a roll-out counts as complete, a safeguard tries none."""
    other = GOOD.split("[[case]]")[1].replace('"refused"', '"of no trade"')
    other = other.replace('purpose = "loans", ', "").replace(
        '"block", cause = "subscriber_refusal", rule = "t.block"', '"allow"'
    )
    emergency = other.replace('"of no trade"', '"emergency"').replace("+12125550101", "911")
    emergency = emergency.replace("at =", 'region = "US", at =')
    counted = coverage(read(f"{GOOD}\n[[case]]{other}\n[[case]]{emergency}"))
    assert [(each.rule.id, each.matched, each.passed, each.both_ways) for each in counted] == [
        ("t.allow", 0, 2, False),
        ("t.block", 1, 1, True),
        ("t.often", 0, 0, True),
    ]


def test_a_pack_of_two_files_is_one_set() -> None:
    """Cases may lie beside the rules, and the second [ruleset] is refused."""
    rules, cases = GOOD.split("[[case]]")
    pack = read_pack([Document("t/rules.toml", rules), Document("t/z.toml", f"[[case]]{cases}")])
    assert [case.name for case in pack.cases] == ["refused"]
    with pytest.raises(RuleSetError, match=r"t/z.toml:1:1: a second \[ruleset\] in the pack"):
        read_pack([Document("t/rules.toml", rules), Document("t/z.toml", rules.split("\n\n")[0])])
