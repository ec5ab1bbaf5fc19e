"""The writer of signals and call frequency: not of the record, written by a recorder.

Blocking; raises IndexUnavailable, after which everything may be written again.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from consent.index import layout
from consent.index.address import parse_servers
from consent.index.fault import IndexUnavailable
from consent.index.servers import ServerError, open_servers
from consent.terms import MOST_CALLS

KEPT_SECONDS: Final = 8 * 86_400
FREQUENCY_SECONDS: Final = 31 * 86_400
_AT_ONCE: Final = 500

_APPEND: Final = """
local held = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if string.sub(ARGV[2], 3) ~= '\\0\\0' then
  for at = 1, #held, 4 do
    if string.sub(held, at, at + 3) == ARGV[2] then return 0 end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.sub(held .. ARGV[2], -tonumber(ARGV[3])))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""


class ConductStore:
    """Writes what the recorder of one node counted to the index servers at `url`."""

    def __init__(self, url: str, *, node: str, timeout_s: float = 1.0) -> None:
        servers = parse_servers(url)
        self._name = servers.name
        self._node = node.encode()
        self._server = open_servers(servers, connect_timeout_s=timeout_s, timeout_s=timeout_s)

    def close(self) -> None:
        self._server.close()

    def write_signals(self, packed: Mapping[int, tuple[bytes | None, bool]]) -> None:
        """The signals of calling numbers by number, and whether they are to live `KEPT_SECONDS`
        from now on; None takes them away."""
        numbers = list(packed.items())
        for start in range(0, len(numbers), _AT_ONCE):
            with self._pipeline() as pipe:
                for number, (value, renewed) in numbers[start : start + _AT_ONCE]:
                    key = layout.signals_key(number)
                    if value is None:
                        pipe.hdel(key, self._node)
                    else:
                        pipe.hset(key, self._node, value)
                        if renewed:
                            pipe.expire(key, KEPT_SECONDS)

    def write_calls(self, calls: Sequence[tuple[int, int, float, str]]) -> None:
        """Commercial calls that rang: called number, entity, instant (epoch seconds), id of the
        decision, "" for a call that nobody can ask about again. Written again, it is there once.
        """
        for start in range(0, len(calls), _AT_ONCE):
            with self._pipeline() as pipe:
                for called, entity, at, decision_id in calls[start : start + _AT_ONCE]:
                    pipe.eval(
                        _APPEND,
                        1,
                        layout.frequency_key(called),
                        layout.calls_field(entity),
                        layout.pack_call(at, decision_id),
                        4 * MOST_CALLS,
                        FREQUENCY_SECONDS,
                    )

    def lost(self) -> list[int]:
        """The shards that do not say that this recorder's signals are there."""
        with self._faults():
            pipe = self._server.pipeline(transaction=False)
            for shard in range(layout.SHARDS):
                pipe.hget(layout.conduct_key(shard), b"g." + self._node)
            return [shard for shard, found in enumerate(pipe.execute()) if found is None]

    def beat(self, at: float) -> None:
        """Say in every shard that all that this recorder knows was there at `at`."""
        now = b"%d" % at
        with self._pipeline() as pipe:
            for shard in range(layout.SHARDS):
                pipe.hset(layout.conduct_key(shard), mapping={b"g": now, b"g." + self._node: now})

    def read_signals(self, number: int) -> list[bytes]:
        """The signals of a calling number, of each node that wrote some."""
        with self._faults():
            return list(self._server.hvals(layout.signals_key(number)))

    @contextmanager
    def _pipeline(self) -> Any:
        with self._faults():
            pipe = self._server.pipeline(transaction=False)
            yield pipe
            pipe.execute()

    @contextmanager
    def _faults(self) -> Any:
        try:
            yield
        except ServerError as error:
            raise IndexUnavailable(f"index server {self._name}: {type(error).__name__}") from None
