"""The reference page of facts and functions, written from the one table that conditions see."""

from collections.abc import Iterable, Iterator

from consent.category import NOT_COMMERCIAL, Category
from consent.taxonomy import PUBLISHED
from rules.schema import DEFAULT_MACROS, FUNCTIONS, VARIABLES
from rules.verdict import Cause

_HEAD = """\
# Facts

What a condition may name. Written by `python -m rules facts` from the table that conditions are
checked against, so it is complete; how to write rules is in [rules.md](rules.md).

Texts that nobody sent are `""`, integers `0`, and such facts are known all the same. Where a fact
comes from decides when it is known:

| source | where it is | known |
|---|---|---|
| `call` | what the switch sent | always |
| `calling` | lists, entities and series, in the worker's memory | always |
| `called` | the index: read only when a rule needs it | unless the index fails to answer |
"""
_SECTIONS = {
    "call": "The call",
    "calling": "The calling number",
    "entity": "Who answers for the calling number",
    "called": "The called number and its subscriber",
    "consent": "Consent",
    "dialled": "The number dialled",
    "presentation": "The number shown",
    "diverted_from": "The number that diverted",
    "original_called": "The number first called",
    "facts": "The read itself",
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n"


def facts_page() -> str:
    """The page, as Markdown."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield _HEAD
    named = {name.partition(".")[0] for name in VARIABLES}
    for prefix in [*_SECTIONS, *sorted(named - _SECTIONS.keys())]:
        yield f"\n## {_SECTIONS.get(prefix, prefix)}\n\n"
        facts = (
            (
                f"`{name}`",
                _plain(str(fact.type)),
                fact.unit,
                fact.meaning,
                fact.source,
            )
            for name, fact in VARIABLES.items()
            if name.partition(".")[0] == prefix
        )
        yield from _table(("fact", "type", "unit or form", "meaning", "source"), facts)
    yield "\n## Functions\n\n"
    yield from _table(
        ("function", "gives", "meaning", "source"),
        (
            (
                f"`{name}({', '.join(_plain(str(kind)) for kind in function.parameters)})`",
                _plain(str(function.type)),
                function.meaning,
                function.source,
            )
            for name, function in FUNCTIONS.items()
        ),
    )
    yield (
        "\nTheir arguments are literals, or `call.category` for `called.refuses`, so that what is "
        "read\nof the index is known at load.\n"
    )
    yield "\n## Names that a pack may define otherwise\n\n"
    yield from _table(
        ("name", "means, unless `[define]` says otherwise"),
        ((f"`{name}`", f"`{text}`") for name, text in DEFAULT_MACROS.items()),
    )
    yield "\n## Categories\n\n"
    yield from _table(
        ("kind", "categories"),
        (
            (
                kind,
                ", ".join(f"`{each}`" for each in Category if (each in NOT_COMMERCIAL) is not of),
            )
            for kind, of in (("commercial", True), ("not commercial", False))
        ),
    )
    yield "\n`all` stands for every commercial category.\n"
    yield "\n### What authorities call them\n\n"
    yield from _table(
        ("list", "its name", "category", "source"),
        (
            (authority, name, f"`{category}`" if category else "none", source)
            for authority, name, category, source in PUBLISHED
        ),
    )
    yield "\n## Causes\n\n"
    yield f"{', '.join(f'`{cause}`' for cause in Cause)}.\n"


def _plain(kind: str) -> str:
    return {"google.protobuf.Timestamp": "timestamp"}.get(kind, kind)
