"""Lists in the index: generations, written beside those that are read, then made readable.

Invariant: what readers are told is whole. A generation enters the stamps after its last block has
been written and counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

import numpy as np
import numpy.typing as npt

from consent.index import layout
from consent.index.blocks import Blocks, Numbers, count_gaps
from consent.index.fault import IndexUnavailable
from consent.index.target import Target

Progress = Callable[[int], None]
"""Told how many numbers have been written since it was told before."""

_KEYS_A_COMMAND: Final = 500

# Each script but the second begins by proving the stamp: field ARGV[1] is ARGV[2].

_BEGIN_GENERATION: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 1
"""

# Leaves out the generation ARGV[4], then adds the entry ARGV[5] if there is one.
_SET_READABLE: Final = """
local kept = {}
for entry in string.gmatch(redis.call('HGET', KEYS[1], ARGV[3]) or '', '[^ ]+') do
  if string.match(entry, '^%d+') ~= ARGV[4] then kept[#kept + 1] = entry end
end
if ARGV[5] then kept[#kept + 1] = ARGV[5] end
if #kept == 0 then
  redis.call('HDEL', KEYS[1], ARGV[3])
else
  redis.call('HSET', KEYS[1], ARGV[3], table.concat(kept, ' '))
end
return 1
"""

_MARK_GENERATION: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'm', ARGV[3])
return 1
"""

_PUBLISH_GENERATION: Final = (
    """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if redis.call('HGET', KEYS[2], 'm') ~= ARGV[6] then return 2 end
"""
    + _SET_READABLE
)


@dataclass(frozen=True, slots=True)
class _Part:
    """What a shard's manifest says of one call of `write_generation`: integers of 64 bits.

    `width` and `any_dense` are of the whole part, the same in every shard: how many numbers here,
    width of the stretches (0: no sparse block), whether there is a bitmap, how many bitmaps here,
    the ids of the blocks that are bitmaps, the ids of the others.
    """

    bit: int
    count: int
    width: int
    any_dense: bool
    dense: tuple[int, ...]
    sparse: tuple[int, ...]


def _read_part(name: bytes, entry: bytes) -> _Part:
    count, width, any_dense, dense, *ids = np.frombuffer(entry, "<u8").tolist()
    bit = int(name.partition(b".")[0])
    return _Part(bit, count, width, bool(any_dense), tuple(ids[:dense]), tuple(ids[dense:]))


@dataclass(frozen=True, slots=True)
class _Where:
    """The keys of one generation, and of one of its categories."""

    side: layout.Side
    list_id: int
    generation: int
    bit: int = 0

    def manifest(self, shard: int) -> bytes:
        return self.side.manifest_key(shard, list_id=self.list_id, generation=self.generation)

    def bitmap(self, block: int) -> bytes:
        return self.side.bitmap_key(
            block, list_id=self.list_id, generation=self.generation, bit=self.bit
        )

    def sparse(self, span: int) -> bytes:
        return self.side.sparse_key(
            span, list_id=self.list_id, generation=self.generation, bit=self.bit
        )

    def keys(self, part: _Part) -> Iterator[bytes]:
        """Every key that holds numbers of a part; of a sparse block one may be absent."""
        here = _Where(self.side, self.list_id, self.generation, part.bit)
        yield from map(here.bitmap, part.dense)
        for block in part.sparse:
            yield here.sparse(2 * block)
            yield here.sparse(2 * block + 1)


def _form(found: set[bytes]) -> bytes:
    """How readers must look: d bitmaps, s gaps, m either, the last two with their width."""
    widths = found - {b"d"}
    if not widths:
        return b"d"
    return (b"m" if b"d" in found else b"s") + max(widths, key=int)


class ListWriter(Target):
    """Writes lists to the index."""

    def __init__(self, url: str, **timeouts: float) -> None:
        super().__init__(url, **timeouts)
        self._begun: dict[tuple[int, int], set[bytes]] = {}
        """The parts of the manifests of generations that were written here."""

    def write_generation(
        self,
        list_id: int,
        generation: int,
        category_bit: int,
        numbers: Numbers,
        *,
        progress: Progress | None = None,
    ) -> int:
        """Write one category of a list beside what is readable, and count it back.

        `numbers` rise strictly. A list may come in parts if no two share a block of
        `layout.BLOCK` numbers. A generation's number is used once: what another attempt left
        half written is retired first, unless the same numbers are written again. The answer is
        the bytes of the values written.
        """
        if len(self._shards) < layout.SHARDS:
            shards = numbers // np.uint64(layout.BLOCK) % np.uint64(layout.SHARDS)
            numbers = numbers[np.isin(shards, np.array(self._shards, np.uint64))]
        blocks = Blocks.cut(numbers)
        where = _Where(self._side, list_id, generation, category_bit)
        written = [part for part in self._form_of(where) if part.bit == category_bit]
        width = max((part.width for part in written), default=0) or blocks.best_width()
        self._begin(where, blocks, width if blocks.sparse.any() else 0)
        held = 0
        for sparse in (False, True):
            for run in blocks.runs(sparse=sparse):
                held += self._write_run(where, blocks, run, width if sparse else 0)
                if progress:
                    progress(int(blocks.counts[run].sum()))
        return held

    def _write_run(
        self, where: "_Where", blocks: Blocks, run: npt.NDArray[np.intp], width: int
    ) -> int:
        held, keys = 0, []
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            if width:
                for span, fields in blocks.stretches(run, width):
                    keys.append(where.sparse(span))
                    pipe.hset(keys[-1], mapping=fields)
                    held += sum(map(len, fields.values()))
            else:
                for at in run.tolist():
                    keys.append(where.bitmap(int(blocks.ids[at])))
                    bitmap = blocks.bitmap(at)
                    pipe.set(keys[-1], bitmap)
                    held += len(bitmap)
            for key in keys:
                (pipe.hvals if width else pipe.bitcount)(key)
            answers = pipe.execute()[len(keys) :]
        counted = sum(map(count_gaps, answers) if width else answers)
        expected = int(blocks.counts[run].sum())
        if counted != expected:
            raise IndexUnavailable(
                f"list {where.list_id} generation {where.generation}: {counted} numbers of"
                f" {expected} were found after writing them"
            )
        return held

    def _begin(self, where: "_Where", blocks: Blocks, width: int) -> None:
        """Write the manifest of every shard, first: what a crash leaves can then be deleted."""
        shards = blocks.ids % np.uint64(layout.SHARDS)
        part = b"%d.%d" % (where.bit, int(blocks.ids[0]) if len(blocks.ids) else 0)
        any_dense = not blocks.sparse.all() or not len(blocks.ids)
        self._begun.setdefault((where.list_id, where.generation), set()).add(part)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                mine = shards == shard
                dense, sparse = mine & ~blocks.sparse, mine & blocks.sparse
                head = (blocks.counts[mine].sum(), width, any_dense, dense.sum())
                entry = np.concatenate(
                    [np.array(head, np.uint64), blocks.ids[dense], blocks.ids[sparse]]
                )
                pipe.eval(
                    _BEGIN_GENERATION,
                    2,
                    self._side.stamp_key(shard),
                    where.manifest(shard),
                    self._field,
                    self._proof,
                    part,
                    entry.astype("<u8").tobytes(),
                )
            self._prove(pipe.execute())

    def _parts(self, shard: int, where: "_Where") -> list["_Part"]:
        with self._faults():
            manifest = self._server.hgetall(where.manifest(shard))
        manifest.pop(b"m", None)
        return [_read_part(name, entry) for name, entry in sorted(manifest.items())]

    def _form_of(self, where: "_Where") -> list["_Part"]:
        """The parts of a generation as one shard tells them: their forms are those of all.

        A shard that is not being rebuilt, if there is one, since it is what readers go by.
        """
        kept = set(range(layout.SHARDS)) - set(self._shards)
        return self._parts(min(kept, default=0), where)

    def publish_generation(self, list_id: int, generation: int) -> None:
        """Make a written generation readable, shard by shard, beside those that are.

        Counted once more before: a primary lost on the way may have taken blocks with it that
        its replica never had. Raises IndexUnavailable where it must be written again.
        """
        where = _Where(self._side, list_id, generation)
        # What a replica has is what its primary had up to some instant. So a shard that still has
        # the mark when it is published has all that was counted after the mark was set.
        mark = token_hex(8)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                keys = (self._side.stamp_key(shard), where.manifest(shard))
                pipe.eval(_MARK_GENERATION, 2, *keys, self._field, self._proof, mark)
            self._prove(pipe.execute())
        self._expect_whole(where)
        forms: dict[int, set[bytes]] = {}
        for part in self._form_of(where):
            form = forms.setdefault(part.bit, set())
            form |= {b"d"} if part.any_dense else set()
            form |= {b"%d" % part.width} if part.width else set()
        entry = b"%d:" % generation + b",".join(
            b"%d" % bit + _form(form) for bit, form in sorted(forms.items())
        )
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                words = (self._field, self._proof, b"l%d" % list_id, generation, entry, mark)
                keys = (self._side.stamp_key(shard), where.manifest(shard))
                pipe.eval(_PUBLISH_GENERATION, 2, *keys, *words)
            self._prove(pipe.execute())
        self._begun.pop((list_id, generation), None)

    def _expect_whole(self, where: "_Where") -> None:
        """Raises IndexUnavailable unless each shard has every part, and each part its numbers."""
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                pipe.hkeys(where.manifest(shard))
            parts = {frozenset(names) - {b"m"} for names in pipe.execute()}
        begun = self._begun.get((where.list_id, where.generation), set())
        counts = self.count_generation(where.list_id, where.generation)
        if (
            len(parts) > 1
            or not begun <= max(parts, default=set())
            or any(named != held for named, held in counts.values())
        ):
            raise IndexUnavailable(
                f"list {where.list_id} generation {where.generation}: some of it is gone, as after"
                " a failover: expected all that was written; it must be written again"
            )

    def retire_generation(self, list_id: int, generation: int) -> None:
        """Make a generation unreadable, then delete it; also one left half written by a crash."""
        self._begun.pop((list_id, generation), None)
        self._on_all_shards(_SET_READABLE, "", "", b"l%d" % list_id, generation)
        where = _Where(self._side, list_id, generation)
        for shard in range(layout.SHARDS):
            keys = [key for part in self._parts(shard, where) for key in where.keys(part)]
            with self._faults():
                for first in range(0, len(keys), _KEYS_A_COMMAND):
                    self._server.unlink(*keys[first : first + _KEYS_A_COMMAND])
                self._server.delete(where.manifest(shard))

    def count_generation(self, list_id: int, generation: int) -> dict[int, tuple[int, int]]:
        """For each category bit, how many numbers the manifests name and the blocks hold."""
        where = _Where(self._side, list_id, generation)
        counts: dict[int, tuple[int, int]] = {}
        for shard in self._shards:
            for part in self._parts(shard, where):
                with self._faults(), self._server.pipeline(transaction=False) as pipe:
                    for key in where.keys(part):
                        (pipe.hvals if self._side.sparse in key else pipe.bitcount)(key)
                    held = sum(
                        count_gaps(answer) if isinstance(answer, list) else answer
                        for answer in pipe.execute()
                    )
                before = counts.get(part.bit, (0, 0))
                counts[part.bit] = before[0] + part.count, before[1] + held
        return counts

    def _on_all_shards(self, script: str, *words: bytes | str | int) -> None:
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                pipe.eval(script, 1, self._side.stamp_key(shard), *words)
            self._prove(pipe.execute())
