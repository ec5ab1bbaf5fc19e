"""The writer of the index: it is made, attached to, rebuilt, looked into and announced from here.

Invariant: an epoch enters the stamps of a rebuild after everything else.

Blocking, and safe in threads; every operation may be repeated after IndexUnavailable.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from secrets import token_hex
from typing import Final

from consent.event import Event
from consent.index import layout
from consent.index.blocks import Numbers
from consent.index.contents import Contents, places, read_bucket, read_personal
from consent.index.events import EventWriter
from consent.index.fault import IndexRefused
from consent.index.generations import ListWriter, Progress
from consent.index.servers import primaries, routes
from consent.index.target import unreadable

_KEYS_A_SLICE: Final = 1000
"""Deleted together: an answer of a call waits behind it."""


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


class IndexStore(ListWriter, EventWriter):
    """Writes to the index servers at `url` (see `Target`).

    `create`, `attach` or `rebuild` must come before other writes.
    """

    @contextmanager
    def beside(self, epoch: str) -> Iterator["IndexStore"]:
        """The index of another epoch on the same servers. Raises IndexLost if there is none."""
        other = IndexStore(self.url, **self._timeouts)
        try:
            other.attach(epoch)
            yield other
        finally:
            other.close()

    def nodes(self, epoch: str) -> list[Node]:
        """The nodes that hold shards, by name, and what they have of the index of this epoch."""
        stamps = self._stamps(layout.side_of(epoch))
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

    # Epochs.

    def is_empty(self) -> bool:
        """Whether no shard has a stamp, on either side."""
        return not any(any(self._stamps(side)) for side in layout.SIDES)

    def lost_shards(self, epoch: str) -> tuple[int, ...]:
        """The shards without the stamp of this epoch: of an emptied node, or all of another's."""
        if not layout.readable(epoch):
            return tuple(range(layout.SHARDS))
        return tuple(
            shard
            for shard, stamp in enumerate(self._stamps(layout.side_of(epoch)))
            if not (stamp and epoch and stamp.epoch == epoch)
        )

    def unreadable(self, generations: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of some (list, generation) that not every shard says are readable."""
        return unreadable(self.present(), generations)

    def create(self, epoch: str) -> None:
        """Stamp a server that holds no index. Raises IndexRefused if it holds one."""
        if not self.is_empty():
            raise IndexRefused(f"index server {self._name} holds an index: expected an empty one")
        self._believe(epoch)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in range(layout.SHARDS):
                pipe.hset(self._side.stamp_key(shard), mapping={"e": epoch, "q": 0})
            pipe.execute()

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

        `events` are all of the ledger's through `last_sequence`. What lay on this side goes, and
        the other side stays as it is. From the first step to the last readers of this epoch
        have unknown facts, and other writers get IndexLost. Where only some `shards` were lost,
        with their node, the others stay as they are and readable; `epoch` is theirs.
        """
        self._shards = shards
        # No other rebuild proves itself by this one's stamps, though it were of the same epoch.
        self._believe(epoch, building=f"{epoch} {token_hex(8)}")
        self._clear(self._side)
        try:
            with self._faults(), self._server.pipeline(transaction=False) as pipe:
                for shard in shards:
                    pipe.hset(self._side.stamp_key(shard), "b", self._proof)
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
            self._believe(epoch)
            self._shards = range(layout.SHARDS)

    def withdraw(self, epoch: str) -> None:
        """Take the stamps of another epoch's index away: it proves nothing to anybody any more.

        Raises IndexRefused for that which is written to, or lies on its side.
        """
        self._unstamp(self._other_side(epoch))

    def remove(self, epoch: str, *, while_: Callable[[], bool]) -> bool:
        """Delete the index of another epoch by slices, `while_` it may; whether all of it went.

        Raises as `withdraw` does.
        """
        return self._clear(self._other_side(epoch), while_)

    def _other_side(self, epoch: str) -> layout.Side:
        side = layout.side_of(epoch)
        if side is self._side:
            raise IndexRefused(f"index {epoch} lies where {self._epoch} does: it is not removed")
        return side

    def _unstamp(self, side: layout.Side) -> None:
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                pipe.delete(side.stamp_key(shard))
            pipe.execute()

    def _clear(self, side: layout.Side, while_: Callable[[], bool] = lambda: True) -> bool:
        if not while_():
            return False
        self._unstamp(side)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            mine = {layout.TAGS[shard] for shard in self._shards}
            for client in primaries(self._server, self._servers).values():
                found = client.scan_iter(match=side.pattern, count=_KEYS_A_SLICE)
                while keys := list(islice(found, _KEYS_A_SLICE)):
                    if not while_():
                        return False
                    for key in keys:
                        if key[:4] in mine:
                            pipe.unlink(key)
                    pipe.execute()
        return True

    # What lies there.

    def contents(self, numbers: Iterable[int]) -> dict[int, Contents]:
        """What is held for some numbers and for all that share a bucket with one of them."""
        wanted = sorted(set(numbers))
        width = layout.bucket_width(self._epoch)
        buckets = sorted({called // width for called in wanted})
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for bucket in buckets:
                pipe.hgetall(self._side.bucket_key(bucket * width, width))
            answers = pipe.execute()
        found = {called: Contents() for called in wanted}
        for bucket, fields in zip(buckets, answers, strict=True):
            found |= read_bucket(bucket, width, fields)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for called in found:
                pipe.hgetall(self._side.personal_key(called))
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
        return places(keys, self._side, layout.bucket_width(self._epoch))[:count]

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
