"""Packs loaded in a process of their own: seconds of work that a worker has not to spare.

`python -m screening.apart` is that process. It loads a folder or a bundle, tries every case, and
hands over what is ready (`rules.handover`); what is not good is told as loading it in the worker
would tell it. The last good packs stay in force however it ends.
"""

import argparse
import gc
import marshal
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from rules.bundle import BundleError
from rules.document import RuleSetError
from rules.handover import Frame, NotReady, frames, let_go, refusal, take_in
from rules.loading import Packs, load_bundle, load_packs
from screening.aside import Aside, AsideError
from screening.garbage import long_lived

MOST_SECONDS: Final = 120.0
_LENGTH: Final = struct.Struct(">I")
_REST_SECONDS: Final = 0.001


class Apart:
    """Loads packs in a process of its own. Blocks, for a thread; `stop` may come from another."""

    def __init__(self) -> None:
        self._aside = Aside("screening.apart", most_seconds=MOST_SECONDS)

    def folder(self, folder: Path) -> Packs:
        """As `load_packs`. Raises RuleSetError, and NotReady."""
        return self._made_ready(str(folder), b"")

    def bundle(self, content: bytes) -> Packs:
        """As `load_bundle`. Raises RuleSetError, BundleError and NotReady."""
        return self._made_ready("-", content)

    def stop(self) -> None:
        """End what runs, and let nothing more begin."""
        self._aside.stop()

    def _made_ready(self, folder: str, content: bytes) -> Packs:
        try:
            given = self._aside.ask(folder, given=content)
        except AsideError as broken:
            raise NotReady(f"making the rules ready: {broken}") from None
        with long_lived():
            return take_in(_cut(given), between=_rest)


def _cut(given: bytes) -> Iterator[Frame]:
    view, at = memoryview(given), 0
    while at < len(view):
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        yield marshal.loads(view[at : at + length])  # noqa: S302 - of a process of our own
        at += length


def let_go_slowly(replaced: list[Packs]) -> None:
    """Free packs that were replaced, leaving the interpreter to who answers calls in between."""
    let_go(replaced, between=_rest)


def _rest() -> None:
    """Leaves the interpreter to the thread that answers calls."""
    time.sleep(_REST_SECONDS)


def main() -> None:
    """Makes a folder ready, or with "-" the bundle that comes in; frames go out."""
    parser = argparse.ArgumentParser(prog="python -m screening.apart")
    parser.add_argument("folder", help='folder of the packs; "-": a bundle comes in')
    folder = parser.parse_args().folder
    gc.disable()  # everything made here is kept to the end
    out = sys.stdout.buffer
    for frame in _ready(folder, sys.stdin.buffer):
        content = marshal.dumps(frame)
        out.write(_LENGTH.pack(len(content)))
        out.write(content)
    out.flush()
    os._exit(0)  # giving a million objects back one by one would take its time


def _ready(folder: str, source: BinaryIO) -> Iterator[Frame]:
    try:
        packs = load_bundle(source.read()) if folder == "-" else load_packs(Path(folder))
    except (RuleSetError, BundleError) as refused:
        yield refusal(refused)
    else:
        yield from frames(packs)


if __name__ == "__main__":
    main()
