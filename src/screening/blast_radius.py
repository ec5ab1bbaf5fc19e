"""The guard of activations: how many of the calls decided lately would be decided otherwise.

It replays a fair choice of the recall under the packs in force and under the new ones, in a
process of its own: seconds of work that the process which answers calls has not to spare.
`python -m screening.blast_radius` is that process; it reads two bundles and prints a judgement.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from consent.keyring import Keyring
from consent.private import replace_private
from rules.loading import Packs, load_bundle
from rules.replay import Comparison, compare
from screening.aside import Aside, AsideError
from screening.recall import FOLDER, Recalled

log = logging.getLogger(__name__)

LEAST_JUDGED: Final = 1_000
"""With fewer calls that could be judged, the guard has nothing to say."""

MOST_SAMPLES: Final = 10_000
"""Replayed by the guard; a share is then known to within half a percent."""

MOST_SECONDS: Final = 30.0
FORCE_FILE: Final = "rules.forced"
FORCE_SECONDS: Final = 3600.0
_MOST_RULES_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the guard found. `changes` are counts by "allow to block"; `rules` name those rules
    that would decide most of what changes, with their counts."""

    samples: int
    undecided: int
    changed: int
    limit_percent: float
    changes: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Comparison, *, limit_percent: float) -> "Judgement":
        """The judgement on a comparison."""
        changes = {
            f"{before.word} to {after.word}": count
            for (before, after), count in found.changes.most_common()
        }
        gains = {
            f"{pack}/{rule}": gain
            for (pack, rule), tally in found.rules.items()
            if (gain := tally.after.total() - tally.before.total()) > 0
        }
        most = sorted(gains.items(), key=lambda item: -item[1])[:_MOST_RULES_NAMED]
        return cls(
            samples=found.samples,
            undecided=found.undecided,
            changed=found.changed,
            limit_percent=limit_percent,
            changes=changes,
            rules=dict(most),
        )

    @property
    def judged(self) -> int:
        """The samples that could be judged."""
        return self.samples - self.undecided

    @property
    def enough(self) -> bool:
        """Whether the guard has enough to go by."""
        return self.judged >= LEAST_JUDGED

    @property
    def refuses(self) -> bool:
        """Whether the activation is refused unless it is forced."""
        return self.enough and 100 * self.changed > self.limit_percent * self.judged

    def __str__(self) -> str:
        percent = 100 * self.changed / self.judged if self.judged else 0.0
        text = (
            f"{self.changed} of {self.judged} sampled verdicts ({percent:.1f} %) would change,"
            f" the limit is {self.limit_percent:g} %"
        )
        if self.changes:
            text += ": " + ", ".join(f"{count} {what}" for what, count in self.changes.items())
        if self.rules:
            text += "; more decided by " + ", ".join(self.rules)
        if self.undecided:
            text += f"; {self.undecided} more hang on facts that were not read for them"
        if not self.enough:
            text += f"; fewer than {LEAST_JUDGED} are too few to judge by"
        return text


def judge(current: Packs, new: Packs, *, recalled: Recalled, limit_percent: float) -> Judgement:
    """The judgement, here and now: for a command, or the guard's own process."""
    found = compare(current, new, recalled.samples(most=MOST_SAMPLES), most_examples=0)
    return Judgement.of(found, limit_percent=limit_percent)


class Guard:
    """Asked before packs take the place of others, whichever way they came.

    `folder` is the state's; `flush` writes calls that still wait to be kept. Blocks for seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_percent: float,
        flush: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._limit = limit_percent
        self._flush = flush
        self._clock = clock
        self._aside = Aside("screening.blast_radius", most_seconds=MOST_SECONDS)

    def against(self, current: Packs | None, new: Packs) -> str:
        """Why the new packs must not come into force, "" where they may.

        Without packs in force there is nothing that they could change. What speaks for them is
        logged: too few calls to judge by, or a person's force.
        """
        if current is None or current.digest == new.digest or self._limit >= 100:
            return ""
        if self._is_forced(new):
            log.warning("the guard lets rules pass: they were forced, the audit has the reason")
            return ""
        try:
            self._flush()
            found = self._judge(current, new)
        except AsideError as broken:
            return f"what would change cannot be told: the replay: {broken}"
        if found.refuses:
            return str(found)
        if found.enough:
            log.info("the guard lets rules pass: %s", found)
        else:
            log.warning("the guard lets rules pass, it cannot judge them: %s", found)
        return ""

    def stop(self) -> None:
        """End a comparison that runs, and let no other begin."""
        self._aside.stop()

    def _is_forced(self, packs: Packs) -> bool:
        try:
            marker = json.loads((self._folder / FORCE_FILE).read_bytes())
            age = self._clock() - float(marker["at"])
            return marker["digest"] == packs.digest and 0 <= age < FORCE_SECONDS
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _judge(self, current: Packs, new: Packs) -> Judgement:
        # Not JSON: writing a megabyte of it takes the interpreter from the calls.
        question = b"%d\n%b%b" % (len(current.content), current.content, new.content)
        paths = self._folder / FOLDER, self._folder / "secrets.json"
        answer = self._aside.ask(*map(str, paths), str(self._limit), given=question)
        return Judgement(**json.loads(answer))


def force(folder: Path, *, digest: str, at: float) -> None:
    """Let the guard pass the packs of this digest, within the hour."""
    content = json.dumps({"digest": digest, "at": at}).encode() + b"\n"
    replace_private(folder / FORCE_FILE, content)


def main() -> None:
    """Two bundles come in after the length of the first; a judgement goes out as JSON."""
    parser = argparse.ArgumentParser(prog="python -m screening.blast_radius")
    parser.add_argument("recall", type=Path)
    parser.add_argument("secrets", type=Path)
    parser.add_argument("limit_percent", type=float)
    words = parser.parse_args()
    length, question = int(sys.stdin.buffer.readline()), sys.stdin.buffer.read()
    current, new = load_bundle(question[:length]), load_bundle(question[length:])
    recalled = Recalled(words.recall, Keyring.load_or_create(words.secrets))
    found = judge(current, new, recalled=recalled, limit_percent=words.limit_percent)
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
