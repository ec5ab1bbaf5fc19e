"""Addresses as signalled, taken apart: what was dialled, in which context, at which host.

The grammar is that of tel URIs (RFC 3966) and sip URIs (RFC 3261, section 19.1.1), read
leniently: a switch hands over whatever it was sent, and nothing here raises.
"""

import re
import unicodedata
from typing import Final, NamedTuple
from urllib.parse import unquote

LONGEST: Final = 512
"""Characters of an address that are looked at; no number needs them."""

_SEPARATORS: Final = dict.fromkeys(
    map(
        ord,
        # Visual separators of RFC 3966, what people write, and marks that copying leaves behind.
        " -.()/~\u00a0\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
        "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2069\ufeff",
    )
)
_FULL_WIDTH: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_SCHEME: Final = re.compile(r"(sips?|tel|urn):", re.ASCII | re.IGNORECASE)
# A sip URI without user names a host, and still a number if it looks like one.
_DIGITS: Final = re.compile(r"\+?[0-9]+(?:[;:?]|$)", re.ASCII)
# What switches send nearly always: a number, a host and nothing that changes the number.
_PLAIN: Final = re.compile(r"(?:sips?|tel):(\+?[0-9]+)(?:@([^;:?<>]*)[^<>]*)?", re.ASCII)
# Pauses and extensions after the number, and the end-of-pulsing signal that ISUP sends as F.
_TAIL: Final = re.compile(
    r"(?:[,pw].*|(?:#|x|ext\.?|extension)\d{0,11}|f)$", re.ASCII | re.IGNORECASE
)


class Address(NamedTuple):
    """`user` is a `+` and digits where the address names a number, else the user part as sent.

    `context` is the phone-context (RFC 3966), `host` that of a sip URI in lower case, `urn`
    the whole of a URN in lower case; each is "" where there is none.
    """

    user: str
    context: str
    host: str
    urn: str


def take_apart(text: str) -> Address:
    """The parts of an address; a text in no known form is its own user part."""
    plain = _PLAIN.fullmatch(text, 0, LONGEST)
    if plain:
        return Address(plain[1], "", (plain[2] or "").lower(), "")
    text = text[:LONGEST].strip()
    if not text.isascii():
        text = plain_digits(text)
    # name-addr: the URI stands in angle brackets after a display name, which may hold anything.
    opening = text.rfind("<")
    if opening >= 0:
        text = text[opening + 1 :].partition(">")[0].strip()
    scheme = _SCHEME.match(text)
    if scheme:
        if scheme[1].lower() == "urn":
            return Address("", "", "", text.partition(";")[0].lower())
        text = text[scheme.end() :]
        if scheme[1].lower() != "tel" and "@" not in text and not _DIGITS.match(text):
            return Address("", "", text.lower(), "")
    # A tel URI's phone-context may be a domain, but never holds an @.
    user, _, host = text.partition("@")
    user, *parameters = user.split(";")
    context = ""
    for parameter in parameters:
        name, _, setting = parameter.partition("=")
        if name.strip().lower() == "phone-context":
            context = unquote(setting).translate(_SEPARATORS)
    if host or scheme:
        user = user.partition(":")[0]  # a password, or the port of a URI without user
    number = unquote(user) if "%" in user else user
    number = number.translate(_SEPARATORS)
    if number[:1] in "+0123456789":
        number = _TAIL.sub("", number)
    host = host.partition(";")[0].partition("?")[0].partition(":")[0].lower()
    return Address(number, context, host, "")


def plain_digits(text: str) -> str:
    """The text with full-width characters and other scripts' digits as ASCII ones."""
    return "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character
        for character in text.translate(_FULL_WIDTH)
    )
