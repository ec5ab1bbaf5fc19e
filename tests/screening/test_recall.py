"""The recall: bounded, sealed, and what goes in comes out."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.test_ruleset import known_facts, unknowns

from consent.conduct import NOTHING
from consent.facts import CALLED_SIDE, UNKNOWN, Facts
from consent.keyring import Keyring
from consent.number import parse_number
from rules.call import Call
from rules.ruleset import ReadPlan, RuleSet
from rules.safeguard import EMERGENCY
from rules.verdict import Action, Cause, Verdict
from screening import recall as module
from screening.decision_id import decision_id
from screening.recall import MOST_SECONDS, MOST_WAITING, Recall, Recalled, decode, encode
from screening.screener import Decision, Question

RULESET = RuleSet("t", "1", Action.ALLOW, ())
ALLOWED = Verdict(Action.ALLOW, Cause.DEFAULT, "default", "t@1")
CALLING, CALLED = "+441632960001", "+447700900123"
START = 1_795_435_200.0


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """Keys of an installation."""
    return Keyring.load_or_create(tmp_path / "secrets.json")


@pytest.fixture
def clock() -> Clock:
    """At START."""
    return Clock()


@pytest.fixture
def ring(tmp_path: Path, keyring: Keyring, clock: Clock) -> Iterator[Callable[..., Recall]]:
    """Makes rings over one folder."""
    made: list[Recall] = []

    def make(**options: Any) -> Recall:
        made.append(Recall(tmp_path / "recall", keyring, clock=clock, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def a_call(index: int = 0) -> Call:
    """A call with the id that a call of this call_id gets."""
    call = Call()
    call.call_id = f"call {index}"
    call.calling, call.called = parse_number(CALLING), parse_number(CALLED)
    call.decision_id = decision_id(
        call_id=call.call_id, calling=CALLING, called=CALLED, key=b"k" * 32
    )
    return call


def offer(ring: Recall, index: int, *, verdict: Verdict = ALLOWED, **about: Any) -> None:
    """One call, answered."""
    question = Question()
    question.call = a_call(index)
    fields = {"facts": Facts(listed=2), **about}
    ring.offer(question, Decision(verdict, RULESET, question.call.decision_id, **fields))


def fill(ring: Recall, clock: Clock, count: int, *, first: int = 0, seconds: float = 1.0) -> None:
    """`count` calls, written every hundred of them, spread over `seconds`."""
    for index in range(first, first + count):
        offer(ring, index)
        clock.now += seconds / count
        if index % 100 == 99:
            ring.keep()
    ring.keep()


@given(
    known_facts, unknowns,
    st.builds(
        ReadPlan,
        categories=st.sets(st.sampled_from(("all", "loans", "survey"))).map(frozenset),
        own_category=st.booleans(), consent=st.booleans(), personal=st.booleans(),
        profile=st.booleans(), signals=st.booleans(), frequency=st.booleans(),
    ),
    st.text(max_size=200), st.sampled_from(("+441632960001", "110", "anonymous", "+999", "x")),
    st.floats(0, 4e9), st.integers(0, 2**31 - 1), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out(
    facts: Facts, unknown: frozenset[str], plan: ReadPlan, text: str, number: str, at: float,
    count: int, flag: bool,
) -> None:  # fmt: skip
    """Every field that a rule can look at, and the facts with what was unknown of them."""
    call = a_call()
    call.call_id = "never kept"
    call.calling = call.diverted_from = parse_number(number, region="CN")
    call.display_name = call.entity = text
    call.at, call.redirect_count, call.network = at, count, 5
    call.roaming = call.commercial = call.vouched = flag
    call.category, call.category_basis, call.mode = "loans", "entity", "prerecorded"
    facts = Facts(
        facts.listed, facts.profile, facts.consent, facts.personal, (), unknown,
        signals=(count, *NOTHING[1:]), entity_calls=(count,) * flag,
    )  # fmt: skip
    line = encode(call, facts, plan, safeguarded=False)
    assert b"never kept" not in line
    sample = decode(line)
    for name in Call.__slots__:
        expected = "" if name == "call_id" else getattr(call, name)
        assert getattr(sample.call, name) == expected, name
    assert (sample.facts, sample.read, sample.safeguarded) == (facts, plan, False)


def test_what_was_decided_without_facts_has_none(ring: Any, tmp_path: Path, keyring: Any) -> None:
    """No read, no plan: in a replay each of the facts is unknown."""
    recall = ring()
    offer(recall, 1, facts=None)
    offer(recall, 2, facts=UNKNOWN)
    recall.keep()
    samples = {
        sample.call.decision_id: sample
        for sample in Recalled(tmp_path / "recall", keyring, clock=lambda: START).samples()
    }
    alone, outage = (samples[a_call(index).decision_id] for index in (1, 2))
    assert alone.read is None
    assert (outage.read, outage.facts.unknown) == (RULESET.plan, CALLED_SIDE)


def test_of_a_safeguarded_call_nothing_is_kept_but_that(ring: Any, tmp_path: Path) -> None:
    """Who called for help stands nowhere, not even sealed."""
    line = encode(a_call(), None, RULESET.plan, safeguarded=True)
    assert line == a_call().decision_id.encode() + b'{"safeguarded":true}'
    assert decode(line).safeguarded
    recall = ring()
    offer(recall, 1, verdict=EMERGENCY)
    recall.keep()
    assert recall.calls == 1


def test_what_no_rules_decided_is_not_kept(ring: Any) -> None:
    """A call answered with nothing loaded, or through a fault of ours, tells a replay nothing."""
    recall = ring()
    question = Question()
    recall.offer(question, Decision(ALLOWED, None, "0" * 26))
    recall.offer(question, Decision(ALLOWED, RULESET, "0" * 26, internal_error=True))
    recall.keep()
    assert (recall.calls, recall.taken) == (0, 0)


def test_files_are_private_and_show_no_number(
    ring: Any, clock: Clock, tmp_path: Path, keyring: Keyring
) -> None:
    """Mode 0600 in a folder of mode 0700, without the digits of a number; read back, they are
    the calls that went in, in their order."""
    recall = ring()
    fill(recall, clock, 200)
    recall.close()
    files = list((tmp_path / "recall").iterdir())
    assert files
    assert stat.S_IMODE((tmp_path / "recall").stat().st_mode) == 0o700
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        content = file.read_bytes()
        for digits in (CALLING, CALLED, CALLING[-9:], CALLED[-9:]):
            assert digits.encode() not in content
            assert int(digits).to_bytes(8) not in content
            assert int(digits).to_bytes(8, "little") not in content
    samples = list(Recalled(tmp_path / "recall", keyring, clock=clock).samples())
    assert [s.call.decision_id for s in samples] == [a_call(n).decision_id for n in range(200)]
    assert {s.call.calling for s in samples} == {parse_number(CALLING)}


def test_other_keys_open_nothing(ring: Any, clock: Clock, tmp_path: Path) -> None:
    """A recall without its key file is noise, counted as damaged."""
    fill(ring(), clock, 10)
    other = Recalled(tmp_path / "recall", Keyring.load_or_create(tmp_path / "other"), clock=clock)
    assert list(other.samples()) == []
    assert other.damaged == 1


def test_it_is_bounded_in_count(ring: Any, clock: Clock, tmp_path: Path, keyring: Keyring) -> None:
    """Of more calls than fit the newest stay, and as many as the folder says."""
    recall = ring(capacity=1000)
    for turn in range(6):
        # More calls than the share lets in: what is chosen of them is kept.
        fill(recall, clock, 1000, first=turn * 1000, seconds=600)
        assert recall.calls <= 1000
    assert recall.calls > 900
    recall.close()
    reread = Recalled(tmp_path / "recall", keyring, clock=clock)
    assert len(list(reread.samples())) == reread.calls == recall.calls
    assert recall.size == sum(file.stat().st_size for file in (tmp_path / "recall").iterdir())


def test_it_is_bounded_in_bytes(ring: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers that send long texts cannot fill the disk: the oldest go first."""
    monkeypatch.setattr(module, "MOST_BYTES", 20_000)
    recall = ring(capacity=500)
    for turn in range(5):
        fill(recall, clock, 100, first=turn * 100, seconds=60)
    recall.keep()
    assert 0 < recall.size <= 20_000
    assert 0 < recall.calls < 500


def test_it_is_bounded_in_age(ring: Any, clock: Clock, tmp_path: Path, keyring: Keyring) -> None:
    """What is older than 24 hours is neither kept nor read."""
    recall = ring()
    fill(recall, clock, 10)
    clock.now += MOST_SECONDS / 2
    fill(recall, clock, 5, first=10)
    assert recall.calls == 15
    clock.now = START + MOST_SECONDS + 1
    # No ring has run since: what is read is bounded all the same.
    assert len(list(Recalled(tmp_path / "recall", keyring, clock=clock).samples())) == 5
    recall.keep()
    assert recall.calls == 5
    clock.now += MOST_SECONDS
    recall.keep()
    assert (recall.calls, list((tmp_path / "recall").iterdir())) == (0, [])


def test_a_clock_that_went_back_leaves_nothing_of_the_future(ring: Any, clock: Clock) -> None:
    """Files of a time to come could not be told to be old."""
    clock.now = START + 10 * MOST_SECONDS
    recall = ring()
    fill(recall, clock, 10)
    clock.now = START
    fill(recall, clock, 3, first=10)
    assert recall.calls == 3


def test_another_process_goes_on_where_one_ended(ring: Any, clock: Clock) -> None:
    """The bounds count what was kept before a restart."""
    fill(ring(), clock, 50)
    second = ring()
    fill(second, clock, 50, first=50)
    assert second.calls == 100


def test_without_capacity_nothing_is_kept(ring: Any, clock: Clock, tmp_path: Path) -> None:
    """recall_calls = 0 switches it off."""
    recall = ring(capacity=0)
    fill(recall, clock, 100)
    assert (recall.calls, recall.taken, (tmp_path / "recall").exists()) == (0, 0, False)


def test_more_than_it_can_write_is_dropped_and_counted(ring: Any) -> None:
    """The hot path never waits: the calls behind are dropped."""
    recall = ring()
    for index in range(MOST_WAITING + 7):
        offer(recall, index)
    assert recall.dropped == {"behind": 7}
    recall.keep()
    assert recall.calls == MOST_WAITING


def test_no_disk_drops_and_counts_and_recovers(
    ring: Any, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails loses what waited and says so; the next one begins a new file."""
    recall = ring()
    fill(recall, clock, 10)
    (tmp_path / "recall").rename(tmp_path / "away")
    (tmp_path / "recall").write_text("a file where the folder was")
    recall.close()
    offer(recall, 11)
    recall.keep()
    assert recall.dropped == {"disk": 1}
    assert "not kept" in recall.failure
    (tmp_path / "recall").unlink()
    offer(recall, 12)
    clock.now += 3600
    recall.keep()
    assert recall.failure == ""
    assert recall.calls == 1


def test_a_full_disk_leaves_whole_frames(
    ring: Any, clock: Clock, tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was half written is taken back, so that the frames before it can be read."""
    recall = ring()
    fill(recall, clock, 10)
    write = module.os.write

    def full(fd: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(28, "No space left on device")
        return write(fd, content[:20])

    with monkeypatch.context() as disk:
        disk.setattr(module.os, "write", full)
        offer(recall, 11)
        recall.keep()
    assert recall.dropped == {"disk": 1}
    offer(recall, 12)
    recall.keep()
    reread = Recalled(tmp_path / "recall", keyring, clock=clock)
    assert len(list(reread.samples())) == recall.calls == 11
    assert reread.damaged == 0


def _cut(content: bytes) -> bytes:
    return content[:-7]


def _flip(content: bytes) -> bytes:
    middle = len(content) - 20
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (_cut, {2}),
        (_flip, {2}),
        (lambda content: b"x" + content[1:], {0, 1, 2}),
        (lambda content: content[:10], {0, 1, 2}),
        (lambda _: b"", {0, 1, 2}),
        (lambda content: content + b"torn", set()),
        (lambda content: content[:24] + b"\xff" * 8 + content[32:], {0, 1, 2}),
    ],
    ids=["cut", "flipped", "no magic", "stub", "empty", "torn end", "absurd head"],
)
def test_damage_is_skipped_and_counted(
    damage: Callable[[bytes], bytes], lost: set[int], ring: Any, clock: Clock, tmp_path: Path,
    keyring: Keyring,
) -> None:  # fmt: skip
    """A segment that was cut or altered loses its damaged part and no other segment."""
    whole = ring()
    for index in range(3):
        offer(whole, index)
        whole.keep()
    whole.close()
    (file,) = (tmp_path / "recall").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    os.utime(file, (START, START))
    fill(ring(), clock, 1, first=3)
    recalled = Recalled(tmp_path / "recall", keyring, clock=clock)
    found = {sample.call.decision_id for sample in recalled.samples()}
    assert found == {a_call(index).decision_id for index in {0, 1, 2, 3} - lost}
    assert recalled.damaged == 1


def test_a_frame_moved_elsewhere_does_not_open(
    ring: Any, clock: Clock, tmp_path: Path, keyring: Keyring
) -> None:
    """A call is sealed to its file and place: it cannot be counted twice."""
    fill(ring(), clock, 1)
    (file,) = (tmp_path / "recall").iterdir()
    content = file.read_bytes()
    file.write_bytes(content + content[24:])
    recalled = Recalled(tmp_path / "recall", keyring, clock=clock)
    assert len(list(recalled.samples())) == 1
    assert recalled.damaged == 1


def test_one_file_can_be_read_where_it_was_taken(
    ring: Any, clock: Clock, tmp_path: Path, keyring: Keyring
) -> None:
    """`--log FILE`: a file of a recall under any name, with the key file of its node."""
    fill(ring(), clock, 5)
    (file,) = (tmp_path / "recall").iterdir()
    copy = tmp_path / "from-node-7"
    copy.write_bytes(file.read_bytes())
    assert len(list(Recalled(copy, keyring, clock=clock).samples())) == 5


def test_a_choice_is_fair_and_the_same_each_time(
    ring: Any, clock: Clock, tmp_path: Path, keyring: Keyring
) -> None:
    """Of 900 calls, 300: those whose ids come first, so every third of any kind."""
    fill(ring(), clock, 900)
    recalled = Recalled(tmp_path / "recall", keyring, clock=clock)
    chosen = [sample.call.decision_id for sample in recalled.samples(most=300)]
    assert chosen == sorted(a_call(index).decision_id for index in range(900))[:300]


def test_the_share_falls_until_the_ring_spans_a_day(ring: Any, clock: Clock) -> None:
    """Under a steady load a full ring comes to hold 24 hours, and never more than fits."""
    recall = ring(capacity=200)
    index = 0
    for _ in range(48 * 3):
        for _ in range(40):
            offer(recall, index)
            index += 1
        clock.now += 1800
        recall.keep()
        assert recall.calls <= 200
    per_day = 40 * 48
    assert 0.5 * 200 / per_day < recall.share < 2 * 200 / per_day
    oldest = min(segment.first for segment in recall._segments)
    assert clock.now - oldest > 0.6 * MOST_SECONDS


def test_what_is_chosen_is_chosen_again(ring: Any, clock: Clock) -> None:
    """A smaller share is a part of a greater one: the same ids, less of them."""
    ids = sorted(a_call(index).decision_id for index in range(2000))
    shares = [1.0, 0.5, 0.1, 0.01]
    chosen = [{each for each in ids if each < module._threshold(share)} for share in shares]
    assert chosen[0] == set(ids)
    for smaller, greater, share in zip(chosen[1:], chosen, shares[1:], strict=False):
        assert smaller < greater
        assert 0.7 * share < len(smaller) / len(ids) < 1.3 * share
