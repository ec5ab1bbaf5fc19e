"""Rule sets of any size, written as packs are: what an operator's set grows to over the years.

Most rules are about one interconnection partner, one registered caller or one number range, under
the conditions that national packs have; each comes with a case that it decides.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

COUNTRIES: Final = ("CN", "DE", "FR", "GB", "IN", "US")
TRADES: Final = ("loans", "property", "insurance", "energy", "recruitment", "education")

_HEAD: Final = """[ruleset]
name = "{name}"
revision = "{revision}"
default = "allow"

[[rule]]
id = "{name}.dno"
when = "calling.dno"
then = "block"
cause = "dno"
why = "The number never calls."
source = "Benchmark"
"""

_RULE: Final = """
[[rule]]
id = "{name}.r{n}"
when = '{when}'
then = "{then}"
cause = "{cause}"
why = "Rule {n} of a generated set."
source = "Benchmark"
"""

_CASE: Final = """
[[case]]
name = "case {n}"
call = {{ called = "+14375550101", {call} }}
{facts}expect = {{ action = "{then}", rule = "{name}.r{n}" }}
"""


def write_packs(folder: Path, rules: int, *, seed: int, revision: str = "bench.1") -> Path:
    """A folder of packs whose `default` has this many rules, each with a case."""
    rng = random.Random(seed)
    name = "default"
    pack = folder / name
    pack.mkdir(parents=True)
    (folder / "packs.toml").write_text('[[pack]]\npack = "default"\n', "utf-8")
    texts, cases = [_HEAD.format(name=name, revision=revision)], []
    for n, (when, call, facts) in zip(range(1, rules), _conditions(rng), strict=False):
        then, cause = rng.choice((("block", "analytics"), ("warn", "analytics")))
        words = {"name": name, "n": n, "then": then, "cause": cause}
        texts.append(_RULE.format(when=when, **words))
        line = f"facts = {{ {facts} }}\n" if facts else ""
        cases.append(_CASE.format(call=call, facts=line, **words))
    (pack / "rules.toml").write_text("".join(texts), "utf-8")
    (pack / "cases.toml").write_text("".join(cases).lstrip(), "utf-8")
    return folder


def _conditions(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """A condition, the call of its case, and the facts of it."""
    n = 0
    while True:
        n += 1
        kind = rng.random()
        country, trade = rng.choice(COUNTRIES), rng.choice(TRADES)
        if kind < 0.4:
            trunk = f"ic-{n:05}"
            yield (
                (
                    f'call.trunk == "{trunk}" && call.route == "international" && '
                    f'!(calling.country in ["{country}", "CA"])'
                ),
                f'calling = "+390612345678", trunk = "{trunk}", route = "international"',
                "",
            )
        elif kind < 0.6:
            trunk = f"ic-{n:05}"
            yield (
                (
                    f'call.trunk == "{trunk}" && call.commercial && call.category == "{trade}" && '
                    'consent.state != "granted"'
                ),
                f'calling = "+390612345678", trunk = "{trunk}", purpose = "{trade}"',
                "",
            )
        elif kind < 0.8:
            entity = f"caller-{n:05}"
            yield (
                (
                    f'entity.name == "{entity}" && call.mode in ["autodialler", "prerecorded"] && '
                    "called.refuses(call.category)"
                ),
                f'calling = "+390612345678", purpose = "{trade}", mode = "prerecorded"',
                (
                    f'listed = ["{trade}"], entity = {{ id = {n}, name = "{entity}", '
                    f'categories = ["{trade}"] }}'
                ),
            )
        elif kind < 0.9:
            trunk = f"ic-{n:05}"
            yield (
                f'call.trunk == "{trunk}" && call.verstat == "failed" && call.attestation != "A"',
                (
                    f'calling = "+390612345678", trunk = "{trunk}", '
                    'verstat = "TN-Validation-Failed", attestation = "C"'
                ),
                "",
            )
        else:
            prefix = f"+4930{n:06}"
            yield (
                f'calling.number.startsWith("{prefix}") && !call.vouched',
                f'calling = "{prefix}1"',
                "",
            )
