"""Registries of a nation's size: which numbers are listed is drawn by lot from a seed.

    python -m benchmarks.registry --country cn --numbers 620000000 --seed 1 > cn.txt

The prefixes are real, the numbers behind them random: every one of a prefix is listed with the
same chance, that of the nation. Fewer numbers than the nation's take as many prefixes fewer, or
with `--spread` all of them, thinly. The file is sorted, and the same for the same words.
"""

import argparse
import importlib.resources
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

BEHIND: Final = 10_000
"""Numbers that a prefix has: its last four digits."""
PREFIXES_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Nation:
    """`code` is the country code, `full` how many numbers its registry has (see the sources)."""

    code: int
    full: int
    format: str


NATIONS: Final = {
    "us": Nation(1, 258_500_000, "ftc"),
    "in": Nation(91, 280_000_000, "numbers"),
    "cn": Nation(86, 620_000_000, "numbers"),
}
"""FTC, National Do Not Call Registry Data Book 2025; TRAI, preference registrations; the Chinese
ministry's figure for its protection service at the end of 2023."""


def prefixes(country: str) -> Ints:
    """The national digits of every number but the last four, rising.

    US: all area codes that libphonenumber knows with all exchanges but N11. IN: the mobile series
    of libphonenumber's carrier data. CN: the prefixes of the package `phone`.
    """
    if country == "us":
        from phonenumbers import PhoneMetadata

        pattern = PhoneMetadata.metadata_for_region("US").fixed_line.national_number_pattern
        areas = [area for area in range(200, 1000) if re.fullmatch(pattern, f"{area}2345678"[:10])]
        exchanges = np.array([each for each in range(200, 1000) if each % 100 != 11])
        return (np.array(areas)[:, None] * 1000 + exchanges).ravel()
    if country == "in":
        from phonenumbers.carrierdata import CARRIER_DATA

        series = [each[2:] for each in CARRIER_DATA if each.startswith("91")]
        found = [
            np.arange(int(each) * 10 ** (6 - len(each)), (int(each) + 1) * 10 ** (6 - len(each)))
            for each in series
            if len(each) <= 6
        ]
        return np.unique(np.concatenate(found))
    data = (importlib.resources.files("phone") / "phone.dat").read_bytes()
    first = int(np.frombuffer(data, "<i4", 1, 4)[0])
    records = np.frombuffer(data, [("prefix", "<i4"), ("record", "<i4"), ("type", "u1")], -1, first)
    return np.unique(records["prefix"].astype(np.int64))


def taken(country: str, numbers: int, *, spread: bool = False) -> Ints:
    """The prefixes that a registry of so many numbers takes."""
    every = prefixes(country)
    share = 1.0 if spread else min(1.0, numbers / NATIONS[country].full)
    least = -(-numbers // BEHIND)
    return every[: max(least, round(len(every) * share))]


def draw(chosen: Ints, numbers: int, *, seed: int) -> Iterator[Ints]:
    """The national numbers of a registry, rising, for a thousand prefixes at a time."""
    rng = np.random.default_rng(seed)
    chance = numbers / (len(chosen) * BEHIND)
    assert chance <= 1, "more numbers than the prefixes have"
    batches = [chosen[at : at + PREFIXES_AT_ONCE] for at in range(0, len(chosen), PREFIXES_AT_ONCE)]
    sizes = np.array([len(batch) * BEHIND for batch in batches])
    counts = rng.binomial(sizes, chance)
    while off := numbers - int(counts.sum()):
        at = rng.integers(0, len(counts), abs(off))
        np.add.at(counts, at, np.sign(off))
        counts = np.clip(counts, 0, sizes)
    for batch, size, count in zip(batches, sizes.tolist(), counts.tolist(), strict=True):
        places = _places(rng, size, count)
        yield batch[places // BEHIND] * BEHIND + places % BEHIND


def _places(rng: np.random.Generator, size: int, count: int) -> Ints:
    """`count` of the places below `size`, rising, each set of them as likely as any other."""
    if count * 50 < size:
        return np.sort(rng.choice(size, count, replace=False))
    # A few too many by comparing 16 random bits each, then as many again left out.
    limit = min(65536, int(65536 * (count / size + 4 * (count / size**2) ** 0.5)) + 1)
    found = np.flatnonzero(rng.integers(0, 65536, size, np.uint16) < np.uint32(limit))
    if len(found) < count:
        return np.sort(rng.choice(size, count, replace=False))
    return np.delete(found, rng.choice(len(found), len(found) - count, replace=False))


def text(numbers: Ints, *, form: str) -> bytes:
    """The numbers a line each, as the registry of the country is written."""
    digits = len(str(int(numbers[-1]))) if len(numbers) else 0
    lines = np.empty((len(numbers), digits + 1), np.uint8)
    rest = numbers
    for place in range(digits - 1, -1, -1):
        shorter = rest // 10
        lines[:, place] = rest - shorter * 10 + ord("0")
        rest = shorter
    lines[:, digits] = ord("\n")
    if form == "ftc":
        lines = np.insert(lines, 3, ord(","), axis=1)
    return lines.tobytes()


def write(file: IO[bytes], country: str, numbers: int, *, seed: int, spread: bool = False) -> None:
    """The whole registry to a file."""
    for drawn in draw(taken(country, numbers, spread=spread), numbers, seed=seed):
        file.write(text(drawn, form=NATIONS[country].format))


def main() -> int:
    """Run it; see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--country", choices=NATIONS, required=True)
    parser.add_argument("--numbers", type=int, help="how many (the nation's)")
    parser.add_argument("--seed", type=int, default=1, help="(1)")
    parser.add_argument("--spread", action="store_true", help="over all prefixes, thinly")
    asked = parser.parse_args()
    numbers = asked.numbers or NATIONS[asked.country].full
    write(sys.stdout.buffer, asked.country, numbers, seed=asked.seed, spread=asked.spread)
    return 0


if __name__ == "__main__":
    sys.exit(main())
