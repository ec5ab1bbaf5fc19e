"""What a worker can ask of the others, through the supervisor."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry

from screening.channel import Channel, Message
from screening.merging import snapshot

log = logging.getLogger(__name__)

SCRAPE_SECONDS: Final = 5.0


class Siblings:
    """A worker's side of its channel. Belongs to the worker's event loop.

    `told` does what another worker asks of all, and gives the answer.
    """

    def __init__(
        self,
        channel: Channel,
        registry: CollectorRegistry,
        *,
        told: Callable[[Message], Awaitable[Any]],
        accept: Callable[[], None],
        drain: Callable[[bool], None],
    ) -> None:
        self._channel = channel
        self._registry = registry
        self._told = told
        self._accept = accept
        self._drain = drain
        self._numbers = itertools.count(1)
        self._awaited: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def attend(self) -> None:
        """Do what the supervisor says; when it is gone, drain."""
        async for message in self._channel.messages():
            match message["what"]:
                case "accept":
                    self._accept()
                case "drain":
                    self._drain(message["leave_queue"])
                case "metrics":
                    self.tell_metrics(message["number"])
                case "scraped":
                    self._take(message["number"], message["text"])
                case "told_all":
                    self._take(message["number"], message["answers"])
                case _:
                    task = asyncio.create_task(self._answer(message))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        log.error("the supervisor is gone: draining")
        self._drain(False)

    def ready(self) -> None:
        """Say that calls can be answered here."""
        self._channel.send({"what": "ready"})

    def tell_metrics(self, number: int = 0) -> None:
        """Say what was counted here so far."""
        families = snapshot(self._registry)
        self._channel.send({"what": "metrics", "number": number, "families": families})

    async def leave(self) -> None:
        """Say the last, and be gone."""
        self.tell_metrics()
        await self._channel.drained()

    async def metrics(self) -> bytes | None:
        """The metrics of all workers as text; None where the supervisor does not say."""
        text = await self._ask({"what": "scrape"}, SCRAPE_SECONDS)
        return text.encode() if text is not None else None

    async def tell_all(self, message: Message, *, seconds: float) -> list[Any]:
        """What every other worker answers to a message; fewer where some do not in time."""
        return await self._ask({"what": "tell_all", "message": message}, seconds) or []

    async def _ask(self, message: Message, seconds: float) -> Any:
        number = next(self._numbers)
        awaited = self._awaited[number] = asyncio.get_running_loop().create_future()
        self._channel.send({**message, "number": number})
        try:
            async with asyncio.timeout(seconds):
                return await awaited
        except TimeoutError:
            return None
        finally:
            del self._awaited[number]

    def _take(self, number: int, answer: Any) -> None:
        if (awaited := self._awaited.get(number)) is not None and not awaited.done():
            awaited.set_result(answer)

    async def _answer(self, message: Message) -> None:
        answer = await self._told(message)
        self._channel.send({"what": "reply", "number": message["number"], "answer": answer})
