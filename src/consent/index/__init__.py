"""The called side of the index: facts read in one round trip, written from lists and ledger."""

from consent.index.announcement import announcements
from consent.index.conduct import ConductStore
from consent.index.fault import IndexBehind, IndexLost, IndexRefused, IndexUnavailable
from consent.index.layout import BLOCK, BUCKET_WIDTH, SHARDS, name_epoch
from consent.index.link import Timing
from consent.index.reader import IndexReader, Question
from consent.index.store import IndexStore
from consent.index.target import Stamp

__all__ = [
    "BLOCK",
    "BUCKET_WIDTH",
    "SHARDS",
    "ConductStore",
    "IndexBehind",
    "IndexLost",
    "IndexReader",
    "IndexRefused",
    "IndexStore",
    "IndexUnavailable",
    "Question",
    "Stamp",
    "Timing",
    "announcements",
    "name_epoch",
]
