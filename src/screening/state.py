"""The state of one node, opened: its folder, keys, record and index, closed in reverse."""

import contextlib
import logging
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from consent.index import IndexRefused, IndexStore, IndexUnavailable, name_epoch
from consent.keyring import Keyring
from consent.projection import attach
from consent.record import Record
from consent.signing import SigningKey
from screening.embedded import EmbeddedServer
from screening.news import announce
from screening.settings import Settings

log = logging.getLogger(__name__)

SECRETS: Final = "secrets.json"
CHECKPOINT_KEY: Final = "checkpoint.pem"
"""The key that signs where the ledger has come to, made on the first start."""


class State:
    """What the service and the commands work on; `redis_url` is of the index server, `embedded`
    that server where it is ours to run."""

    def __init__(
        self, settings: Settings, keyring: Keyring, signer: SigningKey, redis_url: str
    ) -> None:
        self.settings = settings
        self.folder: Path = settings.state_dir
        self.keys_path: Path = settings.state_dir / "keys.json"
        self.secrets_path: Path = settings.state_dir / SECRETS
        self.keyring = keyring
        self.signer = signer
        self.redis_url = redis_url
        self.embedded: EmbeddedServer | None = None
        self._record: Record | None = None
        self._opening = threading.Lock()

    def record(self) -> Record:
        """The record, opened on first use: the service starts without its database.

        Raises RecordUnavailable, and RecordError where it must not be used.
        """
        with self._opening:
            if self._record is None:
                self._record = Record.open(
                    self.settings.database,
                    keyring=self.keyring,
                    signer=self.signer,
                    on_revision=self._announce,
                )
            return self._record

    @property
    def environment(self) -> dict[str, str]:
        """What a process of ours needs in its environment to work on the same state."""
        return {
            "SCREENING_STATE_DIR": str(self.settings.state_dir),
            "SCREENING_REDIS_URL": self.redis_url,
            "SCREENING_DATABASE_URL": self.settings.database_url,
        }

    def _announce(self) -> None:
        if self.redis_url:
            announce(self.redis_url)

    @contextlib.contextmanager
    def index(self, *, timeout_s: float = 10.0) -> Iterator[IndexStore]:
        """The index, tied to the record; a server has `timeout_s` to answer.

        Raises IndexUnavailable, and IndexLost where it has to be rebuilt first.
        """
        store = IndexStore(self.redis_url, timeout_s=timeout_s)
        try:
            attach(self.record(), store, new_epoch=name_epoch(secrets.token_hex(8)))
            yield store
        finally:
            store.close()

    def expect_fit_index(self) -> None:
        """Refuse an index server that must not be used; one that is gone may yet come back.

        Raises IndexRefused: a server that evicts keys would lose refusals without a word.
        """
        try:
            IndexStore(self.redis_url).close()
        except IndexRefused:
            raise
        except IndexUnavailable as gone:
            log.warning("%s; starting without it", gone)

    def close(self) -> None:
        """Close the record, if it was opened."""
        with self._opening:
            if self._record is not None:
                self._record.close()


@contextlib.contextmanager
def open_files(settings: Settings) -> Iterator[State]:
    """The state without its index, for what needs none; makes what does not exist yet.

    Raises KeyringError, SigningError, and OSError where the folder cannot be made.
    """
    folder = settings.state_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keyring = Keyring.load_or_create(folder / SECRETS)
    signer = SigningKey.load_or_create(folder / CHECKPOINT_KEY)
    state = State(settings, keyring, signer, settings.redis_url)
    try:
        yield state
    finally:
        state.close()


@contextlib.contextmanager
def open_state(settings: Settings) -> Iterator[State]:
    """The whole state: the embedded server is started where no URL is given, or joined.

    Raises EmbeddedServerError, and what `open_files` raises.
    """
    with open_files(settings) as state:
        if settings.redis_url:
            yield state
        else:
            with EmbeddedServer(state.folder) as server:
                state.embedded = server
                state.redis_url = server.url
                yield state
