"""What a listener beside HTTP counts: plain integers where calls pass, read when scraped."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class PortCounts:
    """The counts of one listener.

    `called` is keyed by method, `refused` by reason; both are words of ours, never a peer's.
    """

    __slots__ = ("called", "connections", "refused", "transport")

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.connections = 0
        self.called: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()


class PortsCollector(Collector):
    """The listeners' counts as Prometheus sees them."""

    def __init__(self, ports: Iterable[PortCounts]) -> None:
        self._ports = tuple(ports)

    def collect(self) -> Iterable[Metric]:
        """One sample a listener, method and reason."""
        connections = GaugeMetricFamily(
            "screening_port_connections",
            "Connections that are open now, by transport.",
            labels=("transport",),
        )
        called = CounterMetricFamily(
            "screening_port_requests",
            "Requests by transport and method.",
            labels=("transport", "method"),
        )
        refused = CounterMetricFamily(
            "screening_port_refused",
            "Requests answered with an error and connections cut off, by transport and reason.",
            labels=("transport", "reason"),
        )
        for port in self._ports:
            connections.add_metric((port.transport,), port.connections)
            for method, count in tuple(port.called.items()):
                called.add_metric((port.transport, method), count)
            for reason, count in tuple(port.refused.items()):
                refused.add_metric((port.transport, reason), count)
        return connections, called, refused
