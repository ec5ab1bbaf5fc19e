"""The decision log as Parquet, for whoever asks it more than this service answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from screening.recording.decision import COLUMNS
from screening.recording.segments import LogError, segments

EXTRA: Final = "call-screening[parquet]"


def relation(files: Sequence[Path]) -> str:
    """DuckDB's SQL for the calls in these segments, each field of its type."""
    names = ", ".join(_quoted(str(path)) for path in files)
    columns = ", ".join(f"{_quoted(each.name)}: {_quoted(each.type)}" for each in COLUMNS)
    return (
        f"(SELECT * FROM read_json([{names}], format = 'newline_delimited', "  # noqa: S608
        f"columns = {{{columns}}}, maximum_object_size = 16777216) WHERE kind = 'call')"
    )


def export(folder: Path, out: Path, *, since: float = 0.0, until: float = float("inf")) -> int:
    """Writes the calls of that span (epoch seconds) to a Parquet file, and counts them.

    Raises LogError where DuckDB is not installed, or has something against the file.
    """
    try:
        import duckdb
    except ImportError:
        raise LogError(f"an export needs DuckDB: pip install '{EXTRA}'") from None
    files = [each.path for each in segments(folder) if each.modified >= since]
    if not files:
        raise LogError(f"{folder} holds no decisions of that time")
    end = "'infinity'::DOUBLE" if until == float("inf") else repr(until)
    span = f"instant >= {since!r} AND instant < {end}"
    query = f"SELECT * FROM {relation(files)} WHERE {span} ORDER BY n"  # noqa: S608
    beside = out.with_name(f".{out.name}.part")
    try:
        with duckdb.connect() as connection:
            connection.execute("SET preserve_insertion_order = false")
            connection.execute(
                f"COPY ({query}) TO {_quoted(str(beside))} (FORMAT parquet, COMPRESSION zstd)"
            )
            row = connection.execute(
                f"SELECT count(*) FROM read_parquet({_quoted(str(beside))})"  # noqa: S608
            ).fetchone()
        beside.replace(out)
    except duckdb.Error as error:
        raise LogError(f"{out}: {error}") from None
    finally:
        beside.unlink(missing_ok=True)
    return int(row[0]) if row else 0


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
