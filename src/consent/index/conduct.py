"""The writer of signals and call frequency: not of the record, written by a recorder.

Blocking; raises IndexUnavailable, after which everything may be written again.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from consent.index import layout
from consent.index.address import parse_servers
from consent.index.fault import IndexUnavailable
from consent.index.servers import ServerError, exchange, open_servers
from consent.terms import MOST_CALLS

KEPT_SECONDS: Final = 8 * 86_400
FREQUENCY_SECONDS: Final = 31 * 86_400
_AT_ONCE: Final = 100
"""Commands sent together: a call that reads waits behind them, and where it shares a core with the
server, so does its worker."""

_CALLS_AT_ONCE: Final = 25
"""A call takes the server as long as four commands."""

_REST: Final = 20
"""Times as long as such a batch took is the next one put off, where there is time."""

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

    def write_signals(
        self, packed: Mapping[int, tuple[bytes | None, bool]], *, within_s: float = 0
    ) -> None:
        """The signals of calling numbers by number, and whether they are to live `KEPT_SECONDS`
        from now on; None takes them away. Of many the writing may be spread over `within_s`, so
        that the server has time for what reads."""
        commands: list[tuple[str | bytes | int, ...]] = []
        for number, (value, renewed) in packed.items():
            key = layout.signals_key(number)
            if value is None:
                commands.append(("HDEL", key, self._node))
                continue
            commands.append(("HSET", key, self._node, value))
            if renewed:
                commands.append(("EXPIRE", key, KEPT_SECONDS))
        self._carry_out(commands, within_s=within_s)

    def write_calls(
        self, calls: Sequence[tuple[int, int, float, str]], *, within_s: float = 0
    ) -> None:
        """Commercial calls that rang: called number, entity, instant (epoch seconds), id of the
        decision, "" for a call that nobody can ask about again. Written again, it is there once.
        `within_s` as of `write_signals`.
        """
        self._carry_out(
            [
                (
                    "EVAL",
                    _APPEND,
                    1,
                    layout.frequency_key(called),
                    layout.calls_field(entity),
                    layout.pack_call(at, decision_id),
                    4 * MOST_CALLS,
                    FREQUENCY_SECONDS,
                )
                for called, entity, at, decision_id in calls
            ],
            at_once=_CALLS_AT_ONCE,
            within_s=within_s,
        )

    def lost(self) -> list[int]:
        """The shards that do not say that this recorder's signals are there."""
        with self._faults():
            mine = b"g." + self._node
            asked = [("HGET", layout.conduct_key(shard), mine) for shard in range(layout.SHARDS)]
            found = exchange(self._server, asked)
            return [shard for shard, each in enumerate(found) if each is None]

    def beat(self, at: float) -> None:
        """Say in every shard that all that this recorder knows was there at `at`."""
        said = (b"g", b"%d" % at, b"g." + self._node, b"%d" % at)
        self._carry_out(
            [("HSET", layout.conduct_key(shard), *said) for shard in range(layout.SHARDS)]
        )

    def read_signals(self, number: int) -> list[bytes]:
        """The signals of a calling number, of each node that wrote some."""
        with self._faults():
            return list(self._server.hvals(layout.signals_key(number)))

    def _carry_out(
        self,
        commands: Sequence[tuple[str | bytes | int, ...]],
        *,
        at_once: int = _AT_ONCE,
        within_s: float = 0,
    ) -> None:
        sent = time.monotonic()
        until = sent + within_s
        with self._faults():
            for start in range(0, len(commands), at_once):
                exchange(self._server, commands[start : start + at_once])
                batches = (len(commands) - start - 1) // at_once
                if batches and within_s:
                    now = time.monotonic()
                    time.sleep(max(0.0, min(_REST * (now - sent), (until - now) / batches)))
                    sent = time.monotonic()

    @contextmanager
    def _faults(self) -> Any:
        try:
            yield
        except ServerError as error:
            raise IndexUnavailable(f"index server {self._name}: {type(error).__name__}") from None
