"""Which node holds which shard, as the servers tell it. No I/O.

A cluster divides 16384 slots among its primaries; a key's slot is that of its hash tag, so each
shard of the layout has one (Redis cluster specification, "Key distribution model").
"""

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from consent.index.address import Address
from consent.index.layout import SHARDS, TAGS

SLOTS: Final = tuple(crc_hqx(tag[1:-1], 0) % 16384 for tag in TAGS)
"""The slot of each shard: CRC-16/XMODEM of the tag without its braces."""


@dataclass(frozen=True, slots=True)
class Map:
    """The primary of each shard, None where the cluster has none, and every node by name."""

    owners: tuple[Address | None, ...]
    nodes: dict[str, Address]


def read_slots(reply: Sequence[Any], *, asked: Address) -> Map:
    """What a node answered to CLUSTER SLOTS; `asked` is that node, and how to log in to others.

    Raises ValueError, TypeError, IndexError or AttributeError for what is no such answer.
    """
    owners: list[Address | None] = [None] * SHARDS
    nodes: dict[str, Address] = {}
    for first, last, *members in reply:
        addresses = [_member(each, asked) for each in members]
        nodes |= {each.name: each for each in addresses}
        for shard, slot in enumerate(SLOTS):
            if first <= slot <= last:
                owners[shard] = addresses[0]
    return Map(tuple(owners), nodes)


def _member(member: Sequence[Any], asked: Address) -> Address:
    # A node that does not know its own name leaves it out: it is the one that was asked.
    host = member[0].decode() if member[0] else ""
    return asked.at(host if host not in {"", "?"} else asked.host, int(member[1]))


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a node sends one instead: for good (MOVED), or for this command (ASK)."""

    for_good: bool
    address: Address


def read_redirect(error: str, *, asked: Address) -> Redirect | None:
    """What an error such as `MOVED 3999 127.0.0.1:6381` says; None for any other error."""
    word, _, rest = error.partition(" ")
    if word not in {"MOVED", "ASK"}:
        return None
    host, colon, port = rest.partition(" ")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return None
    return Redirect(word == "MOVED", asked.at(host or asked.host, int(port)))
