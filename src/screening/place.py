"""Where a worker process stands among the others, and what it was given to answer calls with."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Self

from screening.acceptor import Acceptor, Seats
from screening.listeners import Sockets


@dataclass(frozen=True, slots=True)
class Place:
    """A worker among the others: `slot` is its name for as long as the service runs, `seat` is
    of this process alone. `channel` is a blocking socket to the supervisor."""

    slot: int
    workers: int
    seat: int
    seats: Seats
    channel: socket.socket
    sockets: Sockets

    @classmethod
    def given(cls, text: str) -> Self:
        """What the supervisor wrote."""
        words = json.loads(text)
        # What this worker starts in turn must not keep an address open, nor a channel.
        for each in (words["seats"][0], words["channel"], *chain(*words["sockets"].values())):
            os.set_inheritable(each, False)
        return cls(
            slot=words["slot"],
            workers=words["workers"],
            seat=words["seat"],
            seats=Seats(*words["seats"]),
            channel=socket.socket(fileno=words["channel"]),
            sockets={
                name: [socket.socket(fileno=each) for each in descriptors]
                for name, descriptors in words["sockets"].items()
            },
        )

    def acceptor(
        self,
        name: str,
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        open_connections: Callable[[], int],
    ) -> Acceptor:
        """Accepts for the listener of that name; `open_connections` counts what it has open."""
        return Acceptor(
            self.sockets[name],
            protocol,
            open_connections=open_connections,
            seats=self.seats,
            seat=self.seat,
            listener=[*self.sockets].index(name),
        )
