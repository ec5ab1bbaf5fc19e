"""Who calls for commercial reasons and answers for it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

NOWHERE: Final = ("", 0)


class EntityStatus(StrEnum):
    """Whether an entity may call."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, order=True)
class Party:
    """Who stands on a ladder: an entity by its id, or a number for which none answers."""

    entity: int = 0
    number: int = 0


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
    stages: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Where it stands on the ladder of a country (ISO 3166-1): "notice", "restricted", "suspended"
    or "exposed", and the ledger's sequence of the event that put it there."""
    acts_for: int = 0
    """The entity that this telemarketer calls for, 0 for none: calls from its numbers are that
    one's, and so are the consents that permit them."""

    def stage_in(self, country: str) -> tuple[str, int]:
        """The stage in force for calls to a country, with its event; ("", 0) for none."""
        return self.stages.get(country, NOWHERE)

    @property
    def version(self) -> str:
        """Another one after each change of what is registered."""
        return hashlib.sha256(repr(replace(self, stages={})).encode()).hexdigest()[:16]
