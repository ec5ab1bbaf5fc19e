"""A pack: the TOML of one rule set, checked, compiled and proven by its own cases.

Every problem is found in one pass and names file, line and column, so that an author corrects a
set once and not once for each mistake.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rules import sip
from rules.cases import ACTIONS, Case, case_from, run
from rules.cel import (
    BOOL,
    DOUBLE,
    DURATION,
    INT,
    STRING,
    TIMESTAMP,
    CelError,
    Checked,
    Declarations,
    Variable,
    check,
    emit,
    parse,
)
from rules.cel import path as dotted
from rules.cel.syntax import Literal
from rules.document import Document, Path, Problem, Reader, RuleSetError
from rules.rule import Mode, Rule, SipAnswer
from rules.ruleset import RuleSet
from rules.schema import (
    ARGUMENT_CHECKS,
    FACTS_KNOWN,
    FUNCTIONS,
    REFUSES,
    VARIABLES,
    declarations,
)
from rules.verdict import Action, Cause

_TEXT: Final = (str,)
_TOP: Final[dict[str, tuple[type, ...]]] = {
    "ruleset": (dict,), "define": (dict,), "sip": (dict,), "rule": (list,), "case": (list,),
}  # fmt: skip
_RULESET: Final = dict.fromkeys(("name", "revision", "default", "redress", "about"), _TEXT)
_RULE: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("id", "when", "then", "cause", "why", "source", "mode"), _TEXT),
    "percent": (int, float),
    "despite_unknown": (bool,),
    "label": (dict,),
    "needs": (dict,),
}
_REQUIRED: Final = ("id", "when", "then", "cause", "why", "source")
_SIP: Final[dict[str, tuple[type, ...]]] = {
    "code": (int,), "phrase": _TEXT, "reason": _TEXT, "q850": (int,), "headers": (dict,),
}  # fmt: skip

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_ID: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_MACRO: Final = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*")
# RFC 5646 in outline: a language and its subtags.
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PLACEHOLDER: Final = re.compile(r"\{[^}]*\}?")
_FILLED: Final = ("{id}", "{redress}")
_TYPES: Final = {
    "bool": BOOL, "int": INT, "double": DOUBLE, "string": STRING,
    "timestamp": TIMESTAMP, "duration": DURATION,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pack:
    """A rule set with its cases, all of which it passes, and what its author should know.

    `macros` are the names that it defines. A worker has no cases: they have been run.
    """

    ruleset: RuleSet
    cases: tuple[Case, ...]
    warnings: tuple[Problem, ...] = ()
    macros: Mapping[str, str] = field(default_factory=dict)


def read_pack(documents: Sequence[Document]) -> Pack:
    """The pack that some TOML documents make together, rules in the order of the documents.

    Raises RuleSetError with every problem; a case that fails is one.
    """
    reading = _Reading([Reader(document) for document in documents])
    return reading.pack()


class _Reading:
    """One pack on its way from text to rules."""

    def __init__(self, readers: list[Reader]) -> None:
        self.readers = readers
        self.tables = [reader.table(reader.document.data, (), _TOP) for reader in readers]
        self.macros: dict[str, str] = {}
        self.ids: set[str] = set()
        self.rules: list[tuple[Rule, Reader, Path]] = []
        self.warnings: list[Problem] = []

    def pack(self) -> Pack:
        """The whole of it."""
        head, at = self._head()
        self._define()
        answers = self._sip(head.get("redress", ""))
        declared = declarations(self.macros)
        for reader, path, value in self._each("rule"):
            self._rule(value, reader, path, declared)
        cases = []
        ids = frozenset(self.ids)
        places: dict[str, tuple[Reader, Path]] = {}
        for reader, path, value in self._each("case"):
            case = case_from(value, reader, path, rules=ids)
            if case.name in places:
                reader.wrong((*path, "name"), f'a second case named "{case.name}"')
            places[case.name] = (reader, path)
            cases.append(case)
        self._raise()
        assert at is not None, "a pack without [ruleset] has been refused"  # noqa: S101
        ruleset = RuleSet(
            head["name"],
            head["revision"],
            ACTIONS[head["default"]],
            tuple(rule for rule, _, _ in self.rules),
            redress=head.get("redress", ""),
            sip=answers,
        )
        for name, message in run(ruleset, tuple(cases)).items():
            reader, path = places[name]
            reader.wrong((*path, "name"), f'case "{name}" fails: {message}')
        self._raise()
        self._unreachable()
        return Pack(ruleset, tuple(cases), tuple(self.warnings), self.macros)

    def _raise(self) -> None:
        problems = [problem for reader in self.readers for problem in reader.problems]
        if problems:
            raise RuleSetError(sorted(problems, key=lambda each: (each.file, each.line)))

    def _each(self, kind: str) -> "list[tuple[Reader, Path, object]]":
        return [
            (reader, (kind, index), value)
            for reader, table in zip(self.readers, self.tables, strict=True)
            for index, value in enumerate(table.get(kind, []))
        ]

    def _head(self) -> tuple[dict[str, Any], Path | None]:
        found: list[tuple[Reader, dict[str, Any]]] = []
        for reader, table in zip(self.readers, self.tables, strict=True):
            if "ruleset" in table:
                head = reader.table(
                    table["ruleset"],
                    ("ruleset",),
                    _RULESET,
                    required=("name", "revision", "default"),
                )
                found.append((reader, head))
        if not found:
            self.readers[0].wrong((), "no [ruleset] table in the pack")
            return {}, None
        for reader, _ in found[1:]:
            reader.wrong(("ruleset",), "a second [ruleset] in the pack")
        reader, head = found[0]
        at: Path = ("ruleset",)
        if "name" in head:
            self._match(reader, (*at, "name"), head["name"], _NAME, "name")
        if "revision" in head:
            self._match(reader, (*at, "revision"), head["revision"], _REVISION, "revision")
        if "default" in head:
            reader.choice(head["default"], (*at, "default"), ACTIONS, "action")
        redress = head.get("redress", "")
        if redress and not sip.REDRESS.fullmatch(redress):
            reader.wrong((*at, "redress"), "redress is an https URL, without ; (RFC 3986)")
        return head, at

    @staticmethod
    def _match(reader: Reader, path: Path, value: str, form: re.Pattern[str], what: str) -> bool:
        if form.fullmatch(value):
            return True
        reader.wrong(path, f'{what} "{value}" is not of the form {form.pattern}')
        return False

    def _define(self) -> None:
        places: list[tuple[Reader, str]] = []
        for reader, table in zip(self.readers, self.tables, strict=True):
            defined = table.get("define", {})
            for name, text in reader.table(
                defined, ("define",), dict.fromkeys(defined, _TEXT)
            ).items():
                at = ("define", name)
                if not _MACRO.fullmatch(name):
                    reader.wrong(at, f'"{name}" is no name for a condition', key=True)
                elif name in VARIABLES or name in FUNCTIONS:
                    reader.wrong(at, f"{name} is a fact and cannot be defined", key=True)
                elif name in self.macros:
                    reader.wrong(at, f"a second definition of {name}", key=True)
                else:
                    self.macros[name] = text
                    places.append((reader, name))
        declared = declarations(self.macros)
        for reader, name in places:
            self._condition(self.macros[name], reader, ("define", name), declared)

    def _condition(
        self, text: str, reader: Reader, path: Path, declared: Declarations
    ) -> Checked | None:
        """The condition, parsed and typed, or None with its problem noted."""
        try:
            checked = check(parse(text), declared)
            if checked.type == BOOL:
                emit(checked)  # it may be too deep for Python
        except CelError as error:
            # What is wrong with a macro has been told where it is defined.
            if path[0] == "define" or not error.message.startswith("in the definition of"):
                inside = (error.offset, error.length)
                reader.wrong(path, error.message, hint=error.hint, inside=inside)
            return None
        if checked.type != BOOL:
            reader.wrong(path, f"a condition is true or false; this one is {checked.type}")
            return None
        return checked if self._arguments(checked, reader, path) else None

    @staticmethod
    def _arguments(checked: Checked, reader: Reader, at: Path) -> bool:
        """Whether the functions of the called side are asked for what can be read for them."""
        good = True
        for function, checks in ARGUMENT_CHECKS.items():
            for arguments in checked.arguments(function):
                for argument, proves in zip(arguments, checks, strict=True):
                    if message := _argument_problem(function, argument, proves):
                        good = False
                        reader.wrong(at, message, inside=(argument.offset, argument.length))
        return good

    def _rule(self, value: object, reader: Reader, at: Path, declared: Declarations) -> None:
        data = reader.table(value, at, _RULE, required=_REQUIRED)
        count = len(reader.problems)
        if "id" in data:
            self._match(reader, (*at, "id"), data["id"], _ID, "id")
            if data["id"] in self.ids:
                reader.wrong((*at, "id"), f'a second rule with the id "{data["id"]}"')
            self.ids.add(data["id"])
        for name, words, what in (
            ("then", tuple(ACTIONS), "action"),
            ("cause", tuple(Cause), "cause"),
            ("mode", tuple(Mode), "mode"),
        ):
            if name in data:
                reader.choice(data[name], (*at, name), words, what)
        for name in ("why", "source"):
            if not data.get(name, "-").strip():
                reader.wrong((*at, name), f"{name} is empty")
        percent = data.get("percent", 100)
        if not 0 <= percent <= 100:
            reader.wrong((*at, "percent"), f"percent is 0 to 100, found {percent}")
        if "label" in data:
            self._label(data["label"], reader, (*at, "label"))
        needs = self._needs(data, reader, at)
        if needs:
            declared = declarations(self.macros, needs)
        condition = None
        if "when" in data:
            condition = self._condition(data["when"], reader, (*at, "when"), declared)
        if condition is None or count != len(reader.problems) or not data.keys() >= {*_REQUIRED}:
            return
        rule = Rule(
            id=data["id"],
            when=data["when"],
            condition=condition,
            action=ACTIONS[data["then"]],
            cause=Cause(data["cause"]),
            why=data["why"],
            source=data["source"],
            mode=Mode(data.get("mode", "enforce")),
            percent=percent,
            despite_unknown=data.get("despite_unknown", False),
            label=data.get("label"),
            needs=tuple(needs),
        )
        for name in needs:
            if name not in condition.uses:
                message = f"the condition does not name {name}"
                reader.wrong((*at, "needs", name), message, key=True)
        if (
            FACTS_KNOWN in condition.uses
            and rule.action is not Action.ALLOW
            and not rule.despite_unknown
        ):
            reader.wrong(
                (*at, "then"),
                f"a rule that tests {FACTS_KNOWN} may only allow, or an outage would make the "
                "verdict harsher; despite_unknown = true says that it shall",
            )
        self.rules.append((rule, reader, at))

    def _needs(self, data: dict[str, Any], reader: Reader, at: Path) -> dict[str, Variable]:
        """The facts that a rule waits for, with the types that its author expects of them.

        So typed, a condition is checked as a whole though it cannot be asked yet.
        """
        if "needs" not in data:
            return {}
        if data.get("mode") != Mode.OFF:
            message = 'a rule that needs facts which do not exist yet has mode = "off"'
            reader.wrong((*at, "needs"), message, key=True)
        coming: dict[str, Variable] = {}
        fields = dict.fromkeys(data["needs"], _TEXT)
        for name, kind in reader.table(data["needs"], (*at, "needs"), fields).items():
            place = (*at, "needs", name)
            if not _MACRO.fullmatch(name):
                reader.wrong(place, f'"{name}" is no name for a fact', key=True)
            elif name in VARIABLES:
                message = f"{name} is a fact by now: the rule needs not wait for it"
                self.warnings.append(reader.document.problem(place, message, key=True))
            elif reader.choice(kind, place, tuple(_TYPES), "type of a fact"):
                coming[name] = Variable(_TYPES[kind], "None", "not there yet")
        return coming

    @staticmethod
    def _label(label: dict[str, Any], reader: Reader, at: Path) -> None:
        for language, text in reader.table(label, at, dict.fromkeys(label, _TEXT)).items():
            if not _LANGUAGE.fullmatch(language):
                reader.wrong((*at, language), f'"{language}" is no language tag', key=True)
            if not text.strip() or _CONTROL.search(text):
                reader.wrong((*at, language), "a label is one line of text")

    def _sip(self, redress: str) -> dict[Cause, SipAnswer]:
        answers: dict[Cause, SipAnswer] = {}
        for reader, table in zip(self.readers, self.tables, strict=True):
            for name, value in table.get("sip", {}).items():
                at: Path = ("sip", name)
                if not reader.choice(name, at, tuple(Cause), "cause"):
                    continue
                if Cause(name) in answers:
                    reader.wrong(at, f"a second answer for {name}")
                data = reader.table(value, at, _SIP, required=("code", "phrase"))
                code, q850 = data.get("code", 603), data.get("q850", 21)
                if not 300 <= code <= 699:
                    reader.wrong((*at, "code"), f"a final answer is 300 to 699, found {code}")
                if not 1 <= q850 <= 127:
                    reader.wrong((*at, "q850"), f"a Q.850 cause is 1 to 127, found {q850}")
                headers = self._headers(data, reader, at, redress)
                answers[Cause(name)] = SipAnswer(
                    code, data.get("phrase", ""), data.get("reason", ""), q850, headers
                )
        return answers

    def _headers(
        self, data: dict[str, Any], reader: Reader, at: Path, redress: str
    ) -> tuple[tuple[str, str], ...]:
        """The headers of an answer; every value of the answer that goes on the wire is proven."""
        values = [((*at, name), data[name]) for name in ("phrase", "reason") if name in data]
        known_before = len(reader.problems)
        headers = data.get("headers", {})
        texts = reader.table(headers, (*at, "headers"), dict.fromkeys(headers, _TEXT))
        for name, value in texts.items():
            values.append(((*at, "headers", name), value))
        for place, value in values:
            if found := _CONTROL.search(value):
                message = f"a control character, {found[0]!r}, in what goes into a SIP header"
                reader.wrong(place, message, inside=(found.start(), 1))
            for match in _PLACEHOLDER.finditer(value):
                inside = (match.start(), len(match[0]))
                if match[0] not in _FILLED:
                    known = " and ".join(_FILLED)
                    reader.wrong(place, f"{match[0]} is not filled in; {known} are", inside=inside)
                elif match[0] == "{redress}" and not redress:
                    reader.wrong(place, "[ruleset] has no redress to fill in", inside=inside)
        if len(reader.problems) == known_before and "phrase" in data:
            for path, message in sip.faults(
                code=data.get("code", 603),
                phrase=data["phrase"],
                reason=data.get("reason", ""),
                headers=texts,
                redress=redress,
            ):
                reader.wrong((*at, *path), message)
        return tuple(texts.items())

    def _unreachable(self) -> None:
        seen: dict[str, str] = {}
        always = ""
        for rule, reader, at in self.rules:
            if rule.mode is Mode.OFF:
                continue
            emitted = emit(rule.syntax)
            text = emitted.must
            reason = ""
            if always:
                reason = f'"{always}" above always matches'
            elif text == "False":
                reason = "its condition is always false"
            elif text in seen:
                reason = f'"{seen[text]}" above has the same condition'
            if reason:
                message = f'rule "{rule.id}" is never reached: {reason}'
                self.warnings.append(reader.document.problem((*at, "when"), message))
            if rule.mode is Mode.ENFORCE and rule.percent == 100 and not rule.condition.can_fail:
                seen.setdefault(text, rule.id)
                always = always or (rule.id if text == "True" else "")


def _argument_problem(function: str, argument: Any, proves: Callable[[str], object]) -> str:
    """What is wrong with one argument of a function of the called side, or ""."""
    if not isinstance(argument, Literal):
        if function != REFUSES:
            return f"{function}() takes literals, so that they can be proven at load"
        if dotted(argument) == "call.category":
            return ""
        return (
            "called.refuses() takes call.category or a literal category: what is read of the "
            "index is known at load"
        )
    try:
        proves(str(argument.value))
    except KeyError:
        return f"{argument.value!r} is no category"
    except ValueError as error:
        return str(error)
    return ""
