"""The servers of an index as its writer reaches them: the one module that uses redis-py.

One server and what sentinels watch are a client of redis-py. A cluster is one client a node, and
the map of the shards: every command of ours is about one shard, that of its first key.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.commands import CoreCommands
from redis.exceptions import AskError, MovedError
from redis.retry import Retry
from redis.sentinel import Sentinel

from consent.index.address import Address, Kind, Servers
from consent.index.layout import SHARDS, TAGS
from consent.index.link import encode_command
from consent.index.topology import read_slots

ServerError = redis.RedisError
"""Whatever a server did not do."""

Client = Any
"""redis-py's own types say little: replies depend on the command."""

_SHARD: Final = {tag: shard for shard, tag in enumerate(TAGS)}
_MOST_ROUNDS: Final = 4
_NO_MAP: Final = (ValueError, TypeError, IndexError, AttributeError)


def open_servers(servers: Servers, *, connect_timeout_s: float, timeout_s: float) -> Client:
    """A client; the first command connects."""
    options = {
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": timeout_s,
        # One retry, without delay: a pooled connection may be of a server since restarted.
        "retry": Retry(NoBackoff(), 1),
        "protocol": 2,
    }
    if servers.kind is Kind.CLUSTER:
        return Cluster(servers, options)
    if servers.kind is Kind.SENTINEL:
        door = servers.doors[0]
        sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
            [(each.host, each.port) for each in servers.doors],
            sentinel_kwargs=options | _login(door) | {"ssl": door.tls},
            **options,
            **_login(servers.login),
            ssl=servers.login.tls,
        )
        return sentinels.master_for(servers.service)
    return _client(servers.doors[0], options)


def _client(address: Address, options: dict[str, Any]) -> Client:
    place: dict[str, Any] = {"host": address.host, "port": address.port, "ssl": address.tls}
    if address.path:
        place = {"unix_socket_path": address.path}
    return redis.Redis(**place, **_login(address), **options)


def _login(address: Address) -> dict[str, Any]:
    return {
        "username": address.user or None,
        "password": address.password or None,
        "db": address.database,
    }


def primaries(client: Client, servers: Servers) -> dict[str, Client]:
    """A client for each node that holds shards, by name. Raises ServerError."""
    return client.primaries() if isinstance(client, Cluster) else {servers.name: client}


def routes(client: Client, servers: Servers) -> tuple[str, ...]:
    """The name of the node of each shard. Raises ServerError."""
    return client.route() if isinstance(client, Cluster) else (servers.name,) * SHARDS


def exchange(client: Client, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
    """The replies to commands sent together, as servers gave them. Raises the first error of any.

    Past redis-py's pipeline, where commands are many: it takes four times as long for each.
    """
    if isinstance(client, Cluster):
        pipe = client.pipeline(transaction=False)
        for words in commands:
            pipe.execute_command(*words)
        return pipe.execute()
    packed = b"".join([encode_command(*words) for words in commands])
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        answers: list[Any] = connection.retry.call_with_retry(
            lambda: _answers(connection, packed, len(commands)),
            lambda _: connection.disconnect(),
        )
    finally:
        pool.release(connection)
    return answers


def _answers(connection: Any, packed: bytes, count: int) -> list[Any]:
    answers, failed = [], None
    connection.send_packed_command([packed])
    for _ in range(count):
        try:
            answers.append(connection.read_response())
        except redis.ResponseError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return answers


class Cluster(CoreCommands):
    """Commands to the node of their first key's shard. Raises ServerError.

    Safe in threads as redis-py's clients are. A node that cannot be reached fails the command,
    and the map is learnt anew by the next one.
    """

    _event_dispatcher: Any = None

    def __init__(self, servers: Servers, options: dict[str, Any]) -> None:
        self._options = options
        self.login = servers.login
        self._nodes: dict[str, tuple[Address, Client]] = {}
        self._route: tuple[str, ...] = ()
        self._failed = ""
        for door in servers.doors:
            self.reach(door)

    def close(self) -> None:
        for _, client in tuple(self._nodes.values()):
            client.close()

    def execute_command(self, *words: Any, **options: Any) -> Any:
        pipe = Pipeline(self)
        pipe.execute_command(*words, **options)
        return pipe.execute()[0]

    def pipeline(self, *, transaction: Literal[False]) -> "Pipeline":  # noqa: ARG002 - as redis-py
        """Commands sent together, to each node its own; none spans two shards."""
        return Pipeline(self)

    def primaries(self) -> dict[str, Client]:
        """A client for each node that holds shards, by name."""
        return {name: self.client(name) for name in sorted(set(self.route()))}

    # Announcements are made on the node of the first shard: see `announcement`.

    def publish(self, channel: Any, message: Any, **options: Any) -> Any:
        return self._home().publish(channel, message, **options)

    def pubsub(self, **options: Any) -> Any:
        return self._home().pubsub(**options)

    def _home(self) -> Client:
        return self.client(self.route()[0])

    def client(self, name: str) -> Client:
        return self._nodes[name][1]

    # The map.

    def reach(self, address: Address) -> Client:
        """The client of a node, made on first use."""
        if address.name not in self._nodes:
            self._nodes[address.name] = (address, _client(address, self._options))
        return self._nodes[address.name][1]

    def route(self) -> tuple[str, ...]:
        """The name of the node of each shard."""
        return self._route or self._learn()

    def forget(self, name: str = "") -> None:
        """Learn the map anew before the next command, of that node last."""
        self._route, self._failed = (), name

    def _learn(self) -> tuple[str, ...]:
        failed: Exception | None = None
        nodes = sorted(self._nodes.values(), key=lambda node: node[0].name == self._failed)
        for address, client in nodes:
            try:
                map_ = read_slots(client.execute_command("CLUSTER SLOTS"), asked=address)
            except (redis.RedisError, *_NO_MAP) as error:
                failed = failed or error
                continue
            for node in map_.nodes.values():
                self.reach(node)
            owners = tuple(each.name for each in map_.owners if each is not None)
            if len(owners) == SHARDS:
                self._route = owners
                return owners
            failed = failed or ServerError(f"{SHARDS - len(owners)} shards have no node")
        raise ServerError(f"no node told which one holds what: {failed}") from failed


class Pipeline(CoreCommands):
    """Commands to be sent together; a node gets its own in their order."""

    _event_dispatcher: Any = None

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._commands: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.clear()

    def execute_command(self, *words: Any, **options: Any) -> Self:
        key = words[3] if words[0] == "EVAL" else words[1]
        self._commands.append((_SHARD[key[:4]], words, options))
        return self

    def execute(self) -> list[Any]:
        """The replies in the order of the commands. Raises the first error of any."""
        answers: list[Any] = [None] * len(self._commands)
        left = list(range(len(self._commands)))
        try:
            for _ in range(_MOST_ROUNDS):
                self._send(left, answers)
                left = [at for at in left if isinstance(answers[at], MovedError)]
                if not left:
                    break
                self._cluster.forget()
        finally:
            self._commands.clear()
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _send(self, left: list[int], answers: list[Any]) -> None:
        cluster, route = self._cluster, self._cluster.route()
        by_node: dict[str, list[int]] = {}
        for at in left:
            by_node.setdefault(route[self._commands[at][0]], []).append(at)
        for name, mine in by_node.items():
            try:
                self._send_to(cluster.client(name), mine, answers)
            except (redis.ConnectionError, redis.TimeoutError) as gone:
                # The other nodes get theirs all the same.
                cluster.forget(name)
                for at in mine:
                    answers[at] = gone

    def _send_to(self, client: Client, mine: list[int], answers: list[Any]) -> None:
        with client.pipeline(transaction=False) as pipe:
            for at in mine:
                _, words, options = self._commands[at]
                pipe.execute_command(*words, **options)
            for at, answer in zip(mine, pipe.execute(raise_on_error=False), strict=True):
                # Also a MovedError, whose commands wait for the map.
                asked = isinstance(answer, AskError) and not isinstance(answer, MovedError)
                answers[at] = self._ask(answer, at) if asked else answer

    def _ask(self, sent: AskError, at: int) -> Any:
        """The reply of the node that the key of a command is on its way to."""
        _, words, options = self._commands[at]
        address = self._cluster.login.at(sent.host, sent.port)
        with self._cluster.reach(address).pipeline(transaction=False) as pipe:
            pipe.execute_command("ASKING")
            pipe.execute_command(*words, **options)
            return pipe.execute(raise_on_error=False)[1]
