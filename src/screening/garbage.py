"""Garbage collection kept off the path of calls.

A full collection stops every thread while it looks at every object, 100 ms and more for a few
thousand rules. What lives as long as the process is therefore taken out of its sight; it must
hold no cycles of its own, so that counting references frees it when it is replaced.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def settle() -> None:
    """Collect once, and take all that is left out of the sight of later collections."""
    gc.collect()
    gc.freeze()


@contextmanager
def long_lived() -> Iterator[None]:
    """What is made within is not looked at, neither meanwhile nor later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
