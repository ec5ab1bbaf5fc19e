"""The call mix that load tests ask about: seeded, so that two runs ask the same.

Only reserved and example numbers; called numbers spread over the reserved ranges, so that some
are listed in the sample registry and most are not.
"""

import itertools
import random
from collections.abc import Iterator
from typing import Any, Final

SHARES: Final = (
    ("ordinary", 0.62),
    ("commercial", 0.20),
    ("anonymous", 0.05),
    ("international", 0.05),
    ("service_number", 0.04),
    ("retransmission", 0.03),
    ("emergency", 0.005),
    ("garbage", 0.005),
)
"""Kinds of call and their shares of the mix; they add up to one."""

COUNTRIES: Final = {
    "US": ("+1212555", 4, "01"),
    "GB": ("+447700900", 3, ""),
    "CN": ("+8613123456", 3, ""),
}
"""Prefix, digits to add, and what those begin with, of numbers that nobody has."""

_COMMERCIAL_CALLING: Final = ("+12125550123", "+12125550142", "+441632960100")


def _number(rng: random.Random, country: str) -> str:
    prefix, digits, lead = COUNTRIES[country]
    free = digits - len(lead)
    return f"{prefix}{lead}{rng.randrange(10**free):0{free}d}"


def questions(seed: int) -> Iterator[dict[str, Any]]:
    """An endless, seeded stream of questions in the form of the lookup contract."""
    rng = random.Random(seed)
    kinds = [kind for kind, _ in SHARES]
    weights = [share for _, share in SHARES]
    last: dict[str, Any] = {}
    for n in itertools.count():
        kind = rng.choices(kinds, weights)[0]
        if kind == "retransmission" and last:
            yield last
            continue
        country = rng.choice(("US", "US", "CN", "GB"))
        last = {
            "call_id": f"{seed:x}-{n:x}",
            "calling": _number(rng, country),
            "called": _number(rng, country),
            "attestation": rng.choice(("A", "A", "B", "C")),
            "verstat": "TN-Validation-Passed",
            "side": "terminating",
        }
        if kind == "commercial":
            last["calling"] = rng.choice(_COMMERCIAL_CALLING)
        elif kind == "anonymous":
            last["calling"] = "anonymous"
        elif kind == "international":
            last |= {"calling": _number(rng, "GB"), "route": "international"}
        elif kind == "service_number":
            last |= {"calling": "95588", "region": "CN", "called": _number(rng, "CN")}
        elif kind == "emergency":
            last["called"] = rng.choice(("112", "911", "urn:service:sos"))
        elif kind == "garbage":
            last["calling"] = "".join(rng.choices("abc%$<>+0123", k=rng.randrange(1, 30)))
        yield last
