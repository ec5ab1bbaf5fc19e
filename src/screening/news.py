"""News of lists and entities, so that workers look at the record at once."""

import contextlib
from typing import Final

from consent.index import IndexStore, IndexUnavailable

CHANNEL: Final = "screening:record"
"""Where it is announced that lists or entities have changed."""


def announce(url: str) -> None:
    """Tell workers that lists or entities have changed, if they can be reached."""
    with contextlib.suppress(IndexUnavailable):
        store = IndexStore(url, connect_timeout_s=0.5, timeout_s=1.0)
        try:
            store.publish(CHANNEL, b"changed")
        finally:
            store.close()
