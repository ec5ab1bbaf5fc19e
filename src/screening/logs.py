"""Where the log goes, and what never goes into it."""

import logging
import sys
import traceback


def log_to_stderr(level: str) -> None:
    """One line an event, with its instant, to stderr."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    # uvicorn's own account of every start and stop repeats ours.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger("alembic").setLevel(logging.WARNING)


def log_where(log: logging.Logger, what: str, broken: Exception) -> None:
    """Log where something broke and not with what: the words of an exception may quote a number."""
    frames = traceback.extract_tb(broken.__traceback__)
    where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in frames[::-1])
    log.error("%s: %s at %s", what, type(broken).__name__, where)
