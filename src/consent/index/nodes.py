"""The nodes of an index as its readers use them: a link to each, and which one holds a shard.

Invariants:
- no call ever waits for the map: it takes the link that is known now, and where that one is
  gone the facts are unknown;
- the map is learnt in the background: now and then, and often while a node is gone or has sent
  somebody elsewhere, until each shard has a node that answers.
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal

import hiredis

from consent.index.address import Address, Kind, Servers
from consent.index.layout import SHARDS
from consent.index.link import Link, Timing, encode_command, greeting
from consent.index.topology import Redirect, read_slots

LOOK_SECONDS: Final = {Kind.CLUSTER: 5.0, Kind.SENTINEL: 1.0}
"""How often the map is learnt anew while all is well: a cluster's nodes tell when it is wrong, a
primary that sentinels have replaced may not know it yet."""

SEARCH_SECONDS: Final = 0.1
"""The same while a node is gone."""

ANSWER_SECONDS: Final = 0.5
"""How long one node may take to tell the map before the next one is asked."""

_NOT_ANSWERED: Final = (
    OSError, EOFError, TimeoutError, hiredis.HiredisError,
    ValueError, TypeError, IndexError, AttributeError,
)  # fmt: skip


async def connect(
    address: Address, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of its own, not yet logged in. Raises OSError."""
    if address.path:
        return await asyncio.open_unix_connection(address.path)
    context = (tls or ssl.create_default_context()) if address.tls else None
    return await asyncio.open_connection(address.host, address.port, ssl=context)


async def _asked(address: Address, tls: ssl.SSLContext | None, *words: str) -> Any:
    """The reply to one command over a connection of its own. Raises one of _NOT_ANSWERED."""
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await connect(address, tls)
        try:
            commands = [*greeting(address), encode_command(*words)]
            writer.write(b"".join(commands))
            replies = hiredis.Reader()
            answers: list[Any] = []
            while len(answers) < len(commands):
                received = await reader.read(65536)
                if not received:
                    raise EOFError
                replies.feed(received)
                while (reply := replies.gets()) is not False:
                    if isinstance(reply, hiredis.ReplyError):
                        raise reply
                    answers.append(reply)
            return answers[-1]
        finally:
            writer.close()


async def owners(
    servers: Servers, known: Iterable[Address], tls: ssl.SSLContext | None
) -> tuple[tuple[Address | None, ...], dict[str, Address]] | None:
    """The node of each shard, and all nodes by name; None where nobody answers.

    `known` are asked before the doors of `servers`.
    """
    if servers.kind is Kind.SINGLE:
        return servers.doors * SHARDS, {servers.name: servers.login}
    for door in {each.name: each for each in (*known, *servers.doors)}.values():
        with contextlib.suppress(*_NOT_ANSWERED):
            if servers.kind is Kind.CLUSTER:
                map_ = read_slots(await _asked(door, tls, "CLUSTER", "SLOTS"), asked=door)
                return map_.owners, map_.nodes
            words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", servers.service)
            host, port = await _asked(door, tls, *words)
            primary = servers.login.at(host.decode(), int(port))
            # Sentinels hear of a failover one after the other: go by one whose word holds.
            if (await _asked(primary, tls, "ROLE"))[0] != b"master":
                continue
            return (primary,) * SHARDS, {primary.name: primary}
    return None


class Nodes:
    """A link to each node, kept up; `route` is the link of each shard. Of one event loop."""

    def __init__(
        self,
        servers: Servers,
        *,
        timing: Timing,
        most_waiting: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.servers = servers
        self.links: dict[str, Link] = {}
        self._timing = timing
        self._most_waiting = most_waiting
        self._tls = tls
        self._trouble = asyncio.Event()
        self._known: dict[str, Address] = {}
        self._turn = 0
        self._idle: set[str] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._follower: asyncio.Task[None] | None = None
        self._gone: Counter[str] = Counter()
        nowhere = servers.doors[0] if servers.kind is Kind.SINGLE else servers.login.at("none", 0)
        self._nowhere = self._new_link(nowhere)
        self.route: list[Link] = [self._nowhere] * SHARDS
        if servers.kind is Kind.SINGLE:
            self.links[servers.name] = self._nowhere

    def _new_link(self, address: Address) -> Link:
        kind = self.servers.kind
        return Link(
            address,
            timing=self._timing,
            most_waiting=self._most_waiting,
            tls=self._tls,
            troubled=None if kind is Kind.SINGLE else self._trouble.set,
            primary=kind is Kind.SENTINEL,
        )

    async def start(self) -> None:
        """Connect and keep connected; returns after the first attempt, whatever came of it."""
        if self.servers.kind is Kind.SINGLE:
            await self._nowhere.start()
            return
        await self._learn()
        self._follower = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """End all connections and settle what still waits with None."""
        tasks = [*self._starting, *([self._follower] if self._follower else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._follower = None
        for link in self.links.values():
            await link.close()

    @property
    def state(self) -> Literal["closed", "open"]:
        """ "open" while the facts of any shard are unknown because its node is taken as gone."""
        return "open" if any(link.state == "open" for link in set(self.route)) else "closed"

    @property
    def last_error(self) -> str:
        """Of the nodes that are gone, or else of any."""
        in_use = set(self.route)
        gone = [link for link in in_use if link.state == "open"]
        return next((link.last_error for link in gone or in_use if link.last_error), "")

    def states(self) -> dict[str, str]:
        """The breaker of each node that holds a shard, by name; "none" for shards without one."""
        return {
            link.address.name if link.address.name in self.links else "none": link.state
            for link in set(self.route)
        }

    def counts(self) -> Counter[str]:
        """Reads, timeouts, errors and rejected of all nodes since the start."""
        counts = Counter(self._gone)
        for link in {*self.links.values(), self._nowhere}:
            counts += _counts_of(link)
        return counts

    # Where somebody was sent.

    def moved(self, shard: int, where: Redirect) -> None:
        """Take a node at its word that another one holds this shard, until the map is learnt."""
        self.route[shard] = self.towards(where)
        self._trouble.set()

    def towards(self, where: Redirect) -> Link:
        """The link to the node that somebody was sent to, connected soon where it is new."""
        link = self.links.get(where.address.name)
        if link is None:
            link = self._begin(where.address)
        return link

    def _begin(self, address: Address) -> Link:
        link = self.links[address.name] = self._new_link(address)
        task = asyncio.get_running_loop().create_task(link.start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return link

    # The map.

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._trouble.wait()
                # No more often than this, however many calls were sent elsewhere.
                await asyncio.sleep(SEARCH_SECONDS)
            self._trouble.clear()
            await self._learn()

    def _pause(self) -> float:
        return LOOK_SECONDS[self.servers.kind] if self.state == "closed" else SEARCH_SECONDS

    async def _learn(self) -> None:
        """Bring links and route up to what the servers say now."""
        # Whoever answers calls is asked first: a lost host would take its time not to answer.
        # Each time another one, since a node cut off from the rest may still tell an old map.
        found = await owners(self.servers, self._known_well_first(), self._tls)
        if found is None:
            self._nowhere.last_error = f"index server {self.servers.name}: nobody says where it is"
            return
        addresses, self._known = found
        new = [
            self._begin(each)
            for name, each in {each.name: each for each in addresses if each}.items()
            if name not in self.links
        ]
        if new and self._starting:
            await asyncio.wait(self._starting, timeout=self._timing.connect_s)
        self.route = [self.links[each.name] if each else self._nowhere for each in addresses]
        await self._leave_idle()

    def _known_well_first(self) -> list[Address]:
        if self.servers.kind is Kind.SENTINEL:
            return []
        self._turn += 1
        names = [*self._known]
        names = names[self._turn % (len(names) or 1) :] + names[: self._turn % (len(names) or 1)]
        well = {name for name, link in self.links.items() if link.state == "closed"}
        return [self._known[name] for name in sorted(names, key=lambda name: name not in well)]

    async def _leave_idle(self) -> None:
        """Close what has held no shard since the map before this one: calls may still wait."""
        used = {link.address.name for link in self.route}
        idle = self.links.keys() - used
        for name in idle & self._idle:
            link = self.links.pop(name)
            await link.close()
            self._gone += _counts_of(link)
        self._idle = idle - self._idle


def _counts_of(link: Link) -> Counter[str]:
    return Counter(
        reads=link.reads, timeouts=link.timeouts, errors=link.errors, rejected=link.rejected
    )
