"""Garbage collection kept off the path of calls.

A full collection stops every thread while it looks at every object, 100 ms and more for a few
thousand rules. What lives as long as the process is therefore taken out of its sight; it must
hold no cycles of its own, so that counting references frees it when it is replaced.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

OFTEN: Final = (5_000, 40, 50)
"""Objects made and not yet gone, for a collection of the young, and so many of these for one of
the older. A call makes some thirty and leaves no cycle: at 700, Python's own figure, every burst of
calls was looked at while it was being answered, a twentieth of a worker's time. At 20,000 what a
thousand new connections left was looked at at once, in 15 ms; at this figure in pieces of 1 ms."""


def settle() -> None:
    """Collect once, and take all that is left out of the sight of later collections."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*OFTEN)


@contextmanager
def long_lived() -> Iterator[None]:
    """What is made within is not looked at, neither meanwhile nor later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
