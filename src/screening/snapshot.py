"""What a worker last knew of the record, on local disk: it starts from it with the record gone."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from consent.record import ListKind, Record

FILE: Final = "catalogue.json"


@dataclass(frozen=True, slots=True)
class ListInForce:
    """A list and its generation in force; `since` and `stale_at` (0: never) are epoch seconds."""

    list_id: int
    name: str
    kind: str
    generation: int
    category: str
    region: str
    entries: int
    since: float
    stale_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The lists in force, and the epoch of the index that holds them."""

    revision: int = -1
    epoch: str = ""
    lists: tuple[ListInForce, ...] = ()

    @classmethod
    def of(cls, record: Record) -> Self:
        """What the record says now. Raises RecordUnavailable."""
        revision = record.revision()
        lists = tuple(
            ListInForce(
                list_id=each.id,
                name=each.name,
                kind=each.kind,
                generation=each.active.generation,
                category=each.category,
                region=each.region,
                entries=each.active.loaded,
                since=each.active.activated_at or each.active.loaded_at,
                stale_at=each.active.loaded_at + each.max_age_s if each.max_age_s else 0.0,
            )
            for each in record.catalogue.lists()
            if each.active is not None
        )
        return cls(revision=revision, epoch=record.index_epoch(), lists=lists)

    def calling_generations(self) -> dict[str, int]:
        """The calling-side lists in force, with their generations."""
        return {each.name: each.generation for each in self.lists if each.kind != ListKind.DNC}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The snapshot in `folder`; an empty catalogue where there is none that can be read."""
        try:
            content = json.loads((folder / FILE).read_bytes())
            lists = tuple(ListInForce(**each) for each in content["lists"])
            # The record decides anew once it is there, so the revision is not taken over.
            return cls(epoch=content["epoch"], lists=lists)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def save(self, folder: Path) -> None:
        """Write the snapshot, whole or not at all."""
        beside = folder / (FILE + ".new")
        beside.write_text(json.dumps(asdict(self), indent=1) + "\n")
        beside.replace(folder / FILE)
