"""Keeps one recorder running on a node, whichever worker it is that starts it.

The workers compete for a lock; who holds it starts the recorder, and again when it ends. A worker
that is killed loses the lock and ends its recorder with it, by the pipe between them: the next
worker takes over within `LOOK_SECONDS`.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.25
MOST_PAUSE_SECONDS: Final = 5.0
_STEADY_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 5.0
_LOCK: Final = "recorder.lock"
_MODULE: Final = "screening.recording.recorder"


class RecorderProcess:
    """The recorder of a node, as one of its workers looks after it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.restarts = 0
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._process: asyncio.subprocess.Process | None = None
        self._lock: int | None = None

    async def keep(self) -> None:
        """Runs until it is cancelled."""
        try:
            while not self._mine():  # noqa: ASYNC110 - the lock is another process's
                await asyncio.sleep(LOOK_SECONDS)
            pause = LOOK_SECONDS
            while True:
                started = time.monotonic()
                code = await self._run()
                self.restarts += 1
                lasted = time.monotonic() - started
                pause = LOOK_SECONDS if lasted > _STEADY_SECONDS else pause
                log.error("the recorder ended with %s, starting it again in %.2f s", code, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MOST_PAUSE_SECONDS)
        finally:
            await self._stop()

    def _mine(self) -> bool:
        fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock = fd
        return True

    async def _run(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _MODULE,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        return await self._process.wait()

    async def _stop(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
