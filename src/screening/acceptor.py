"""Connections shared out evenly between workers that accept from one queue.

A switch opens a few connections and keeps them for days, so that one worker which takes them all
answers all calls. The kernel gives a connection to whichever worker is first: the same one again
and again while it is idle. So each worker tells the others, in memory that all of them map, how
many connections it has open, and one that has more than the fewest lets the others go first for
an instant. Nothing is ever left in the queue for it: after that instant it accepts all the same.
"""

import asyncio
import contextlib
import mmap
import os
import socket
from collections.abc import Callable
from typing import Final, Self

DEFER_SECONDS: Final = 0.002
"""How long a worker lets others go first: an idle one takes a connection in 0.1 ms."""

SLACK: Final = 8
"""A worker is even with the fewest when it has at most one in so many more."""

NOT_ACCEPTING: Final = -1
_LISTENERS: Final = 8
_BUSY: Final = (BlockingIOError, ConnectionAbortedError, InterruptedError)
_OUT_OF_DESCRIPTORS_SECONDS: Final = 0.1


class Seats:
    """The table of open connections, a row a listener, a column a worker process.

    Made by the supervisor, mapped by every worker. Each field has one writer, and a reader may
    see it a moment late; nothing but fairness hangs on it.
    """

    def __init__(self, fd: int, count: int) -> None:
        self.fd = fd
        self.count = count
        self._map = mmap.mmap(fd, _LISTENERS * count * 4)
        self._fields = memoryview(self._map).cast("i")

    @classmethod
    def make(cls, count: int) -> Self:
        """A new table of `count` seats, all free."""
        fd = os.memfd_create("screening-seats", os.MFD_CLOEXEC)
        os.ftruncate(fd, _LISTENERS * count * 4)
        seats = cls(fd, count)
        for seat in range(count):
            seats.clear(seat)
        return seats

    def clear(self, seat: int) -> None:
        """Nobody accepts there."""
        for listener in range(_LISTENERS):
            self.tell(listener, seat, NOT_ACCEPTING)

    def tell(self, listener: int, seat: int, connections: int) -> None:
        """Say how many connections of a listener are open."""
        self._fields[listener * self.count + seat] = connections

    def fewest_of_others(self, listener: int, seat: int) -> int:
        """The fewest connections that another worker has; NOT_ACCEPTING where there is none."""
        row = self._fields[listener * self.count : (listener + 1) * self.count].tolist()
        row[seat] = NOT_ACCEPTING
        return min((each for each in row if each != NOT_ACCEPTING), default=NOT_ACCEPTING)


class Acceptor:
    """Accepts for one listener of one worker. `open_connections` counts those that it has.

    `listener` is the row of this listener in the table: its place among the listeners.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        open_connections: Callable[[], int],
        seats: Seats,
        seat: int,
        listener: int,
    ) -> None:
        self._sockets = sockets
        self._protocol = protocol
        self._open = open_connections
        self._seats = seats
        self._seat = seat
        self._listener = listener
        self._accepting = False
        self._coming: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accept from now on; the sockets listen."""
        self._accepting = True
        self._tell()
        for each in self._sockets:
            self._watch(each)

    def stop(self, *, leave_queue: bool) -> None:
        """Accept no more. What waits is left to the other workers, or else taken first."""
        if not self._accepting:
            return
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each.fileno())
            while not leave_queue and self._take(each):
                pass
            each.close()
        self._accepting = False
        self._seats.tell(self._listener, self._seat, NOT_ACCEPTING)

    def _watch(self, listening: socket.socket) -> None:
        if self._accepting:
            loop = asyncio.get_running_loop()
            loop.add_reader(listening.fileno(), self._readable, listening)

    def _tell(self) -> int:
        have = self._open() + len(self._coming)
        self._seats.tell(self._listener, self._seat, have)
        return have

    def _readable(self, listening: socket.socket) -> None:
        have = self._tell()
        fewest = self._seats.fewest_of_others(self._listener, self._seat)
        if fewest != NOT_ACCEPTING and have > fewest + fewest // SLACK:
            self._pause(listening, DEFER_SECONDS, take=True)
        else:
            self._take(listening)

    def _pause(self, listening: socket.socket, seconds: float, *, take: bool) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())

        def resume() -> None:
            if self._accepting:
                if take:
                    self._take(listening)
                self._watch(listening)

        loop.call_later(seconds, resume)

    def _take(self, listening: socket.socket) -> bool:
        """Accept one connection, if one waits that no other worker was faster to take."""
        try:
            connection, _ = listening.accept()
        except _BUSY:
            return False
        except OSError:
            # No descriptors are left: those that wait must, until some are given back.
            self._pause(listening, _OUT_OF_DESCRIPTORS_SECONDS, take=False)
            return False
        connection.setblocking(False)
        coming = asyncio.get_running_loop().create_task(self._connect(connection))
        self._coming.add(coming)
        coming.add_done_callback(self._coming.discard)
        self._tell()
        return True

    async def _connect(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # gone before it began
            with contextlib.suppress(OSError):
                connection.close()
