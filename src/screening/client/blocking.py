"""The blocking client: safe in threads, one connection for each question that is under way."""

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from screening.client.answer import Answer, Unavailable, failed_open
from screening.client.wording import Address, unavailable, wording_for

_READ_BYTES: Final = 65_536


class _Connection:
    """One connection, used by one thread at a time."""

    def __init__(self, address: Address, key: str, remaining: Callable[[], float]) -> None:
        self.wording = wording_for(address, key)
        self._socket = socket.create_connection((address.host, address.port), remaining())
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard = False
        """Whether anything was received since the last question."""

    def ask(
        self, fields: dict[str, str | int | bool | None], remaining: Callable[[], float]
    ) -> Answer | Unavailable:
        self.heard = False
        identity, question = self.wording.question(fields)
        self._socket.settimeout(remaining())
        self._socket.sendall(question)
        while True:
            self._socket.settimeout(remaining())
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the connection was closed")
            self.heard = True
            for answered, answer in self.wording.feed(data):
                if answered == identity:
                    return answer

    def close(self) -> None:
        self._socket.close()


class Client:
    """Asks the service at `url` (http://host:port or netstring://host:port).

    `screen` answers within `deadline_ms`, connecting included. Where there is no verdict by then
    it allows the call, with `failed_open` and the reason; with `fail_open=False` it raises
    Unavailable. `connections` are kept open at most.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_ms: float = 50.0,
        key: str = "",
        fail_open: bool = True,
        connections: int = 8,
    ) -> None:
        self._address = Address(url)
        self._deadline = deadline_ms / 1000
        self._key = key
        self._fail_open = fail_open
        self._most = connections
        # Appending and popping are atomic: no lock.
        self._idle: list[_Connection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open and idle."""
        while self._idle:
            self._idle.pop().close()

    def screen(self, **fields: str | int | bool | None) -> Answer:
        """The verdict on one call; the fields are those of the contract.

        Raises Unavailable without `fail_open`, and nothing else.
        """
        until = time.monotonic() + self._deadline

        def remaining() -> float:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            return left

        try:
            return self._ask(fields, remaining)
        except Unavailable as failure:
            why = failure
        except TimeoutError:
            why = Unavailable(
                f"{self._address.text} did not answer within {self._deadline * 1e3:g} ms"
            )
        except (OSError, TypeError, ValueError) as broken:
            why = unavailable(self._address, broken)
        if not self._fail_open:
            raise why
        return failed_open(str(why))

    def _ask(
        self, fields: dict[str, str | int | bool | None], remaining: Callable[[], float]
    ) -> Answer:
        while True:
            try:
                connection, reused = self._idle.pop(), True
            except IndexError:
                connection, reused = _Connection(self._address, self._key, remaining), False
            try:
                answer = connection.ask(fields, remaining)
            except ConnectionError:
                connection.close()
                if reused and not connection.heard:
                    # It was closed while idle, as may be: the question was not answered twice.
                    continue
                raise
            except BaseException:
                # What comes late on it would be taken for the answer to the next question.
                connection.close()
                raise
            if connection.wording.reusable and len(self._idle) < self._most:
                self._idle.append(connection)
            else:
                connection.close()
            if isinstance(answer, Unavailable):
                raise answer
            return answer
