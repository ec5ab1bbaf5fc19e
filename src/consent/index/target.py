"""The index that a writer writes to, and the proof that it is still that one.

Invariant: every write proves first that the index is the one it believes in, else IndexLost.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from consent.index import layout
from consent.index.address import Kind, parse_servers
from consent.index.fault import IndexBehind, IndexLost, IndexRefused, IndexUnavailable
from consent.index.servers import ServerError, exchange, open_servers, primaries


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a shard says of itself; `building` is the proof of a rebuild that is not finished."""

    epoch: str
    sequence: int
    generations: dict[int, tuple[int, ...]]
    building: str


class Target:
    """The index of one epoch on the servers at `url` (see `parse_servers`).

    Raises IndexRefused for a server that must not be used: older than version 7, or one that
    may evict keys.
    """

    def __init__(
        self, url: str, *, connect_timeout_s: float = 2.0, timeout_s: float = 10.0
    ) -> None:
        self.url = url
        self._timeouts = {"connect_timeout_s": connect_timeout_s, "timeout_s": timeout_s}
        self._servers = parse_servers(url)
        self._name = self._servers.name
        self._server = open_servers(
            self._servers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s
        )
        self._believe("")
        self._shards: Sequence[int] = range(layout.SHARDS)
        """Those that are written to: fewer while some are rebuilt."""
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

    def stamps(self) -> tuple[Stamp | None, ...]:
        """The stamp of every shard of this side, None where it is absent."""
        return self._stamps(self._side)

    def _stamps(self, side: layout.Side) -> tuple[Stamp | None, ...]:
        asked = [("HGETALL", side.stamp_key(shard)) for shard in range(layout.SHARDS)]
        with self._faults():
            return tuple(
                _read_stamp(_parts(found)) if found else None
                for found in exchange(self._server, asked)
            )

    def epoch(self) -> str:
        """The epoch that every shard carries; "" if one carries none, or another."""
        epochs = {stamp.epoch if stamp else "" for stamp in self.stamps()}
        return epochs.pop() if len(epochs) == 1 else ""

    def applied(self) -> int:
        """The ledger sequence through which every shard is complete: replay what follows it."""
        return min(self.sequences())

    def sequences(self) -> list[int]:
        """The ledger sequence through which each shard is complete."""
        return [stamp.sequence for stamp in self.present()]

    @property
    def attached(self) -> str:
        """The epoch that is written to, "" before the first."""
        return self._epoch

    def attach(self, epoch: str) -> None:
        """Write to the index of this epoch. Raises IndexLost if the server does not hold it, or in
        another layout than this version's."""
        self._believe(epoch)
        if epoch and not layout.readable(epoch):
            raise IndexLost(
                f"index server {self._name}: index {epoch} was written by another version of the "
                "service, in a layout that this one does not read: it must be rebuilt"
            )
        self.present()

    def _believe(self, epoch: str, *, building: str = "") -> None:
        """From now on this index is meant; while it is `building`, that proves it."""
        self._epoch, self._proof, self._field = epoch, building or epoch, "b" if building else "e"
        self._side = layout.side_of(epoch)

    def present(self) -> list[Stamp]:
        """The stamp of every shard. Raises IndexLost where one is not of the epoch written to."""
        stamps = [stamp for stamp in self.stamps() if stamp and stamp.epoch == self._epoch]
        if not self._epoch or len(stamps) < layout.SHARDS:
            raise self._lost(layout.SHARDS - len(stamps))
        return stamps

    def _lost(self, shards: int) -> IndexLost:
        return IndexLost(
            f"index server {self._name}: {shards} of {layout.SHARDS} shards have no stamp of epoch"
            f" {self._epoch or '(none attached)'}: expected all, so the index must be rebuilt"
        )

    def _prove(self, answers: Sequence[Any]) -> None:
        lost = sum(answer == 0 for answer in answers)
        if lost:
            raise self._lost(lost)
        if 2 in answers:
            raise IndexBehind(
                f"index server {self._name} lacks something that was written before, as after a"
                " failover: it must be written again first"
            )


def unreadable(
    stamps: Sequence[Stamp], generations: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Those of some (list, generation) that not every shard says are readable."""
    return [
        (list_id, generation)
        for list_id, generation in generations
        if any(generation not in stamp.generations.get(list_id, ()) for stamp in stamps)
    ]


def _parts(found: dict[bytes, bytes] | list[bytes]) -> tuple[bytes, ...]:
    """Names and values in turns: a cluster's client makes a dict of what others leave so."""
    return tuple(chain.from_iterable(found.items())) if isinstance(found, dict) else tuple(found)


@lru_cache(maxsize=2 * layout.SHARDS)
def _read_stamp(parts: tuple[bytes, ...]) -> Stamp:
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
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
