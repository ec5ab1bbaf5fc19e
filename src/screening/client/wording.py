"""Questions and answers on the wire of either transport. No I/O: bytes in, bytes out."""

import json
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from screening.client.answer import Answer, Unavailable, answer_from
from screening.netstring import BrokenFrame, Frames, frame

try:
    from orjson import dumps, loads
except ImportError:

    def dumps(document: Any, /) -> bytes:  # type: ignore[misc]
        """As orjson's."""
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    loads = json.loads  # type: ignore[assignment]

Fields = Mapping[str, str | int | bool | None]

_SCHEMES: Final = {"http": 8080, "netstring": 8090}
_ANSWER_LIMIT_BYTES: Final = 4_194_304


class Address:
    """Where the service is: http://host:port or netstring://host:port."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.path not in ("", "/"):
            message = f"url is {url!r}, expected http://host:port or netstring://host:port"
            raise ValueError(message)
        self.is_http: Final = parts.scheme == "http"
        self.host: Final = parts.hostname
        self.port: Final = parts.port or _SCHEMES[parts.scheme]
        self.text: Final = f"{parts.scheme}://{parts.netloc}"


def unavailable(address: Address, broken: Exception) -> Unavailable:
    """What broke on the way there, in the same words for either client."""
    errno = broken.errno if isinstance(broken, OSError) else None
    return Unavailable(f"{address.text}: {os.strerror(errno) if errno else broken}")


class HttpWording:
    """HTTP/1.1 of one connection: one question, one answer."""

    def __init__(self, address: Address, key: str) -> None:
        host = f"[{address.host}]" if ":" in address.host else address.host
        head = f"POST /v1/screen HTTP/1.1\r\nHost: {host}:{address.port}\r\n"
        head += "Content-Type: application/json\r\n"
        if key:
            head += f"Authorization: Bearer {key}\r\n"
        self._head = head.encode("latin-1")
        self._received = b""
        self.reusable = True
        """Whether the service keeps the connection."""

    def question(self, fields: Fields) -> tuple[int, bytes]:
        """What its answer is told by, and its bytes."""
        body = dumps(dict(fields))
        return 0, b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)

    def feed(self, data: bytes) -> list[tuple[int, Answer | Unavailable]]:
        """The answers that are whole now."""
        self._received += data
        head, mark, rest = self._received.partition(b"\r\n\r\n")
        if not mark:
            if len(head) > 65_536:
                raise Unavailable("the answer's head is too long")
            return []
        status, headers = _head_of(head)
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > _ANSWER_LIMIT_BYTES:
            raise Unavailable("the answer has no length that can be")
        if len(rest) < int(length):
            return []
        self._received = rest[int(length) :]
        self.reusable = headers.get(b"connection", b"").lower() != b"close"
        document = _document(rest[: int(length)])
        if status == 200:
            return [(0, answer_from(document))]
        detail = document.get("detail", "") if isinstance(document, dict) else ""
        return [(0, Unavailable(f"HTTP {status}: {detail}"))]


class RpcWording:
    """JSON-RPC over netstrings of one connection: answers in any order, told apart by id."""

    reusable = True

    def __init__(self) -> None:
        self._frames = Frames(limit=_ANSWER_LIMIT_BYTES)
        self._last = 0

    def question(self, fields: Fields) -> tuple[int, bytes]:
        """What its answer is told by, and its bytes."""
        self._last += 1
        request = {
            "jsonrpc": "2.0", "id": self._last, "method": "screen", "params": dict(fields),
        }  # fmt: skip
        return self._last, frame(dumps(request))

    def feed(self, data: bytes) -> list[tuple[int, Answer | Unavailable]]:
        """The answers that are whole now."""
        documents: list[bytes] = []
        try:
            self._frames.feed(data, documents)
        except BrokenFrame as broken:
            raise Unavailable(str(broken)) from None
        return [self._answer(_document(each)) for each in documents]

    def _answer(self, response: object) -> tuple[int, Answer | Unavailable]:
        if not isinstance(response, dict) or not isinstance(response.get("id"), int):
            raise Unavailable("a response that answers no question")
        if "result" in response:
            return response["id"], answer_from(response["result"])
        error = response.get("error")
        said = error.get("message") if isinstance(error, dict) else error
        return response["id"], Unavailable(f"JSON-RPC error: {said}")


Wording = HttpWording | RpcWording


def wording_for(address: Address, key: str) -> Wording:
    """The wording of a new connection."""
    return HttpWording(address, key) if address.is_http else RpcWording()


def _head_of(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = head.split(b"\r\n")
    if not first.startswith(b"HTTP/1.") or not first[9:12].isdigit():
        raise Unavailable("the answer is no HTTP")
    pairs = (line.partition(b":") for line in lines)
    return int(first[9:12]), {name.lower(): value.strip() for name, _, value in pairs}


def _document(text: bytes) -> Any:
    try:
        return loads(text)
    except ValueError as broken:
        raise Unavailable(f"the answer is no JSON: {broken}") from None
