"""What the record says of a word that it does not know."""

import difflib
import re
from collections.abc import Iterable
from typing import Final

from consent.record.database import RecordError

SLUG: Final = re.compile(r"(?=.*[a-z])[a-z0-9][a-z0-9._-]{0,63}")


def slug(name: str, *, what: str, field: str) -> str:
    """A name that may stand in a path, a URL and a metric label. Raises RecordError."""
    if not SLUG.fullmatch(name):
        raise RecordError(
            f"{what} name {name!r}: expected 1 to 64 of a-z 0-9 . _ - with a letter, beginning "
            "with a letter or digit",
            field=field,
        )
    return name


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like this one, or all of them: the end of a message."""
    words = [str(each) for each in known]
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"the nearest is {close[0]!r}"
    return f"expected one of {', '.join(sorted(words))}" if words else "there are none"
