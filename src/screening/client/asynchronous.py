"""The asynchronous client: for one event loop, any number of questions under way.

Over netstrings all of them share one connection; over HTTP each has one.
"""

import asyncio
from types import TracebackType
from typing import Final, Self, cast

from screening.client.answer import Answer, Unavailable, failed_open
from screening.client.wording import Address, unavailable, wording_for

SILENCE_SECONDS: Final = 1.0
"""Questions unanswered for so long on a connection end it; the next one makes another."""


class _Connection(asyncio.Protocol):
    """One connection; questions wait on it by what their answers are told by."""

    def __init__(self, address: Address, key: str) -> None:
        self.wording = wording_for(address, key)
        self.waiting: dict[int, asyncio.Future[Answer | Unavailable]] = {}
        self.heard = False
        """Whether anything was received since the last question."""
        self.silent_since = 0.0
        """Of the loop's clock: since when questions wait and nothing is heard."""
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        self.silent_since = asyncio.get_running_loop().time()
        try:
            answers = self.wording.feed(data)
        except Unavailable as broken:
            self._end(broken)
            return
        for identity, answer in answers:
            waiting = self.waiting.pop(identity, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the connection was closed"))

    async def ask(self, fields: dict[str, str | int | bool | None]) -> Answer | Unavailable:
        if self._transport is None:
            raise ConnectionResetError("the connection was closed")
        self.heard = False
        identity, question = self.wording.question(fields)
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        if not self.waiting:
            self.silent_since = loop.time()
        self.waiting[identity] = waiting
        self._transport.write(question)
        try:
            answered: Answer | Unavailable = await waiting
        finally:
            self.waiting.pop(identity, None)
        return answered

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, why: Exception) -> None:
        self.close()
        self._transport = None
        waiting, self.waiting = self.waiting, {}
        for each in waiting.values():
            if not each.done():
                each.set_exception(why)


class AsyncClient:
    """Asks the service at `url` (http://host:port or netstring://host:port).

    As `Client`, but asynchronous and of one event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_ms: float = 50.0,
        key: str = "",
        fail_open: bool = True,
        connections: int = 64,
    ) -> None:
        self._address = Address(url)
        self._deadline = deadline_ms / 1000
        self._key = key
        self._fail_open = fail_open
        self._most: Final = connections
        self._idle: list[_Connection] = []
        self._connecting: asyncio.Lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what is open."""
        while self._idle:
            self._idle.pop().close()

    async def screen(self, **fields: str | int | bool | None) -> Answer:
        """The verdict on one call; the fields are those of the contract.

        Raises Unavailable without `fail_open`, and nothing else but a cancellation.
        """
        try:
            async with asyncio.timeout(self._deadline):
                return await (self._over_http(fields) if self._address.is_http
                              else self._over_netstrings(fields))  # fmt: skip
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

    async def _connect(self) -> _Connection:
        _, made = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._address, self._key), self._address.host, self._address.port
        )
        return made

    async def _over_http(self, fields: dict[str, str | int | bool | None]) -> Answer:
        while True:
            while self._idle and not self._idle[-1].is_open:
                self._idle.pop()
            reused = bool(self._idle)
            connection = self._idle.pop() if reused else await self._connect()
            try:
                answer = await connection.ask(fields)
            except ConnectionError:
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
            return _verdict(answer)

    async def _over_netstrings(self, fields: dict[str, str | int | bool | None]) -> Answer:
        if not (self._idle and self._idle[0].is_open):
            async with self._connecting:
                if not (self._idle and self._idle[0].is_open):
                    self._idle[:] = [await self._connect()]
        connection = self._idle[0]
        try:
            return _verdict(await connection.ask(fields))
        except asyncio.CancelledError:
            # One slow answer ends nothing; a peer that is gone without a word must not be asked on.
            if asyncio.get_running_loop().time() - connection.silent_since > SILENCE_SECONDS:
                connection.close()
            raise


def _verdict(answer: Answer | Unavailable) -> Answer:
    if isinstance(answer, Unavailable):
        raise answer
    return answer
