"""Work done in a process of its own, aside of the one that answers calls and behind it."""

import os
import subprocess
import sys
from contextlib import suppress
from typing import Final

_NICENESS: Final = 10
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy would start a thread a core, which take the cores for 100 ms to begin with."""


class AsideError(Exception):
    """The process gave no answer; the message says why."""


class Aside:
    """Runs a module of ours, one process a question. Blocks, for a thread; `stop` may come from
    another."""

    def __init__(self, module: str, *, most_seconds: float) -> None:
        self._module = module
        self._most_seconds = most_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(self, *words: str, given: bytes) -> bytes:
        """What `python -m module words` writes to its output. Raises AsideError."""
        if self._stopped:
            raise AsideError("the service stops")
        try:
            self._process = subprocess.Popen(  # noqa: S603
                (sys.executable, "-m", self._module, *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=os.environ | _ENVIRONMENT,
            )
        except OSError as error:
            raise AsideError(str(error)) from None
        with suppress(OSError):
            # From here, since importing its modules is half of what such a process does.
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        with self._process as process:
            try:
                answer, errors = process.communicate(given, timeout=self._most_seconds)
            except subprocess.TimeoutExpired:
                raise AsideError(f"it took more than {self._most_seconds:g} s") from None
            finally:
                process.kill()
                self._process = None
        if process.returncode:
            lines = errors.decode("utf-8", "replace").strip().splitlines() or ["no message"]
            raise AsideError(f"it ended with {process.returncode}: {lines[-1]}")
        return answer

    def stop(self) -> None:
        """End what runs, and let nothing more begin."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
