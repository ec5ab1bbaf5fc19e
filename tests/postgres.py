"""A real PostgreSQL server for tests: Debian's, on a Unix socket, under a user of its own."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import create_engine, text

INSTALL: Final = "postgresql is not installed: apt-get install --no-install-recommends postgresql"
PROGRAMS: Final = Path("/usr/lib/postgresql")
USER: Final = "postgres"
"""It refuses to run as root."""


class Postgres:
    """A running server; each database of it is made for one test."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._made = 0

    def command(self, program: str, *words: str) -> None:
        user = [] if os.getuid() else ["setpriv", f"--reuid={USER}", f"--regid={USER}"]
        user += [] if os.getuid() else ["--clear-groups"]
        subprocess.run(
            [*user, str(self._programs / program), *words],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )

    def start(self) -> None:
        self.command("pg_ctl", "start", "--silent", "--wait", f"--pgdata={self._folder / 'data'}")

    def stop(self, mode: str = "fast") -> None:
        data = f"--pgdata={self._folder / 'data'}"
        self.command("pg_ctl", "stop", "--silent", "--wait", f"--mode={mode}", data)

    def url(self, name: str) -> str:
        return f"postgresql://{USER}@/{name}?host={self._folder}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._made += 1
        name = f"test{self._made}"
        engine = create_engine(
            self.url("postgres").replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server of its own; skips where the package is missing, fails in CI."""
    found = sorted(PROGRAMS.glob("*/bin/initdb"))
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(INSTALL)
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # pytest's own are closed to other users
    if os.getuid() == 0:
        owner = pwd.getpwnam(USER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    server = Postgres(found[-1].parent, folder)
    words = ("--auth=trust", f"--username={USER}", "--encoding=UTF8", "--no-sync")
    try:
        server.command("initdb", f"--pgdata={folder / 'data'}", *words)
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{folder}'\n")
            settings.write("logging_collector = on\n")
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)
