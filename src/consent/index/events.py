"""Events of the ledger in the index, each in the shard of its called number.

Invariant: a shard's sequence moves in the same script as the facts that it counts, so events may
be replayed from any earlier point.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from consent.event import CALLER_KINDS, HELD_KINDS, Event, EventKind
from consent.facts import ALL_BIT, NO_PROFILE, Consent
from consent.index import layout
from consent.index.fault import IndexRefused
from consent.index.target import Target

_EVENTS_A_WINDOW: Final = 20_000
_EVENTS_A_SCRIPT: Final = 256

# Each script begins by proving the stamp: field ARGV[1] is ARGV[2].

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


class EventWriter(Target):
    """Brings events into the index."""

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
            if event.kind in CALLER_KINDS:
                continue
            shard = layout.shard_of(event.called)
            if event.sequence > reached[shard]:
                by_shard.setdefault(shard, []).append(event)
        width = layout.bucket_width(self._epoch)
        with self._faults(), self._server.pipeline(transaction=False) as pipe:
            for shard, events in by_shard.items():
                for first in range(0, len(events), _EVENTS_A_SCRIPT):
                    batch = events[first : first + _EVENTS_A_SCRIPT]
                    keys, words = _batch(batch, self._side, width)
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
                pipe.eval(_ADVANCE, 1, self._side.stamp_key(shard), *words)
            self._prove(pipe.execute())


def _batch(
    events: list[Event], side: layout.Side, width: int
) -> tuple[list[bytes], list[bytes | str | int]]:
    """The keys and words of one run of the script for events of one shard."""
    shard = layout.shard_of(events[0].called)
    places: dict[bytes, int] = {side.stamp_key(shard): 1}
    words: list[bytes | str | int] = []
    for event in events:
        called, body = event.called, event.body
        bucket = places.setdefault(side.bucket_key(called, width), len(places) + 1)
        low = layout.profile_field(called, width)
        match event.kind:
            case kind if kind is EventKind.CONSENT_GRANTED or kind in HELD_KINDS:
                consent = layout.consent_from(event.sequence, body)
                field = layout.consent_field(called, body["entity"], width)
                step = ("set", bucket, field, layout.encode_consent(consent))
            case EventKind.CONSENT_REVOKED if "categories" in body:
                # In part or from an instant to come: it says the whole of what is then held.
                field = layout.consent_field(called, body["entity"], width)
                consent = layout.consent_from(event.sequence, body)
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
                own = places.setdefault(side.personal_key(called), len(places) + 1)
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
                own = places.setdefault(side.personal_key(called), len(places) + 1)
                step = ("reassign", bucket, low, b"%d" % own)
        words += (event.sequence, *step)
    return list(places), words
