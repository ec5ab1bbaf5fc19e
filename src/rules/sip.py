"""What may stand in the SIP answer to a blocked call: the grammar of its parts, checked at load.

https://www.rfc-editor.org/rfc/rfc3261#section-25.1 for the status line and headers, RFC 3326 for
Reason, RFC 8606 for its location, RFC 8688 for 608. What is filled in when a call is answered is
the decision's id, 26 letters and digits, and the set's redress, an https URL of URI characters:
neither can end a quoted string or a line, so what holds for a sample holds for every call.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

ID_SAMPLE: Final = "0123456789ABCDEFGHJKMNPQRS"

REDRESS: Final = re.compile(r"https://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,=%-]+")
"""RFC 3986, but for ";", which parts the fields of an analytics block, and what only escapes."""

# RFC 3261 section 25.1: a header name is a token. A value is one line: CR and LF would begin
# another header, and whoever can write a rule set could then write a whole message.
_TOKEN: Final = r"[A-Za-z0-9.!%*_+`'~-]+"  # noqa: S105 - of a grammar
_NAME: Final = re.compile(_TOKEN)
_ENDS: Final = r"\x00-\x1f\x7f\x85\u2028\u2029"
"""Control characters, and whatever anybody may take for the end of a line."""
_QUOTED: Final = rf'"(?:[^"\\{_ENDS}]|\\[\x20-\x7e])*"'
_PARAMETER: Final = rf";{_TOKEN}(?:=(?:{_TOKEN}|{_QUOTED}))?"
_VALUE: Final = rf"{_TOKEN}(?:{_PARAMETER})*"
_REASON: Final = re.compile(rf"{_VALUE}(?:, ?{_VALUE})*")
_PHRASE: Final = re.compile(rf"[^\"<>\\^`{{|}}#%{_ENDS}]+")
_LINE: Final = re.compile(rf"[^{_ENDS}]+")
_LOCATION: Final = re.compile(r";location=(LN|TN|RLN|LPN|RPN)(?:;|$)")
_CALL_INFO: Final = re.compile(r"<https://[^<>\s]+>(?:;.+)?")

OWN: Final = frozenset(
    {
        "via", "v", "to", "t", "from", "f", "call-id", "i", "cseq", "contact", "m", "route",
        "record-route", "content-length", "l", "content-type", "c", "max-forwards", "reason",
    }
)  # fmt: skip
"""Headers that are the switch's own, or that have a place of their own in an answer."""


def fill(text: str, *, decision_id: str, redress: str) -> str:
    """A text of an answer with its placeholders filled."""
    return text.replace("{id}", decision_id).replace("{redress}", redress)


def faults(
    *, code: int, phrase: str, reason: str, headers: Mapping[str, str], redress: str
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with an answer, each with the path of the part at fault."""

    def filled(text: str) -> str:
        return fill(text, decision_id=ID_SAMPLE, redress=redress)

    if not _PHRASE.fullmatch(phrase):
        yield ("phrase",), 'a reason phrase is one line without "<>\\^`{|}#% (RFC 3261)'
    if reason and not _REASON.fullmatch(filled(reason)):
        message = 'expected a Reason such as Q.850;cause=21;text="why" (RFC 3326)'
        yield ("reason",), message
    if "v=analytics1" in reason:
        yield from _analytics(code, phrase, filled(reason))
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            yield ("headers", name), f"{name!r} is no header name"
        elif name.lower() in OWN:
            yield ("headers", name), f"{name} is not for a rule set to give"
        elif not _LINE.fullmatch(filled(value)):
            yield ("headers", name), "the value of a header is one line of text"
    given = {name.lower(): value for name, value in headers.items()}
    if code == 608 and not _CALL_INFO.fullmatch(filled(given.get("call-info", ""))):
        yield ("headers",), "a 608 says in Call-Info where to object, <https://…> (RFC 8688)"


def _analytics(code: int, phrase: str, reason: str) -> Iterator[tuple[tuple[str, ...], str]]:
    # Switches tell an analytics block from a decline by phrase and how the text begins, and the
    # callers whom it hits must be told where to turn.
    if (code, phrase) != (603, "Network Blocked"):
        yield ("phrase",), 'an analytics block is 603 "Network Blocked"'
    text = re.search(r'text="([^"]*)"', reason)
    if text is None or not text[1].startswith("v=analytics1;"):
        yield ("reason",), 'the text of an analytics block begins with "v=analytics1;"'
    elif not re.search(r";(?:url=https://|tel=\+|email=)", text[1]):
        yield ("reason",), "the text of an analytics block names a url (https), tel or email"
    if not _LOCATION.search(reason):
        yield ("reason",), "an analytics block has a location: LN, TN, RLN, LPN or RPN (RFC 8606)"
