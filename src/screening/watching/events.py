"""What the watch hears: calls, their ends and complaints, of parties without numbers.

A number and a block of numbers are integers that stand for their tokens in the decision record
(`number_of`); an entity is its id, a trunk its name.
"""

from typing import Final, NamedTuple

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_TOKEN_LENGTH: Final = 16


class Call(NamedTuple):
    """A call that was asked about for the first time; `at` is epoch seconds."""

    at: float
    id: str
    calling: int
    block: int
    called: int
    entity: int = 0
    trunk: str = ""
    vouched: bool = False
    """Attested in full and verified, or by a client or trunk that vouches."""
    consented: bool = False
    refused: bool = False
    """The called party's own refusal, or want of consent: not what is known of the caller."""
    neighbour: bool = False
    """The calling number lies in the same ten thousand as the called one."""


class End(NamedTuple):
    """What became of a call, once; `block` is 0 where it is not told."""

    at: float
    calling: int
    block: int
    entity: int = 0
    trunk: str = ""
    answered: bool = False
    short: bool = False
    """Answered, and over within six seconds."""


class Complaint(NamedTuple):
    """A complaint about a call that is in the record."""

    at: float
    calling: int
    block: int
    entity: int = 0
    trunk: str = ""


Event = Call | End | Complaint


def number_of(token: str) -> int:
    """The integer that stands for a token. Raises ValueError for what is none."""
    return int(token, 36)


def token_of(number: int) -> str:
    """The token that an integer stands for."""
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)).rjust(_TOKEN_LENGTH, "0")
