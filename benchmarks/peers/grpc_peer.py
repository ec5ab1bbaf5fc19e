"""grpc.aio as its documentation has it: one servicer, an answer made at the start, no lookup.

    python -m benchmarks.peers.grpc_peer FOLDER      # writes its port to FOLDER/grpc.port

What a call costs here is what the library itself costs: messages are parsed and serialised,
nothing is read, decided or counted. Its loop is uvloop, as the service's.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from screening.v1 import screening_pb2 as v1
from screening.v1.screening_pb2_grpc import (
    ScreeningServicer,
    add_ScreeningServicer_to_server,
)

ANSWER = v1.Answer(
    action="allow",
    cause="default",
    rule="default",
    ruleset="us@2026-11-23.1",
    decision_id="7ZK3VW8N5M1QX2JRA0F4T6B9CD",
    redress="https://redress.example/",
)


class Bare(ScreeningServicer):
    """Allows every call."""

    async def Screen(self, request: v1.ScreenRequest, _context: Any) -> v1.ScreenResponse:  # noqa: N802
        """The answer, made anew."""
        assert request.question.called
        return v1.ScreenResponse(answer=ANSWER)


async def serve(folder: Path) -> None:
    """Serve until SIGTERM."""
    server = grpc.aio.server()
    add_ScreeningServicer_to_server(Bare(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    (folder / "grpc.port").write_text(str(port))
    await ended.wait()
    await server.stop(1)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
