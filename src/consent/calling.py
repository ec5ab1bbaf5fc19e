"""The calling side in worker memory: who is on a network list, and who is registered.

Network lists are one immutable file, built outside of the workers, mapped by all of them and
swapped whole. It costs a lookup no read, and stands through an outage of everything else.

File: the magic, the length of a JSON head, the head, padding to eight bytes, then little-endian
arrays: numbers (u64, rising), starts and ends of ranges (u64, rising, disjoint), and for both a
u16 that names an entry of the head's `sets`: which lists name it.
"""

import json
import mmap
import os
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt

from consent.durable import written_whole
from consent.entity import Entity

_Copy = TypeVar("_Copy")

DNO: Final = 1
BLOCK: Final = 2
ALLOW: Final = 4
FLAG: Final = {"dno": DNO, "block": BLOCK, "allow": ALLOW}
"""The bit of each kind of calling-side list in `Call.network`."""

FILE: Final = "calling.bin"
ENTITIES: Final = "entities.json"
NUMBERS: Final = "numbers.json"
EXCEPTIONS: Final = "exceptions.json"
MOST_LISTS: Final = 64
_MAGIC: Final = b"CALLING1"
_HEAD: Final = struct.Struct("<8sI")

Values = npt.NDArray[np.uint64]


class CallingSideError(Exception):
    """A calling-side file cannot be used, or cannot be made; the message says which and why."""


@dataclass(frozen=True, slots=True)
class CallingList:
    """One list on its way into the file: `numbers` rise, `ranges` has both ends in each row."""

    name: str
    generation: int
    kind: str
    numbers: Values
    ranges: Values


def write_calling(folder: Path, lists: Sequence[CallingList]) -> None:
    """Write the file that holds these lists and no others, whole or not at all.

    Raises CallingSideError for more lists than it can tell apart, OSError where the folder
    cannot be written.
    """
    if len(lists) > MOST_LISTS:
        raise CallingSideError(
            f"{len(lists)} calling-side lists are in force, expected {MOST_LISTS} at most"
        )
    numbers, number_masks = _merged(lists)
    starts, ends, range_masks = _flattened(lists)
    masks, codes = np.unique(np.concatenate((number_masks, range_masks)), return_inverse=True)
    if len(masks) > np.iinfo(np.uint16).max:
        raise CallingSideError(f"the calling-side lists overlap in {len(masks)} ways")
    codes = codes.astype("<u2")
    body = b"".join(
        array.astype(kind).tobytes()
        for array, kind in (
            (numbers, "<u8"),
            (starts, "<u8"),
            (ends, "<u8"),
            (codes[: len(numbers)], "<u2"),
            (codes[len(numbers) :], "<u2"),
        )
    )
    sets = [[at for at in range(len(lists)) if mask >> at & 1] for mask in masks.tolist()]
    head = {
        "numbers": len(numbers),
        "ranges": len(starts),
        "crc32": zlib.crc32(body),
        "lists": [[each.name, each.generation, FLAG[each.kind]] for each in lists],
        "sets": sets,
    }
    text = json.dumps(head).encode()
    text += b" " * (-(_HEAD.size + len(text)) % 8)
    with written_whole(folder / FILE) as file:
        file.write(_HEAD.pack(_MAGIC, len(text)))
        file.write(text)
        file.write(body)


def _merged(lists: Sequence[CallingList]) -> tuple[Values, Values]:
    """Every number once, and the mask of the lists that name it."""
    numbers = np.concatenate([each.numbers for each in lists] or [np.zeros(0, np.uint64)])
    masks = np.concatenate(
        [np.full(len(each.numbers), 1 << at, np.uint64) for at, each in enumerate(lists)]
        or [np.zeros(0, np.uint64)]
    )
    order = np.argsort(numbers, kind="stable")
    numbers, masks = numbers[order], masks[order]
    first = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] + np.uint64(1)))
    if not len(first):
        return numbers, masks
    return numbers[first], np.bitwise_or.reduceat(masks, first)


def _flattened(lists: Sequence[CallingList]) -> tuple[Values, Values, Values]:
    """Disjoint ranges that cover what the lists' ranges cover, each with its mask of lists."""
    empty = np.zeros(0, np.uint64)
    edges = np.unique(
        np.concatenate(
            [empty, *(np.concatenate((r[:, 0], r[:, 1] + np.uint64(1))) for r in _ranges(lists))]
        )
    )
    if not len(edges):
        return empty, empty, empty
    masks = np.zeros(len(edges), np.uint64)
    for at, ranges in enumerate(_ranges(lists)):
        depth = np.zeros(len(edges) + 1, np.int64)
        np.add.at(depth, np.searchsorted(edges, ranges[:, 0]), 1)
        np.add.at(depth, np.searchsorted(edges, ranges[:, 1] + np.uint64(1)), -1)
        masks |= np.where(np.cumsum(depth[:-1]) > 0, np.uint64(1 << at), np.uint64(0))
    # The last edge only ends; neighbours with the same lists are one range.
    begins = np.flatnonzero(np.diff(masks, prepend=masks[:1] + np.uint64(1)))
    ends = np.append(edges[begins[1:]], edges[-1]) - np.uint64(1)
    held = masks[begins] != 0
    return edges[begins][held], ends[held], masks[begins][held]


def _ranges(lists: Sequence[CallingList]) -> list[Values]:
    return [each.ranges.reshape(-1, 2) for each in lists]


Exceptions = Mapping[int, frozenset[str]]
"""Numbers that are as if some lists, by their names, did not name them."""


class CallingLists:
    """The mapped file. Immutable; a newer file is a newer object."""

    __slots__ = ("_codes", "_ends", "_flags", "_kinds", "_numbers", "_range_codes", "_sets",
                 "_starts", "generations")  # fmt: skip

    def __init__(self, content: Any, head: Mapping[str, Any], offset: int) -> None:
        view = memoryview(content)
        count, ranges = int(head["numbers"]), int(head["ranges"])

        def take(kind: Literal["Q", "H"], length: int) -> "memoryview[int]":
            nonlocal offset
            size = length * struct.calcsize(kind)
            part = view[offset : offset + size].cast("B").cast(kind)
            offset += size
            return part

        self._numbers = take("Q", count)
        self._starts = take("Q", ranges)
        self._ends = take("Q", ranges)
        self._codes = take("H", count)
        self._range_codes = take("H", ranges)
        lists = [(str(name), int(flag)) for name, _, flag in head["lists"]]
        self._sets = tuple(tuple(lists[at][0] for at in each) for each in head["sets"])
        self._flags = tuple(_or(lists[at][1] for at in each) for each in head["sets"])
        self._kinds = dict(lists)
        self.generations: Final[dict[str, int]] = {
            str(name): int(generation) for name, generation, _ in head["lists"]
        }

    @classmethod
    def empty(cls) -> Self:
        """No lists at all."""
        return cls(b"", {"numbers": 0, "ranges": 0, "lists": [], "sets": []}, 0)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the file in `folder`; empty where there is none. Raises CallingSideError."""
        path = folder / FILE
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < _HEAD.size:
                    raise CallingSideError(f"{path} is cut: it has no head")
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return cls.empty()
        except OSError as error:
            raise CallingSideError(f"{path}: {error.strerror}") from error
        magic, length = _HEAD.unpack_from(content)
        if magic != _MAGIC:
            raise CallingSideError(f"{path} is no calling-side file of this version")
        offset = _HEAD.size + length
        try:
            head = json.loads(content[_HEAD.size : offset])
            expected = offset + 10 * head["numbers"] + 18 * head["ranges"]
            whole = expected == len(content)
            if not whole or zlib.crc32(memoryview(content)[offset:]) != head["crc32"]:
                raise CallingSideError(f"{path} is damaged: its checksum or its length is another")
            return cls(content, head, offset)
        except (ValueError, KeyError, TypeError) as error:
            raise CallingSideError(f"{path} is damaged: {error}") from error

    def flags(self, value: int) -> int:
        """The bits of the kinds of list that name the number."""
        flags = 0
        numbers = self._numbers
        at = bisect_left(numbers, value)
        if at < len(numbers) and numbers[at] == value:
            flags = self._flags[self._codes[at]]
        if self._starts:
            at = bisect_right(self._starts, value) - 1
            if at >= 0 and value <= self._ends[at]:
                flags |= self._flags[self._range_codes[at]]
        return flags

    def naming(self, value: int) -> tuple[str, ...]:
        """The lists that name the number, for those who ask why."""
        names: tuple[str, ...] = ()
        at = bisect_left(self._numbers, value)
        if at < len(self._numbers) and self._numbers[at] == value:
            names = self._sets[self._codes[at]]
        at = bisect_right(self._starts, value) - 1
        if at >= 0 and value <= self._ends[at]:
            names += tuple(n for n in self._sets[self._range_codes[at]] if n not in names)
        return names

    def excepting(self, exceptions: Exceptions) -> "ExceptedLists":
        """The same lists without what is excepted."""
        return ExceptedLists(self, exceptions, self._kinds)


class ExceptedLists:
    """Lists with exceptions: of few numbers, so that the others cost a look into a small table."""

    __slots__ = ("_exceptions", "_kinds", "_lists")

    def __init__(
        self, lists: CallingLists, exceptions: Exceptions, kinds: Mapping[str, int]
    ) -> None:
        self._lists = lists
        self._exceptions = exceptions
        self._kinds = kinds

    def flags(self, value: int) -> int:
        """The bits of the kinds of list that name the number and from which it is not excepted."""
        if value not in self._exceptions:
            return self._lists.flags(value)
        return _or(self._kinds[name] for name in self.naming(value))

    def naming(self, value: int) -> tuple[str, ...]:
        """Those lists."""
        excepted = self._exceptions.get(value, frozenset())
        return tuple(name for name in self._lists.naming(value) if name not in excepted)


def _or(flags: Iterable[int]) -> int:
    found = 0
    for flag in flags:
        found |= flag
    return found


Numbers = Mapping[int, Mapping[str, tuple[str, int]]]
"""Numbers that stand on the ladder themselves: the stage in a country, and its event."""


class Registry:
    """Which entity a calling number belongs to. Immutable.

    No two entities share a number, the record sees to that, so ranges are disjoint. The numbers of
    a delegated telemarketer belong to the entity that it calls for, while both are active.
    """

    __slots__ = ("_ends", "_exact", "_of_range", "_starts")

    def __init__(self, entities: Iterable[Entity] = ()) -> None:
        self._exact: dict[int, Entity] = {}
        spans: list[tuple[int, int, Entity]] = []
        active = {entity.id: entity for entity in entities}
        for each in active.values():
            entity = active.get(each.acts_for) if each.acts_for else each
            if entity is None:
                continue
            self._exact.update(dict.fromkeys(each.numbers, entity))
            spans.extend((low, high, entity) for low, high in each.ranges)
        spans.sort(key=lambda span: span[0])
        self._starts = [low for low, _, _ in spans]
        self._ends = [high for _, high, _ in spans]
        self._of_range = [entity for _, _, entity in spans]

    def entity_of(self, value: int) -> Entity | None:
        """The entity that the number is registered for."""
        entity = self._exact.get(value)
        if entity is None and self._starts:
            at = bisect_right(self._starts, value) - 1
            if at >= 0 and value <= self._ends[at]:
                entity = self._of_range[at]
        return entity


class CallingSide:
    """Lists, registry and numbers on the ladder of one instant; the worker swaps it whole."""

    __slots__ = ("entity_of", "flags", "generations", "naming", "numbers")

    def __init__(
        self,
        lists: CallingLists | None = None,
        registry: Registry | None = None,
        numbers: Numbers | None = None,
        exceptions: Exceptions | None = None,
    ) -> None:
        self.numbers: Final[Numbers] = numbers or {}
        lists = lists or CallingLists.empty()
        self.generations: Final = lists.generations
        those = lists.excepting(exceptions) if exceptions else lists
        self.naming: Final = those.naming
        # Bound once, so that a call pays for one look-up and no delegation.
        self.flags: Final = those.flags
        self.entity_of: Final = (registry or Registry()).entity_of


def save_entities(folder: Path, entities: Iterable[Entity]) -> None:
    """Keep a copy of the registry for a start without the record."""
    content = [
        {
            "id": each.id,
            "name": each.name,
            "title": each.title,
            "categories": each.categories,
            "numbers": each.numbers,
            "ranges": each.ranges,
            "status": each.status,
            "acts_for": each.acts_for,
            "stages": dict(each.stages),
        }
        for each in entities
    ]
    with written_whole(folder / ENTITIES) as file:
        file.write(json.dumps(content).encode())


def load_entities(folder: Path) -> list[Entity]:
    """The copy, none where there is none. Raises CallingSideError."""
    return _copied(
        folder / ENTITIES,
        lambda content: [
            Entity(
                **{
                    **each,
                    "categories": tuple(each["categories"]),
                    "numbers": tuple(each["numbers"]),
                    "ranges": tuple((low, high) for low, high in each["ranges"]),
                    "stages": _stages(each.get("stages", {})),
                }
            )
            for each in content
        ],
        none=[],
    )


def save_numbers(folder: Path, numbers: Numbers) -> None:
    """Keep a copy of the numbers on the ladder for a start without the record."""
    with written_whole(folder / NUMBERS) as file:
        file.write(
            json.dumps({str(number): dict(each) for number, each in numbers.items()}).encode()
        )


def load_numbers(folder: Path) -> Numbers:
    """The copy, none where there is none. Raises CallingSideError."""
    return _copied(
        folder / NUMBERS,
        lambda content: {int(number): _stages(each) for number, each in content.items()},
        none={},
    )


def save_exceptions(folder: Path, exceptions: Exceptions) -> None:
    """Keep a copy of the exceptions for a start without the record."""
    content = {str(number): sorted(names) for number, names in exceptions.items()}
    with written_whole(folder / EXCEPTIONS) as file:
        file.write(json.dumps(content).encode())


def load_exceptions(folder: Path) -> Exceptions:
    """The copy, none where there is none. Raises CallingSideError."""
    return _copied(
        folder / EXCEPTIONS,
        lambda content: {int(number): frozenset(names) for number, names in content.items()},
        none={},
    )


def _stages(content: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {country: (stage, event) for country, (stage, event) in content.items()}


def _copied(path: Path, read: Callable[[Any], _Copy], *, none: _Copy) -> _Copy:
    """What `read` makes of a copy, `none` where there is none. Raises CallingSideError."""
    try:
        return read(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return none
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CallingSideError(f"{path} cannot be used: {error}") from error
