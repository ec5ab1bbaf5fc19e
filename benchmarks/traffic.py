"""The calls that load tests and benchmarks ask about: seeded, so that two runs ask the same.

A mix of kinds with their shares, campaigns that come in bursts from one number, and forks and
retransmissions that ask again about a call of a moment ago. Who calls and who is called is said
by `People`: here the reserved and example numbers, of which some are in the sample registry;
`benchmarks.nation` has those of a registry of a nation's size.
"""

import itertools
import json
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

SHARES: Final = (
    ("ordinary", 0.66),
    ("commercial", 0.16),
    ("anonymous", 0.05),
    ("international", 0.05),
    ("service_number", 0.04),
    ("retransmission", 0.03),
    ("emergency", 0.005),
    ("garbage", 0.005),
)
"""Kinds of call and their shares of the mix; they add up to one."""

CAMPAIGN_BEGINS: Final = 0.001
"""The chance that a campaign begins with a call; while it lasts, half of the calls are its own."""
CAMPAIGN_CALLS: Final = (40, 200)
"""The fewest and the most calls of a campaign: about a tenth of all calls are of one."""

RECENT_CALLS: Final = 16
"""A retransmission repeats one of so many calls before it."""

COUNTRIES: Final = {
    "US": ("+1212555", 4, "01"),
    "GB": ("+447700900", 3, ""),
    "CN": ("+8613123456", 3, ""),
}
"""Prefix, digits to add, and what those begin with, of numbers that nobody has."""

_COMMERCIAL_CALLING: Final = ("+12125550123", "+12125550142", "+441632960100")
_GARBAGE: Final = "abc%$<>+0123"


class People(Protocol):
    """Who takes part in the calls; every choice is drawn from the generator that is given."""

    def pair(self, rng: random.Random) -> tuple[str, str]:
        """The calling and the called number of an ordinary call."""

    def business(self, rng: random.Random) -> tuple[str, str]:
        """A calling number of a business, and a called number that it has reason to call."""

    def abroad(self, rng: random.Random) -> str:
        """A calling number of another country."""

    def service(self, rng: random.Random) -> tuple[str, str, str]:
        """A calling number that is a service code, its region, and a called number there."""


class Examples:
    """Numbers that nobody has, of three countries."""

    def pair(self, rng: random.Random) -> tuple[str, str]:
        country = rng.choice(("US", "US", "CN", "GB"))
        return _number(rng, country), _number(rng, country)

    def business(self, rng: random.Random) -> tuple[str, str]:
        return rng.choice(_COMMERCIAL_CALLING), self.pair(rng)[1]

    def abroad(self, rng: random.Random) -> str:
        return _number(rng, "GB")

    def service(self, rng: random.Random) -> tuple[str, str, str]:
        return "95588", "CN", _number(rng, "CN")


def _number(rng: random.Random, country: str) -> str:
    prefix, digits, lead = COUNTRIES[country]
    free = digits - len(lead)
    return f"{prefix}{lead}{rng.randrange(10**free):0{free}d}"


def questions(seed: int, people: People | None = None) -> Iterator[dict[str, Any]]:
    """An endless, seeded stream of questions in the form of the lookup contract."""
    people = people or Examples()
    rng = random.Random(seed)
    kinds = [kind for kind, _ in SHARES]
    weights = list(itertools.accumulate(share for _, share in SHARES))
    recent: deque[dict[str, Any]] = deque(maxlen=RECENT_CALLS)
    campaign, campaign_left = "", 0
    for n in itertools.count():
        kind = rng.choices(kinds, cum_weights=weights)[0]
        if kind == "retransmission" and recent:
            yield rng.choice(recent)
            continue
        if not campaign_left and rng.random() < CAMPAIGN_BEGINS:
            campaign, campaign_left = people.pair(rng)[0], rng.randint(*CAMPAIGN_CALLS)
        calling, called = people.pair(rng)
        asked = {
            "call_id": f"{seed:x}-{n:x}",
            "calling": calling,
            "called": called,
            "attestation": rng.choice(("A", "A", "B", "C")),
            "verstat": "TN-Validation-Passed",
            "side": "terminating",
        }
        if campaign_left and rng.random() < 0.5:
            campaign_left -= 1
            asked["calling"] = campaign
        elif kind == "commercial":
            asked["calling"], asked["called"] = people.business(rng)
        elif kind == "anonymous":
            asked["calling"] = "anonymous"
        elif kind == "international":
            asked |= {"calling": people.abroad(rng), "route": "international"}
        elif kind == "service_number":
            asked["calling"], asked["region"], asked["called"] = people.service(rng)
        elif kind == "emergency":
            asked["called"] = rng.choice(("112", "911", "urn:service:sos"))
        elif kind == "garbage":
            asked["calling"] = "".join(rng.choices(_GARBAGE, k=rng.randrange(1, 30)))
        recent.append(asked)
        yield asked


ID: Final = "@" * 12
"""Stands for a call_id that whoever asks fills in: no two calls of a run may share one."""


def write_questions(file: Path, seed: int, count: int, people: People | None = None) -> None:
    """So many questions for the programs that ask fast, a line each.

    A line begins with N, or with R where it repeats the one before it: the same call again.
    """
    seen: set[str] = set()
    lines: list[str] = []
    for asked in itertools.islice(questions(seed, people), count):
        if asked["call_id"] in seen:
            lines.append("R" + lines[-1][1:])
            continue
        seen.add(asked["call_id"])
        lines.append("N" + json.dumps(asked | {"call_id": ID}, separators=(",", ":")))
    file.write_text("\n".join(lines) + "\n", "utf-8")
