"""The id of a decision: what a caller can quote, a switch can deduplicate by, and nobody can
turn back into a number."""

import secrets
from hashlib import blake2b
from typing import Final

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [a + b for a in _CROCKFORD for b in _CROCKFORD]
"""Ten bits at once: the standard library's base32 is written in Python and takes a digit a time."""

_keyed: Final[dict[bytes, blake2b]] = {}
"""The hash under the key of this process before any call: a copy costs a third of a new one."""


def decision_id(*, call_id: str, calling: str, called: str, key: bytes) -> str:
    """26 characters of Crockford base32: a keyed hash of the call, random without `call_id`.

    The same call asked again, by a fork, a retransmission or another node with the same key, has
    the same id. Valid as the `id` of a 603+ Reason (at most 64 of `[A-Za-z0-9_-]`).
    """
    if call_id:
        # The lengths keep ("a", "bc") and ("ab", "c") apart.
        text = f"{len(call_id)}:{call_id}{len(calling)}:{calling}{called}"
        keyed = _keyed.get(key)
        if keyed is None:
            _keyed.clear()
            keyed = _keyed[key] = blake2b(digest_size=16, key=key)
        hashed = keyed.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        digest = hashed.digest()
    else:
        digest = secrets.token_bytes(16)
    return _base32(digest)


def _base32(digest: bytes) -> str:
    """The first 26 digits of 16 bytes: 128 bits and two of padding."""
    pairs = _PAIRS
    high = digest[0] << 32 | digest[1] << 24 | digest[2] << 16 | digest[3] << 8 | digest[4]
    middle = digest[5] << 32 | digest[6] << 24 | digest[7] << 16 | digest[8] << 8 | digest[9]
    low = (
        digest[10] << 42 | digest[11] << 34 | digest[12] << 26 | digest[13] << 18
        | digest[14] << 10 | digest[15] << 2
    )  # fmt: skip
    return (
        f"{pairs[high >> 30]}{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}"
        f"{pairs[high & 1023]}{pairs[middle >> 30]}{pairs[middle >> 20 & 1023]}"
        f"{pairs[middle >> 10 & 1023]}{pairs[middle & 1023]}{pairs[low >> 40]}"
        f"{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}"
        f"{pairs[low & 1023]}"
    )


class RecentCalls:
    """Which call keys were decided lately, so that counters count a call once.

    Two generations of ids: the young one is filled until it holds `capacity` ids or is
    `horizon_seconds` old, then becomes the old one. Memory is bounded whatever is asked, and an
    id is remembered for at least one horizon unless more than `capacity` calls came in it.
    """

    __slots__ = ("_born", "_capacity", "_horizon", "_old", "_young")

    def __init__(self, *, capacity: int = 100_000, horizon_seconds: float = 180.0) -> None:
        self._capacity = capacity
        self._horizon = horizon_seconds
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._born = 0.0

    def attempt(self, identity: str, now: float) -> int:
        """The how-manieth question about this call this is, from 1; `now` is monotonic seconds."""
        if len(self._young) >= self._capacity or now - self._born > self._horizon:
            self._old = self._young
            self._young = {}
            self._born = now
        young = self._young
        known = len(young)
        attempt = young.setdefault(identity, 1)
        if len(young) == known:
            attempt += 1
            young[identity] = attempt
        elif identity in self._old:
            attempt = young[identity] = self._old[identity] + 1
        return attempt
