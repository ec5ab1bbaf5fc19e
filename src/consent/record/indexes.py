"""Which indexes are made from the record: the one in force, and one that may lie beside it.

The one instant at which another index comes into force is the commit of `switch`.
"""

import contextlib
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from consent.record.catalogue import dnc_in_force
from consent.record.database import Database, RecordError, RecordUnavailable, hold, next_value
from consent.record.instant import Clock
from consent.record.schema import setting

SILENT_SECONDS: Final = 300.0
"""An index in the making of which nothing was heard for so long has been given up: its maker was
killed. Until then the keys of erased subscribers are kept, of whom it may have read."""

SIGN_SECONDS: Final = 30.0
"""How often its maker says that it is still at it."""

IN_FORCE: Final = "index_epoch"
BESIDE: Final = "index_beside"
BUILDING: Final = "index_building"
LEFT: Final = "index_left"


@dataclass(frozen=True, slots=True)
class IndexEpochs:
    """The epochs of indexes: `in_force` is what workers believe; "" for none.

    Who writes decisions writes them to `beside` as well: it is complete and about to come into
    force, or was in force a moment ago. `building` is what is being made, complete or not; `left`
    is believed by nobody, and still has to be removed.
    """

    in_force: str = ""
    beside: str = ""
    building: str = ""
    left: str = ""

    @property
    def coming(self) -> str:
        """What is complete and about to come into force, "" for nothing."""
        return self.beside if self.beside == self.building else ""


class Indexes:
    """The indexes of one record."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def epochs(self) -> IndexEpochs:
        """The indexes as they are now."""
        with self._database.read() as connection:
            return _epochs(connection)

    def name(self, epoch: str) -> None:
        """Names the index that workers shall believe, where no other is made beside it."""
        with self._database.write() as connection:
            next_value(connection, "revision")
            _set(connection, {IN_FORCE: epoch})

    def begin(self, epoch: str) -> None:
        """An index is being made beside the one in force; another that was is given up.

        Until it is in force, or given up, no erasure is finished: see `Ledger.finish_erasures`.
        """
        with self._database.write() as connection:
            hold(connection, "event")
            next_value(connection, "revision")
            _set(connection, {BUILDING: f"{epoch} {self._clock():.0f}", BESIDE: "", LEFT: ""})

    def complete(self, epoch: str) -> None:
        """What is being made has all of the ledger but its newest events: writers write to both.

        What was committed before this says nothing to writers: it has to be looked for after it.
        Raises RecordError where it was given up.
        """
        with self._database.write() as connection:
            next_value(connection, "revision")
            self._expect_building(connection, epoch)
            _set(connection, {BESIDE: epoch})

    def switch(self, epoch: str, lists: Collection[tuple[int, int]]) -> bool:
        """Puts what was made in force, and the one before beside it.

        `lists` are those that it has, with their generations: where others are in force by now
        nothing is done, and the answer is False. Raises RecordError where it was given up.
        """
        with self._database.write() as connection:
            next_value(connection, "revision")
            self._expect_building(connection, epoch)
            if set(dnc_in_force(connection)) != set(lists):
                return False
            before = _epochs(connection).in_force
            _set(connection, {IN_FORCE: epoch, BESIDE: before, BUILDING: ""})
            return True

    def leave(self, epoch: str) -> None:
        """No worker reads what lies beside any more, and nobody need write to it."""
        with self._database.write() as connection:
            next_value(connection, "revision")
            if _epochs(connection).beside == epoch:
                _set(connection, {BESIDE: "", LEFT: epoch})

    def removed(self, epoch: str) -> None:
        """Nothing is left of an index."""
        with self._database.write() as connection:
            if _epochs(connection).left == epoch:
                _set(connection, {LEFT: ""})

    def remains(self) -> str:
        """An index that whoever was to remove it has perhaps not: "" for none, or while another is
        being made, whose maker clears its place itself."""
        with self._database.read() as connection:
            epochs, making = _epochs(connection), being_made(connection, self._clock())
        return "" if making else epochs.left or epochs.beside or epochs.building

    @contextlib.contextmanager
    def making(self, epoch: str, *, sign_seconds: float = SIGN_SECONDS) -> Iterator[None]:
        """`begin`, say every `sign_seconds` that it goes on, and give up where the block raises."""
        self.begin(epoch)
        ended = threading.Event()
        signs = threading.Thread(
            target=self._sign_until, args=(ended, epoch, sign_seconds), daemon=True
        )
        signs.start()
        try:
            yield
        except BaseException:
            # Where the record cannot be reached either, `SILENT_SECONDS` do it.
            with contextlib.suppress(RecordUnavailable):
                self.give_up(epoch)
            raise
        finally:
            ended.set()
            signs.join()

    def _sign_until(self, ended: threading.Event, epoch: str, every_seconds: float) -> None:
        while not ended.wait(every_seconds):
            try:
                self.sign(epoch)
            except RecordUnavailable:
                continue  # the next may come in time
            except RecordError:
                return

    def sign(self, epoch: str) -> None:
        """What is being made goes on. Raises RecordError where it is in force or was given up."""
        with self._database.write() as connection:
            hold(connection, "event")
            hold(connection, "revision")
            self._expect_building(connection, epoch)
            _set(connection, {BUILDING: f"{epoch} {self._clock():.0f}"})

    def give_up(self, epoch: str) -> None:
        """What was being made is none."""
        with self._database.write() as connection:
            next_value(connection, "revision")
            if _epochs(connection).building == epoch:
                _set(connection, {BESIDE: "", BUILDING: "", LEFT: epoch})

    def _expect_building(self, connection: Connection, epoch: str) -> None:
        if _epochs(connection).building != epoch or not being_made(connection, self._clock()):
            raise RecordError(
                f"index {epoch} was given up: another is being made, or nothing was heard of it "
                f"for {SILENT_SECONDS / 60:.0f} minutes"
            )


def being_made(connection: Connection, now: float) -> bool:
    """Whether an index is being made that may have read what an erased subscriber had said."""
    said = _values(connection).get(BUILDING, "")
    return bool(said) and now - float(said.partition(" ")[2]) < SILENT_SECONDS


def _values(connection: Connection) -> dict[str, str]:
    query = select(setting).where(setting.c.name.in_((IN_FORCE, BESIDE, BUILDING, LEFT)))
    return {row.name: row.value for row in connection.execute(query)}


def _epochs(connection: Connection) -> IndexEpochs:
    values = _values(connection)
    return IndexEpochs(
        in_force=values.get(IN_FORCE, ""),
        beside=values.get(BESIDE, ""),
        building=values.get(BUILDING, "").partition(" ")[0],
        left=values.get(LEFT, ""),
    )


def _set(connection: Connection, values: dict[str, str]) -> None:
    connection.execute(delete(setting).where(setting.c.name.in_(values)))
    rows = [{"name": name, "value": value} for name, value in values.items() if value]
    if rows:
        connection.execute(insert(setting), rows)
