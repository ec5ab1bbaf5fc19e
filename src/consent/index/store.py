"""The writer of the index: list generations, ledger events, rebuilds.

Invariants:
- what readers are told is whole: a generation enters the stamps after its last block has been
  written and counted, an epoch after everything else;
- a shard's sequence moves in the same script as the facts that it counts, so events may be
  replayed from any earlier point;
- every write proves first that the index is still the one it believes in, else IndexLost.

Blocking, and safe in threads; every operation may be repeated after IndexUnavailable.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from secrets import token_hex
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from consent.category import mask
from consent.event import HELD_KINDS, Event, EventKind
from consent.facts import ALL_BIT, NO_PROFILE, Consent
from consent.index import layout
from consent.index.address import Kind, parse_servers
from consent.index.blocks import Blocks, Numbers, count_gaps
from consent.index.contents import Contents, places, read_bucket, read_personal
from consent.index.fault import IndexBehind, IndexLost, IndexRefused, IndexUnavailable
from consent.index.servers import ServerError, open_servers, primaries, routes

Progress = Callable[[int], None]
"""Told how many numbers have been written since it was told before."""

_EVENTS_A_WINDOW: Final = 20_000
_EVENTS_A_SCRIPT: Final = 256
_KEYS_A_COMMAND: Final = 500

# Each script begins by proving the stamp: field ARGV[1] ("e", or "b" in a rebuild) is ARGV[2].

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

# ARGV[3] is the sequence that the shard must have reached: that of the batch sent before this
# one, which may have failed, or been lost with a primary whose replica lagged. Then five words an
# event: sequence, verb, index of its key, a, b.
_APPLY: Final = """
local stamp = redis.call('HMGET', KEYS[1], ARGV[1], 'q')
if stamp[1] ~= ARGV[2] then return 0 end
local applied = tonumber(stamp[2] or '0')
if applied < tonumber(ARGV[3]) then return 2 end
local last = applied
for i = 4, #ARGV, 5 do
  local sequence, verb, key = tonumber(ARGV[i]), ARGV[i + 1], KEYS[tonumber(ARGV[i + 2])]
  local a, b = ARGV[i + 3], ARGV[i + 4]
  if sequence > applied then
    if verb == 'set' then
      redis.call('HSET', key, a, b)
    elseif verb == 'delete' then
      redis.call('HDEL', key, a)
    elseif verb == 'revoke' then
      local held = redis.call('HGET', key, a)
      if held then
        b = string.char(bit.bor(string.byte(held), 1)) .. string.sub(held, 2)
      end
      redis.call('HSET', key, a, b)
    elseif verb == 'refuse' then
      for _, field in ipairs(redis.call('HKEYS', key)) do
        if #field > #a and string.sub(field, 1, #a) == a then
          local held = redis.call('HGET', key, field)
          redis.call('HSET', key, field,
                     string.char(bit.bor(string.byte(held), 1)) .. string.sub(held, 2))
        end
      end
      redis.call('HSET', key, a, b)
    elseif verb == 'reassign' then
      local of_the_number = {}
      for _, field in ipairs(redis.call('HKEYS', key)) do
        if string.sub(field, 1, #a) == a then of_the_number[#of_the_number + 1] = field end
      end
      for first = 1, #of_the_number, 1000 do
        redis.call('HDEL', key, unpack(of_the_number, first,
                                       math.min(first + 999, #of_the_number)))
      end
      redis.call('DEL', KEYS[tonumber(b)])
    end
    last = sequence
  end
end
if last > applied then redis.call('HSET', KEYS[1], 'q', string.format('%.0f', last)) end
return 1
"""

# ARGV[3] is what the shard must have reached, ARGV[4] what it then has; with ARGV[5] this was the
# last step of a rebuild.
_ADVANCE: Final = """
local stamp = redis.call('HMGET', KEYS[1], ARGV[1], 'q')
if stamp[1] ~= ARGV[2] then return 0 end
local applied = tonumber(stamp[2] or '0')
if applied < tonumber(ARGV[3]) then return 2 end
if not stamp[2] or applied < tonumber(ARGV[4]) then redis.call('HSET', KEYS[1], 'q', ARGV[4]) end
if ARGV[5] then
  redis.call('HSET', KEYS[1], 'e', ARGV[5])
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a shard says of itself; `building` is the proof of a rebuild that is not finished."""

    epoch: str
    sequence: int
    generations: dict[int, tuple[int, ...]]
    building: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node that holds shards; `lost` of them have no stamp of this index's epoch."""

    name: str
    version: str
    replicas: int
    used_bytes: int
    shards: int
    lost: int
    applied: int


class IndexStore:
    """Writes to the index servers at `url` (see `parse_servers`).

    Raises IndexRefused for a server that must not be used: older than version 7, or one that
    may evict keys. `create`, `attach` or `rebuild` must come before other writes.
    """

    def __init__(
        self, url: str, *, connect_timeout_s: float = 2.0, timeout_s: float = 10.0
    ) -> None:
        self._servers = parse_servers(url)
        self._name = self._servers.name
        self._server = open_servers(
            self._servers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s
        )
        self._field = "e"
        self._epoch = self._proof = ""
        self._shards: Sequence[int] = range(layout.SHARDS)
        """Those that are written to: fewer while some are rebuilt."""
        self._begun: dict[tuple[int, int], set[bytes]] = {}
        """The parts of the manifests of generations that were written here."""
        try:
            self._check_server()
        except IndexUnavailable:
            self.close()
            raise

    def close(self) -> None:
        self._server.close()

    def _check_server(self) -> None:
        with self._faults():
            nodes = primaries(self._server, self._servers)
            about = {name: client.info() for name, client in nodes.items()}
        for name, said in about.items():
            version = str(said.get("redis_version", "0"))
            if int(version.split(".", maxsplit=1)[0]) < 7:
                raise IndexRefused(f"index server {name} is version {version}: expected 7 or later")
            policy = said.get("maxmemory_policy")
            if policy != "noeviction":
                raise IndexRefused(
                    f"index server {name} has maxmemory-policy {policy}: expected noeviction,"
                    " since an evicted refusal would read as none (CONFIG SET maxmemory-policy"
                    " noeviction)"
                )
            if said.get("cluster_enabled") and self._servers.kind is not Kind.CLUSTER:
                raise IndexRefused(
                    f"index server {name} is a node of a cluster: expected a URL with"
                    " redis+cluster://"
                )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except ServerError as error:
            raise IndexUnavailable(f"index server {self._name}: {error}") from error

    def nodes(self, epoch: str) -> list[Node]:
        """The nodes that hold shards, by name, and what they have of the index of this epoch."""
        stamps = self.stamps()
        with self._faults():
            route = routes(self._server, self._servers)
            about = {
                name: client.info()
                for name, client in primaries(self._server, self._servers).items()
            }
        found = []
        for name, said in about.items():
            mine = [stamps[shard] for shard in range(layout.SHARDS) if route[shard] == name]
            held = [stamp for stamp in mine if stamp and stamp.epoch == epoch]
            found.append(
                Node(
                    name,
                    version=str(said.get("valkey_version") or said["redis_version"]),
                    replicas=int(said["connected_slaves"]),
                    used_bytes=int(said["used_memory"]),
                    shards=len(mine),
                    lost=len(mine) - len(held),
                    applied=min((stamp.sequence for stamp in held), default=0),
                )
            )
        return found

    # Epochs and stamps.

    def stamps(self) -> tuple[Stamp | None, ...]:
        """The stamp of every shard, None where it is absent."""
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in range(layout.SHARDS):
                pipe.hgetall(layout.stamp_key(shard))
            return tuple(_read_stamp(fields) if fields else None for fields in pipe.execute())

    def epoch(self) -> str:
        """The epoch that every shard carries; "" if one carries none, or another."""
        epochs = {stamp.epoch if stamp else "" for stamp in self.stamps()}
        return epochs.pop() if len(epochs) == 1 else ""

    def is_empty(self) -> bool:
        """Whether no shard has a stamp."""
        return not any(self.stamps())

    def applied(self) -> int:
        """The ledger sequence through which every shard is complete: replay what follows it."""
        return min(self.sequences())

    def sequences(self) -> list[int]:
        """The ledger sequence through which each shard is complete."""
        return [stamp.sequence for stamp in self._present()]

    def attach(self, epoch: str) -> None:
        """Write to the index of this epoch. Raises IndexLost if the server does not hold it."""
        self._epoch = self._proof = epoch
        self._present()

    def _present(self) -> list[Stamp]:
        stamps = [stamp for stamp in self.stamps() if stamp and stamp.epoch == self._epoch]
        if not self._epoch or len(stamps) < layout.SHARDS:
            raise self._lost(layout.SHARDS - len(stamps))
        return stamps

    def lost_shards(self, epoch: str) -> tuple[int, ...]:
        """The shards without the stamp of this epoch: of an emptied node, or all of another's."""
        return tuple(
            shard
            for shard, stamp in enumerate(self.stamps())
            if not (stamp and epoch and stamp.epoch == epoch)
        )

    def unreadable(self, generations: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of some (list, generation) that not every shard says are readable."""
        stamps = self._present()
        return [
            (list_id, generation)
            for list_id, generation in generations
            if any(generation not in stamp.generations.get(list_id, ()) for stamp in stamps)
        ]

    def _lost(self, shards: int) -> IndexLost:
        return IndexLost(
            f"index server {self._name}: {shards} of {layout.SHARDS} shards have no stamp of epoch"
            f" {self._epoch or '(none attached)'}: expected all, so the index must be rebuilt"
        )

    def create(self, epoch: str) -> None:
        """Stamp a server that holds no index. Raises IndexRefused if it holds one."""
        if not self.is_empty():
            raise IndexRefused(f"index server {self._name} holds an index: expected an empty one")
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in range(layout.SHARDS):
                pipe.hset(layout.stamp_key(shard), mapping={"e": epoch, "q": 0})
            pipe.execute()
        self._epoch = self._proof = epoch

    def rebuild(
        self,
        epoch: str,
        *,
        generations: Iterable[tuple[int, int, int, Numbers]],
        events: Iterable[Event],
        last_sequence: int,
        progress: Progress | None = None,
        shards: Sequence[int] = range(layout.SHARDS),
    ) -> None:
        """Make the index anew from (list, generation, category bit, numbers) and events.

        `events` are all of the ledger's through `last_sequence`. Facts are unknown to readers,
        and other writers get IndexLost, from the first step to the last. Where only some `shards`
        were lost, with their node, the others stay as they are and readable; `epoch` is theirs.
        """
        self._shards = shards
        self._clear()
        # No other rebuild proves itself by this one's stamps, though it were of the same epoch.
        self._epoch, self._proof, self._field = epoch, f"{epoch} {token_hex(8)}", "b"
        try:
            with self._faults(), self._server.pipeline(transaction=False) as pipe:
                for shard in shards:
                    pipe.hset(layout.stamp_key(shard), "b", self._proof)
                pipe.execute()
            written = {}
            for list_id, generation, bit, numbers in generations:
                self.write_generation(list_id, generation, bit, numbers, progress=progress)
                written[list_id, generation] = True
            for list_id, generation in written:
                self.publish_generation(list_id, generation)
            mine = frozenset(shards)
            reached = [0] * layout.SHARDS
            self.apply_to(
                (event for event in events if layout.shard_of(event.called) in mine), reached
            )
            self._finish(last_sequence, reached, epoch)
        finally:
            self._proof, self._field, self._shards = epoch, "e", range(layout.SHARDS)

    def _clear(self) -> None:
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                pipe.delete(layout.stamp_key(shard))
            pipe.execute()
            mine = {layout.TAGS[shard] for shard in self._shards}
            for client in primaries(self._server, self._servers).values():
                found = client.scan_iter(match=b"{??}:[sdmbpx]*", count=5000)
                while keys := list(islice(found, 5000)):
                    for key in keys:
                        if key[:4] in mine:
                            pipe.unlink(key)
                    pipe.execute()

    def _on_all_shards(self, script: str, *words: bytes | str | int) -> None:
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                pipe.eval(script, 1, layout.stamp_key(shard), *words)
            self._prove(pipe.execute())

    def _prove(self, answers: Sequence[Any]) -> None:
        lost = sum(answer == 0 for answer in answers)
        if lost:
            raise self._lost(lost)
        if 2 in answers:
            raise IndexBehind(
                f"index server {self._name} lacks something that was written before, as after a"
                " failover: it must be written again first"
            )

    # Files: generations of lists.

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
        where = _Where(list_id, generation, category_bit)
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
                    layout.stamp_key(shard),
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
        where = _Where(list_id, generation)
        # What a replica has is what its primary had up to some instant. So a shard that still has
        # the mark when it is published has all that was counted after the mark was set.
        mark = token_hex(8)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                keys = (layout.stamp_key(shard), where.manifest(shard))
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
                keys = (layout.stamp_key(shard), where.manifest(shard))
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
        where = _Where(list_id, generation)
        for shard in range(layout.SHARDS):
            keys = [key for part in self._parts(shard, where) for key in where.keys(part)]
            with self._faults():
                for first in range(0, len(keys), _KEYS_A_COMMAND):
                    self._server.unlink(*keys[first : first + _KEYS_A_COMMAND])
                self._server.delete(where.manifest(shard))

    def count_generation(self, list_id: int, generation: int) -> dict[int, tuple[int, int]]:
        """For each category bit, how many numbers the manifests name and the blocks hold."""
        where = _Where(list_id, generation)
        counts: dict[int, tuple[int, int]] = {}
        for shard in self._shards:
            for part in self._parts(shard, where):
                with self._faults(), self._server.pipeline(transaction=False) as pipe:
                    for key in where.keys(part):
                        (pipe.hvals if b":p:" in key else pipe.bitcount)(key)
                    held = sum(
                        count_gaps(answer) if isinstance(answer, list) else answer
                        for answer in pipe.execute()
                    )
                before = counts.get(part.bit, (0, 0))
                counts[part.bit] = before[0] + part.count, before[1] + held
        return counts

    # Events: what the ledger says.

    def apply(self, events: Iterable[Event], *, after: int = 0, through: int = 0) -> int:
        """Bring events into the index, in the order of the ledger; the answer is the last one's.

        Those that a shard has had are passed over. There must be no gap: a shard takes the
        sequence of an event as word that it has every earlier one of its numbers, so a writer
        gives all events that follow `applied()`, and two writers must not split them. With
        `after`, what `applied()` said, a shard that has gone back since refuses, and with
        `through` every shard notes in the end that it has all through that: one without events
        would hold `applied()` back.
        """
        reached = [after] * layout.SHARDS
        last = self.apply_to(events, reached)
        if through:
            self.advance(through, reached)
        return last

    def apply_to(self, events: Iterable[Event], reached: list[int]) -> int:
        """The same where it is known through what each shard is complete; `reached` is moved on.

        A shard gets its own events, one script for all but many: no other shard is asked.
        Raises IndexBehind where one is not as far as it was known to be.
        """
        last = 0
        stream = iter(events)
        while window := list(islice(stream, _EVENTS_A_WINDOW)):
            for event in window:
                if event.sequence <= last:
                    raise IndexRefused(f"event {event.sequence} after {last}: expected to rise")
                last = event.sequence
            self._apply_window(window, reached)
        return last

    def _apply_window(self, window: list[Event], reached: list[int]) -> None:
        by_shard: dict[int, list[Event]] = {}
        for event in window:
            if event.kind is EventKind.LADDER_STEPPED:
                continue  # of an entity: workers have it from the record
            shard = layout.shard_of(event.called)
            if event.sequence > reached[shard]:
                by_shard.setdefault(shard, []).append(event)
        width = layout.bucket_width(self._epoch)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard, events in by_shard.items():
                for first in range(0, len(events), _EVENTS_A_SCRIPT):
                    batch = events[first : first + _EVENTS_A_SCRIPT]
                    keys, words = _batch(batch, layout.stamp_key(shard), width)
                    proof = (self._field, self._proof, reached[shard])
                    pipe.eval(_APPLY, len(keys), *keys, *proof, *words)
                    reached[shard] = batch[-1].sequence
            self._prove(pipe.execute())

    def advance(self, sequence: int, reached: list[int]) -> None:
        """Note in the shards behind a sequence that they have all through it."""
        behind = [shard for shard in self._shards if reached[shard] < sequence]
        self._advance(behind, sequence, reached)

    def _finish(self, sequence: int, reached: list[int], epoch: str) -> None:
        self._advance(self._shards, sequence, reached, epoch)

    def _advance(
        self, shards: Iterable[int], sequence: int, reached: list[int], *finished: str
    ) -> None:
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in shards:
                words = (self._field, self._proof, reached[shard], sequence, *finished)
                pipe.eval(_ADVANCE, 1, layout.stamp_key(shard), *words)
            self._prove(pipe.execute())

    # What lies there.

    def contents(self, numbers: Iterable[int]) -> dict[int, Contents]:
        """What is held for some numbers and for all that share a bucket with one of them."""
        wanted = sorted(set(numbers))
        width = layout.bucket_width(self._epoch)
        buckets = sorted({called // width for called in wanted})
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for bucket in buckets:
                pipe.hgetall(layout.bucket_key(bucket * width, width))
            answers = pipe.execute()
        found = {called: Contents() for called in wanted}
        for bucket, fields in zip(buckets, answers, strict=True):
            found |= read_bucket(bucket, width, fields)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for called in found:
                pipe.hgetall(layout.personal_key(called))
            answers = pipe.execute()
        for held, fields in zip(found.values(), answers, strict=True):
            held.personal = read_personal(fields)
        return found

    def random_places(self, count: int) -> list[int]:
        """Numbers that share a bucket with some that are held, drawn from the keys at random.

        Fewer than `count` where most of the keys are lists.
        """
        keys: list[bytes] = []
        with self._faults():
            nodes = list(primaries(self._server, self._servers).values())
            for client in nodes:
                with client.pipeline(transaction=False) as pipe:
                    for _ in range(2 * count // len(nodes)):
                        pipe.randomkey()
                    keys += [key for key in pipe.execute() if key is not None]
        return places(keys, layout.bucket_width(self._epoch))[:count]

    # Announcements.

    def publish(self, channel: str, message: bytes) -> int:
        """Announce a message: the answer is how many heard it."""
        with self._faults():
            return int(self._server.publish(channel, message))

    def call(self, channel: str, message: str, *, within_seconds: float) -> tuple[int, list[bytes]]:
        """Announce to all who follow the channel: how many heard, and what they answered.

        Answers are those published on `channel:message`, at most one each, until the time is up.
        """
        answers: list[bytes] = []
        with self._faults(), self._server.pubsub(ignore_subscribe_messages=True) as heard:
            heard.subscribe(f"{channel}:{message}")
            # The announcement takes another connection: it must not overtake the subscription.
            heard.get_message(timeout=within_seconds)
            receivers = self.publish(channel, message.encode())
            deadline = time.monotonic() + within_seconds
            while len(answers) < receivers and (left := deadline - time.monotonic()) > 0:
                said = heard.get_message(timeout=left)
                if said is not None:
                    answers.append(said["data"])
        return receivers, answers


def _read_stamp(fields: dict[bytes, bytes]) -> Stamp:
    return Stamp(
        epoch=fields.get(b"e", b"").decode(),
        sequence=int(fields.get(b"q", b"0")),
        generations={
            int(name[1:]): tuple(int(entry.partition(b":")[0]) for entry in value.split())
            for name, value in fields.items()
            if name.startswith(b"l")
        },
        building=fields.get(b"b", b"").decode(),
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

    list_id: int
    generation: int
    bit: int = 0

    def manifest(self, shard: int) -> bytes:
        return layout.manifest_key(shard, list_id=self.list_id, generation=self.generation)

    def bitmap(self, block: int) -> bytes:
        return layout.bitmap_key(
            block, list_id=self.list_id, generation=self.generation, bit=self.bit
        )

    def sparse(self, span: int) -> bytes:
        return layout.sparse_key(
            span, list_id=self.list_id, generation=self.generation, bit=self.bit
        )

    def keys(self, part: _Part) -> Iterator[bytes]:
        """Every key that holds numbers of a part; of a sparse block one may be absent."""
        here = _Where(self.list_id, self.generation, part.bit)
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


def _batch(
    events: list[Event], stamp: bytes, width: int
) -> tuple[list[bytes], list[bytes | str | int]]:
    """The keys and words of one run of the script for events of one shard."""
    places: dict[bytes, int] = {stamp: 1}
    words: list[bytes | str | int] = []
    for event in events:
        called, body = event.called, event.body
        bucket = places.setdefault(layout.bucket_key(called, width), len(places) + 1)
        low = layout.profile_field(called, width)
        match event.kind:
            case kind if kind is EventKind.CONSENT_GRANTED or kind in HELD_KINDS:
                consent = Consent(
                    event.sequence, False, int(body.get("expires", 0)), mask(body["categories"])
                )
                field = layout.consent_field(called, body["entity"], width)
                step = ("set", bucket, field, layout.encode_consent(consent))
            case EventKind.CONSENT_REVOKED:
                # Without a consent held this refuses the entity for whatever it calls about.
                refusal = Consent(event.sequence, True, 0, ALL_BIT)
                field = layout.consent_field(called, body["entity"], width)
                step = ("revoke", bucket, field, layout.encode_consent(refusal))
            case EventKind.PREFERENCES_SET:
                profile = layout.profile_from(body)
                if profile == NO_PROFILE:
                    step = ("delete", bucket, low, b"")
                else:
                    step = ("set", bucket, low, layout.encode_profile(profile))
            case EventKind.PERSONAL_SET | EventKind.PERSONAL_CLEARED:
                own = places.setdefault(layout.personal_key(called), len(places) + 1)
                calling = layout.pack_int(body["calling"])
                if event.kind is EventKind.PERSONAL_SET:
                    action = b"a" if body["action"] == "allow" else b"b"
                    step = ("set", own, calling, action)
                else:
                    step = ("delete", own, calling, b"")
            case EventKind.REFUSED_ALL:
                profile = layout.profile_from(body)
                step = ("refuse", bucket, low, layout.encode_profile(profile))
            case EventKind.REASSIGNED | EventKind.ERASED:
                own = places.setdefault(layout.personal_key(called), len(places) + 1)
                step = ("reassign", bucket, low, b"%d" % own)
        words += (event.sequence, *step)
    return list(places), words
