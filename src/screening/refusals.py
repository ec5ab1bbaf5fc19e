"""What a person can mend, told in one line, without a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from rich.console import Console


def _refusals() -> tuple[type[Exception], ...]:
    """Looked up when there is something to tell: the service must not load all of it to start."""
    from consent.calling import CallingSideError
    from consent.complaint import ComplaintError
    from consent.index import IndexUnavailable
    from consent.keyring import KeyringError
    from consent.listing import ListingError
    from consent.loading import LoadError
    from consent.record import RecordError, RecordUnavailable
    from consent.signing import SigningError
    from rules.bundle import BundleError
    from screening.access import AccessError
    from screening.distribution import ActivationRefused
    from screening.embedded import EmbeddedServerError
    from screening.recording.segments import LogError

    return (
        AccessError,
        ActivationRefused,
        BundleError,
        CallingSideError,
        ComplaintError,
        EmbeddedServerError,
        IndexUnavailable,
        KeyringError,
        ListingError,
        LoadError,
        LogError,
        OSError,
        RecordError,
        RecordUnavailable,
        SigningError,
    )


@contextmanager
def told() -> Iterator[None]:
    """Exit 1 with the message of a refusal of ours, 2 for a setting that cannot be used."""
    errors = Console(stderr=True, highlight=False)
    try:
        yield
    except ValidationError as refused:
        for each in refused.errors():
            name = "SCREENING_" + "_".join(str(part) for part in each["loc"]).upper()
            errors.print(f"[red]error:[/red] {name}: {each['msg']}, not {each['input']!r}")
        raise SystemExit(2) from None
    except Exception as refused:
        from rules.document import RuleSetError

        if isinstance(refused, RuleSetError):
            for problem in refused.problems:
                print(problem, file=sys.stderr)
        elif isinstance(refused, _refusals()):
            errors.print("[red]error:[/red]", str(refused), markup=True)
        else:
            raise
        raise SystemExit(1) from None
