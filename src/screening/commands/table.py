"""Tables for a terminal that cut nothing: a name or digest cut short names nothing."""

from collections.abc import Collection

from rich.table import Table


def table(*columns: str, whole: Collection[str] = ()) -> Table:
    """An empty table; the cells of `whole` columns stay on one line, others are folded."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=column in whole, overflow="fold")
    return made
