"""One step of the ladder, read from its event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from consent.entity import Party
from consent.event import Event


@dataclass(frozen=True, slots=True)
class Stepped:
    """One step as the ledger has it; `at` and `since` are epoch seconds."""

    sequence: int
    at: float
    party: Party
    jurisdiction: str
    step: str
    stage: str
    in_force: str
    level: int
    since: float
    over: bool
    paused: bool
    ladder: str
    weight: float
    complainants: int
    complaints: tuple[int, ...]
    reverses: int
    reason: str
    notice: Mapping[str, str]
    """What the caller is told, by language; "{appeal}" stands for the reference of the step."""

    @property
    def reference(self) -> str:
        """By which an appeal names the step."""
        return f"{self.jurisdiction}-{self.sequence}"

    @classmethod
    def of(cls, event: Event) -> Self:
        """The step that an event is."""
        body = event.body
        return cls(
            event.sequence,
            event.at,
            Party(body.get("entity", 0), event.called),
            body["jurisdiction"],
            body["step"],
            body["stage"],
            body["in_force"],
            body["level"],
            body["since_us"] / 1e6,
            body["over"],
            body["paused"],
            body["ladder"],
            body["weight"] / 100,
            body["complainants"],
            tuple(body["complaints"]),
            body["reverses"],
            body["reason"],
            body["notice"],
        )
