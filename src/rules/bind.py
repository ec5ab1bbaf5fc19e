"""What worker memory knows of the calling side, put onto a call before the rules are asked."""

from collections.abc import Mapping
from typing import Protocol

from consent.category import NOT_COMMERCIAL
from consent.entity import NOWHERE
from consent.series import series_of
from rules.call import Call


class Entity(Protocol):
    """Who answers for a calling number, and for which trades it is registered."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def categories(self) -> tuple[str, ...]: ...
    def stage_in(self, country: str, /) -> tuple[str, int]: ...


class CallingSide(Protocol):
    """The lists and registrations of calling numbers, by value (digits with country code)."""

    def flags(self, value: int, /) -> int:
        """The network lists that name the number: bits of consent.calling."""

    def entity_of(self, value: int, /) -> Entity | None:
        """The entity registered for the number."""

    @property
    def numbers(self) -> Mapping[int, Mapping[str, tuple[str, int]]]:
        """The numbers that stand on the ladder themselves, by country, with the event."""


def bind(call: Call, calling_side: CallingSide) -> None:
    """Fills what the calling side adds: lists, entity, category and what it rests on.

    The category is the asserted purpose, else that of an entity with exactly one, else that of
    the number's series: an entity of several trades says nothing of this call.
    """
    value = call.calling.value
    entity = None
    if value:
        call.network = calling_side.flags(value)
        entity = calling_side.entity_of(value)
    if entity is not None:
        call.entity_id, call.entity = entity.id, entity.name
        call.entity_stage, call.entity_stage_event = entity.stage_in(call.called.country)
    # Its own, too, until the entity that has come to answer for it has taken it over.
    if calling_side.numbers and not call.entity_stage and value in calling_side.numbers:
        stages = calling_side.numbers[value]
        call.entity_stage, call.entity_stage_event = stages.get(call.called.country, NOWHERE)
    if call.purpose:
        category, basis = call.purpose, "purpose"
    elif entity is not None and len(entity.categories) == 1:
        category, basis = entity.categories[0], "entity"
    elif call.calling.series and (series := series_of(value, call.calling.country)) is not None:
        category = series.category
        basis = "series" if category else ""
    else:
        category = basis = ""
    call.category, call.category_basis = category, basis
    call.commercial = category not in NOT_COMMERCIAL
