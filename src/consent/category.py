"""What a commercial call may be for: one taxonomy that every list, consent and rule speaks.

Each category has a bit: it names the do-not-call bitmap of the index and the position in the
masks of profiles and consents. A bit, once given, is never given to another category.
"""

from enum import StrEnum
from typing import Final


class Category(StrEnum):
    """The trade a call is made for; `ALL` stands for every commercial call."""

    ALL = "all"
    LOANS = "loans"
    PROPERTY = "property"
    EDUCATION = "education"
    SECURITIES = "securities"
    INSURANCE = "insurance"
    RECRUITMENT = "recruitment"
    HOUSEKEEPING = "housekeeping"
    MATERNITY = "maternity"
    VISAS = "visas"
    BANKING = "banking"
    HEALTH = "health"
    CONSUMER_GOODS = "consumer_goods"
    COMMUNICATION = "communication"
    TOURISM = "tourism"
    FOOD = "food"
    DEBT_RELIEF = "debt_relief"
    ENERGY = "energy"
    HOME_IMPROVEMENT = "home_improvement"
    PRIZES = "prizes"
    WARRANTIES = "warranties"
    TECH_SUPPORT = "tech_support"
    HOME_SECURITY = "home_security"
    SERVICE = "service"
    SURVEY = "survey"
    CHARITY = "charity"
    POLITICAL = "political"
    TRANSACTIONAL = "transactional"


BIT: Final[dict[str, int]] = {
    "all": 0,
    "loans": 1,
    "property": 2,
    "education": 3,
    "securities": 4,
    "insurance": 5,
    "recruitment": 6,
    "housekeeping": 7,
    "maternity": 8,
    "visas": 9,
    "banking": 10,
    "health": 11,
    "consumer_goods": 12,
    "communication": 13,
    "tourism": 14,
    "food": 15,
    "debt_relief": 16,
    "energy": 17,
    "home_improvement": 18,
    "prizes": 19,
    "warranties": 20,
    "tech_support": 21,
    "home_security": 22,
    "service": 40,
    "survey": 41,
    "charity": 42,
    "political": 43,
    "transactional": 44,
}
"""The bit of each category, 0 to 63: commercial trades below 40, the others from 40."""

NOT_COMMERCIAL: Final = frozenset(
    {"", "service", "survey", "charity", "political", "transactional"}
)
"""Categories that are no marketing; `""` is a call of which nothing is known."""


def mask(categories: "frozenset[str] | set[str] | tuple[str, ...] | list[str]") -> int:
    """The categories as a 64-bit mask. Raises KeyError for a name that is no category."""
    bits = 0
    for category in categories:
        bits |= 1 << BIT[category]
    return bits
