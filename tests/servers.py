"""Real index servers for tests: alone on a socket, in a cluster, watched by sentinels."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster

_given = [os.getpid()]
"""What `free_ports` has tried last; others on the machine may run the same tests."""

NODE_TIMEOUT_MS = 500
"""After which a node is taken for failed: the smaller, the shorter the tests' failovers."""


def eventually(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait for a condition; fail when it has not come true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


class IndexServer:
    """A server process on a Unix socket of its own, to be frozen, killed and started again."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}?db=0"
        self.words = [program, "--port", "0", "--unixsocket", str(self.socket), "--dir"]
        self.words += [str(folder), "--save", "", "--maxmemory-policy", "noeviction"]
        self.words += ["--logfile", str(folder / "log"), "--enable-debug-command", "yes"]
        # Where it appends, every answered write outlives the process: with `everysec`, up to two
        # seconds of them are held back while the disk is slow.
        self.words += ["--appendfsync", "no"]
        self.words += options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.words, start_new_session=True)
        eventually(self._answers)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, protocol=2)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, and that no other process of the tests is given.

    They lie below those that Linux gives to who asks for any port (from 32,768).
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    free: list[int] = []
    while len(free) < count:
        _given[0] += 1
        port = 20_000 + int(worker) % 8 * 1500 + _given[0] % 1500
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
    return free


class Node(IndexServer):
    """A server on a port of loopback."""

    def __init__(self, program: str, folder: Path, port: int, *options: str) -> None:
        folder.mkdir()
        super().__init__(
            program, folder, "--port", str(port), "--bind", "127.0.0.1",
            "--repl-diskless-sync-delay", "0", *options,
        )  # fmt: skip
        self.port = port
        self.name = f"127.0.0.1:{port}"

    def role(self) -> str:
        with self.client() as client:
            # Who is made a primary ends its connections.
            with contextlib.suppress(redis.ConnectionError):
                return str(client.info("replication")["role"])
            return ""

    def link_is_up(self) -> bool:
        with self.client() as client:
            return client.info("replication").get("master_link_status") == "up"


class Cluster:
    """Three primaries, each with `replicas` of its own; started whole."""

    def __init__(self, program: str, folder: Path, *, replicas: int = 0, append: bool) -> None:
        count = 3 * (1 + replicas)
        ports = free_ports(2 * count)
        self.nodes = [
            Node(
                program, folder / f"n{at}", ports[at],
                "--cluster-enabled", "yes",
                "--cluster-port", str(ports[count + at]),
                "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
                "--cluster-replica-validity-factor", "0",
                "--cluster-require-full-coverage", "no",
                "--appendonly", "yes" if append else "no",
            )
            for at in range(count)
        ]  # fmt: skip
        self._bus = ports[count:]
        self.url = "redis+cluster://" + ",".join(node.name for node in self.nodes[:3])

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        clients = [node.client() for node in self.nodes]
        for at, client in enumerate(clients):
            if at < 3:
                slots = [(0, 5460), (5461, 10922), (10923, 16383)][at]
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for node, bus in zip(self.nodes[1:], self._bus[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
        for at, client in enumerate(clients[3:]):
            eventually(lambda c=client, p=ids[at % 3]: _replicates(c, p), within_s=20)
        self.await_whole()
        eventually(lambda: all(node.link_is_up() for node in self.nodes[3:]), within_s=20)
        for client in clients:
            client.close()

    def await_whole(self) -> None:
        """Until every node that runs says that all slots are served."""
        running = [node for node in self.nodes if node.process is not None]
        eventually(lambda: all(map(_is_whole, running)), within_s=20)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def has_promoted(self, replica: Node) -> bool:
        """Whether a replica has taken its primary's place."""
        return replica.role() == "master"

    def primary_of(self, key: bytes) -> Node:
        """The node that holds a key now."""
        with client_of(self.url) as client:
            name = client.get_node_from_key(key).name
        return next(node for node in self.nodes if node.name == name)


def _replicates(client: "redis.Redis", primary: str) -> bool:
    """Ask a node to replicate another one: it must have heard of it first."""
    with contextlib.suppress(redis.ResponseError):
        return bool(client.execute_command("CLUSTER", "REPLICATE", primary))
    return False


def _is_whole(node: Node) -> bool:
    with node.client() as client:
        about = client.execute_command("CLUSTER", "INFO")
        served = sum(each[1] - each[0] + 1 for each in client.execute_command("CLUSTER", "SLOTS"))
    return b"cluster_state:ok" in about and served == 16384


class Watched:
    """A primary and a replica that three sentinels watch as `calls`."""

    def __init__(self, program: str, folder: Path) -> None:
        ports = free_ports(5)
        self.nodes = [
            Node(program, folder / f"n{at}", ports[at], "--appendonly", "yes") for at in range(2)
        ]
        self.sentinels = []
        for at, port in enumerate(ports[2:]):
            sentinel = Node(program, folder / f"s{at}", port)
            config = sentinel.folder / "sentinel.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\nunixsocket {sentinel.socket}\n"
                f"dir {sentinel.folder}\nlogfile {sentinel.folder / 'log'}\n"
                f"sentinel monitor calls 127.0.0.1 {ports[0]} 2\n"
                f"sentinel down-after-milliseconds calls {NODE_TIMEOUT_MS}\n"
                "sentinel failover-timeout calls 2000\n"
            )
            sentinel.words = [program, str(config), "--sentinel"]
            self.sentinels.append(sentinel)
        doors = ",".join(each.name for each in self.sentinels)
        self.url = f"redis+sentinel://{doors}/calls"

    def start(self) -> None:
        first, second = self.nodes
        first.start()
        second.start()
        with second.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", first.port)
        eventually(second.link_is_up, within_s=20)
        for sentinel in self.sentinels:
            sentinel.start()
        eventually(lambda: all(map(_knows_all, self.sentinels)), within_s=30)

    def has_promoted(self, replica: Node) -> bool:
        """Whether a sentinel says that the replica has taken its primary's place."""
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                said = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "calls")
            if said and int(said[1]) == replica.port:
                return True
        return False

    def kill(self) -> None:
        for node in (*self.sentinels, *self.nodes):
            node.kill()


def _knows_all(sentinel: Node) -> bool:
    with sentinel.client() as client:
        words = client.execute_command("SENTINEL", "MASTERS")
        about = words[0] if isinstance(words, list) else words["calls"]
    if isinstance(about, list):
        about = dict(zip(about[::2], about[1::2], strict=True))
    said = {str(name, "utf-8") if isinstance(name, bytes) else name: v for name, v in about.items()}
    return int(said["num-slaves"]) == 1 and int(said["num-other-sentinels"]) == 2


@contextlib.contextmanager
def running_cluster(program: str, folder: Path, *, replicas: int = 0) -> Iterator[Cluster]:
    """A cluster of one program, stopped when the block ends."""
    cluster = Cluster(program, folder, replicas=replicas, append=bool(replicas))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


def client_of(url: str) -> Any:
    """A client of redis-py for the index at `url`."""
    if not url.startswith("redis+cluster://"):
        return redis.Redis.from_url(url, protocol=2)
    doors = url.removeprefix("redis+cluster://").split(",")
    nodes = [ClusterNode(*door.split(":")) for door in doors]
    return RedisCluster(startup_nodes=nodes, protocol=2)
