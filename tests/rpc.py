"""A connection to the JSON-RPC listener, byte by byte if need be."""

import socket
from types import TracebackType
from typing import Any, Self

import orjson

from screening.netstring import Frames, frame
from screening.rpc import FRAME_LIMIT_BYTES


class RpcSocket:
    """Sends documents or bytes as they are, gives the documents that come back."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._frames = Frames(limit=16 * FRAME_LIMIT_BYTES)
        self._received: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, document: Any) -> None:
        """One document as a frame; bytes go in the frame as they are."""
        self.socket.sendall(frame(document if isinstance(document, bytes) else dumps(document)))

    def receive(self) -> Any:
        """The next document, None where the connection was closed."""
        while not self._received:
            data = self.socket.recv(65_536)
            if not data:
                return None
            self._frames.feed(data, self._received)
        return orjson.loads(self._received.pop(0))

    def ask(self, method: str, params: Any = None, *, identity: Any = 1) -> Any:
        """One request and the next document."""
        self.send(request(method, params, identity=identity))
        return self.receive()


def dumps(document: Any) -> bytes:
    return orjson.dumps(document)


_NOBODY = object()


def request(method: str, params: Any = None, *, identity: Any = _NOBODY) -> dict[str, Any]:
    """A request; a notification without `identity`."""
    document = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        document["params"] = params
    return document if identity is _NOBODY else document | {"id": identity}
