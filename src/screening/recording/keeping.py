"""Keeps one process of a kind running on a node, whichever worker it is that starts it.

Such are the recorder and the watch. The workers compete for a lock; who holds it starts the
process, and again when it ends. A worker that is killed loses the lock and ends the process with
it, by the pipe between them: the next worker takes over within `LOOK_SECONDS`.
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
RECORDER: Final = ("recorder", "screening.recording.recorder")
WATCH: Final = ("watching", "screening.watching.watch")
"""What a process is called, and its module."""


class NodeProcess:
    """One such process, as a worker looks after it."""

    def __init__(
        self, folder: Path, environment: dict[str, str], *, kind: tuple[str, str] = RECORDER
    ) -> None:
        self._name, self._module = kind
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
                log.error(
                    "the %s process ended with %s, starting it again in %.2f s",
                    self._name, code, pause,
                )  # fmt: skip
                await asyncio.sleep(pause)
                pause = min(pause * 2, MOST_PAUSE_SECONDS)
        finally:
            await self._stop()

    def _mine(self) -> bool:
        fd = os.open(
            self._folder / f"{self._name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock = fd
        return True

    async def _run(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module,
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
