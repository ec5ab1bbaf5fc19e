"""What authorities call the trades of marketing calls, in the words of `consent.category`.

The table is `data/taxonomy.tsv`; an authority is named by its country and its list, such as
"in.preference" for the numbers of India's preference categories.
"""

from typing import Final

from consent.category import BIT
from consent.plan import rows


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


PUBLISHED: Final[tuple[tuple[str, str, str, str], ...]] = tuple(
    (authority, name, category, source)
    for authority, name, category, source in rows("taxonomy.tsv")
)
"""(authority, the name it gives, category or "", source), as the table has them."""

_CATEGORY: Final = {
    (authority, _folded(name)): category for authority, name, category, _ in PUBLISHED
}

if unknown := {category for *_, category, _ in PUBLISHED} - BIT.keys() - {""}:
    raise ValueError(f"taxonomy.tsv names {sorted(unknown)}, which are no categories")


def category_of(authority: str, name: str) -> str | None:
    """The category that an authority's name for a trade means: "" where it means none.

    None where the authority has no such name. Case and runs of spaces play no part: the FTC
    writes "Vacation  & timeshares".
    """
    return _CATEGORY.get((authority, _folded(name)))
