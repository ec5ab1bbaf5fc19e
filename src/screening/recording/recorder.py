"""The recorder: one process a node that takes what all workers hand over.

`python -m screening.recording.recorder` is that process; it ends when its standard input does,
with whoever started it. Hashing, counting each call once, chaining and compression happen here,
so that they cost a call nothing.
"""

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from consent.signing import SigningKey
from screening.logs import log_to_stderr, log_where
from screening.process_status import write_status
from screening.recording.counts import STATUS
from screening.recording.intake import Recorder
from screening.recording.outbox import SOCKET, short_path
from screening.recording.segments import FOLDER, Limits, Log, LogError
from screening.settings import Settings
from screening.signals.counting import KEPT_SECONDS
from screening.signals.publishing import EVERY_SECONDS
from screening.state import open_files

log = logging.getLogger(__name__)

STATUS_SECONDS: Final = 1.0
NICER: Final = 5
"""Where cores are few calls go first: beside a busy worker it still has a quarter of one."""

_RECEIVE_BYTES: Final = 1 << 20
_MESSAGES_AT_ONCE: Final = 16
_TICK_SECONDS: Final = 0.1


class Server:
    """Listens for workers, and ends with the standard input."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._folder = folder
        self._recorder = recorder
        self._selector = selectors.DefaultSelector()
        self._ending = False
        self._status_at = 0.0
        self._publish_at = 0.0
        self._keep_at = time.monotonic() + KEPT_SECONDS

    def run(self) -> None:
        """Take in what comes until it is told to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        path = self._folder / SOCKET
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            old = os.umask(0o177)
            try:
                with short_path(path) as short:
                    listener.bind(short)
            finally:
                os.umask(old)
            listener.listen(64)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, self._accept)
            with contextlib.suppress(PermissionError):  # a file or /dev/null never ends
                self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._closed)
            while not self._ending:
                self._turn(_TICK_SECONDS)
            path.unlink(missing_ok=True)
            for _ in range(64):  # what workers have sent before they left
                if not self._turn(0):
                    break
        self._recorder.writer.stop()
        self._recorder.publisher.stop()
        with contextlib.suppress(OSError):
            self._recorder.keep_signals()
        self._write_status()

    def _turn(self, seconds: float) -> int:
        ready = self._selector.select(seconds)
        for key, _ in ready:
            key.data(key.fileobj)
        now = time.monotonic()
        if now >= self._publish_at:
            self._publish_at = now + EVERY_SECONDS
            self._recorder.publisher.turn()
        if now >= self._status_at:
            self._status_at = now + STATUS_SECONDS
            self._look()
        if now >= self._keep_at:
            self._keep_at = now + KEPT_SECONDS
            self._keep_apart()
        return sum(key.data == self._receive for key, _ in ready)

    def _end(self, *_: object) -> None:
        self._ending = True

    def _closed(self, _stdin: object) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._selector.unregister(sys.stdin.fileno())
            self._ending = True

    def _accept(self, listener: Any) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            link, _ = listener.accept()
            link.setblocking(False)
            self._selector.register(link, selectors.EVENT_READ, self._receive)

    def _receive(self, link: Any) -> None:
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                message = link.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._selector.unregister(link)
                link.close()
                return
            try:
                self._recorder.take(message)
            except (ValueError, KeyError, TypeError, IndexError) as broken:
                log_where(log, "a worker sent what is no batch", broken)

    def _look(self) -> None:
        try:
            self._recorder.reload()
        except Exception as broken:  # noqa: BLE001 - what is in force stays in force
            log_where(log, "keys or lists were not taken in", broken)
        self._write_status()

    def _keep_apart(self) -> None:
        """Keep the signals from a copy of this process: writing them down takes seconds."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if os.fork() == 0:
            with contextlib.suppress(BaseException):
                os.closerange(3, 4096)  # the log's lock among them, which ends with its writer
                os.nice(10)
                self._recorder.keep_signals()
            os._exit(0)

    def _write_status(self) -> None:
        write_status(self._folder / STATUS, self._recorder.status())


def main() -> None:
    """Runs until its standard input ends."""
    settings = Settings()
    log_to_stderr(settings.log_level)
    os.nice(NICER)
    # Batches hold no cycles: what is searched for here would only take time.
    gc.set_threshold(200_000, 50, 1000)
    limits = Limits(
        most_bytes=int(settings.record_gib * 2**30),
        most_seconds=settings.record_days * 86_400.0,
    )
    with open_files(settings) as state:
        key = SigningKey.load(settings.record_key) if settings.record_key else None
        try:
            kept = Log(state.folder / FOLDER, limits=limits, key=key)
        except LogError as refused:
            sys.exit(str(refused))
        recorder = Recorder(state.folder, state.keyring, kept, redis_url=settings.redis_url)
        recorder.remember(state.folder / FOLDER)
        recorder.restore_signals()
        recorder.writer.start()
        recorder.publisher.start()
        gc.freeze()
        Server(state.folder, recorder).run()
        gc.unfreeze()  # parties are linked in rounds: without, sketches outlive their library


if __name__ == "__main__":
    main()
