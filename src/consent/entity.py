"""Who calls for commercial reasons and answers for it."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum


class EntityStatus(StrEnum):
    """Whether an entity may call."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Entity:
    """A registered caller: its trades and the numbers it calls from.

    `id` is the 32-bit number that consents name and is never given again; `name` a slug;
    `numbers` and `ranges` (both ends included) are digits with country code as integers, and no
    two entities share one.
    """

    id: int
    name: str
    title: str
    categories: tuple[str, ...]
    numbers: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]
    status: EntityStatus = EntityStatus.ACTIVE
    stage: str = ""
    """Where it stands on the ladder: "notice", "restricted", "suspended", "exposed" or ""."""
    acts_for: int = 0
    """The entity that this telemarketer calls for, 0 for none: calls from its numbers are that
    one's, and so are the consents that permit them."""

    @property
    def version(self) -> str:
        """Another one after each change of what is registered."""
        return hashlib.sha256(repr(replace(self, stage="")).encode()).hexdigest()[:16]
