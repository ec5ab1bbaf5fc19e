"""Signals: what is counted, how exactly, in how much memory, and how it reaches the rules."""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.running import Running, running_service, wait_for

from consent.conduct import NAMES, NOTHING, combined, pack, unpack
from consent.index import ConductStore
from consent.keyring import Keyring
from rules.call import Call
from screening.recording.intake import Recorder
from screening.recording.outbox import OWN, SHARED
from screening.recording.segments import FOLDER, Log
from screening.signals.counting import Counting
from screening.signals.party import Party
from screening.signals.publishing import Publisher
from screening.signals.tally import BLOCK, CALLING, ENTITY, KINDS, TRUNK, Table, Tally
from screening.signals.view import FILE, ConductView, place, write
from screening.signals.windows import (
    ANSWERED,
    ATTEMPT,
    BITS,
    ENDED,
    REFUSED,
    SHORT,
    WINDOWS,
    packed,
)


class Clock:
    """Seconds, set by hand."""

    def __init__(self, at: float = 1e6) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def named(party: Party, now: float) -> dict[str, int]:
    held = packed(party.at(now)) or pack(NOTHING)
    return dict(zip(NAMES, unpack(held), strict=True))


def grown() -> Party:
    party = Party()
    party.grow()
    return party


@pytest.mark.parametrize("party", [Party, grown], ids=["exact", "sketched"])
def test_a_window_holds_what_happened_in_it(party: Any) -> None:
    """Counts, numbers called and shares, each of its own window."""
    one, now = party(), 1e6
    for n in range(10):
        one.add(now, ATTEMPT | (REFUSED if n < 2 else 0), 100 + n % 5)
    one.add(now + 1, ENDED | ANSWERED | SHORT, 100)
    one.add(now + 1, ENDED | ANSWERED, 101)
    one.add(now + 1, ENDED, 102)
    one.add(now + 1, ENDED, 103)
    seen = named(one, now + 2)
    for window in ("1m", "1h", "24h", "7d"):
        assert seen[f"attempts_{window}"] == 10
        assert seen[f"distinct_called_{window}"] == 5
        assert seen[f"refused_share_{window}"] == 200
        assert seen[f"answered_share_{window}"] == 500
        assert seen[f"short_share_{window}"] == 500
    later = named(one, now + 70)
    assert (later["attempts_1m"], later["attempts_1h"]) == (0, 10)
    assert named(one, now + 8 * 86_400)["attempts_7d"] == 0


@pytest.mark.parametrize("start", [0.0, 1.7, 29.9, 59.9, 299.0])
def test_a_steady_rate_reads_the_same_whenever_it_is_asked(start: float) -> None:
    """No edge of a window doubles or halves it."""
    party = grown()
    for n in range(4 * 600):
        now = 1e6 + start + n / 4
        party.add(now, ATTEMPT, n)
        if n > 4 * 120 and n % 7 == 0:
            seen = named(party, now)
            assert seen["attempts_1m"] == pytest.approx(240, abs=24)
            assert seen["distinct_called_1m"] == pytest.approx(240, abs=26)


events = st.lists(
    st.tuples(st.floats(0, 8 * 86_400), st.integers(1, 63), st.integers(0, 5)), max_size=48
)


@given(events, st.floats(0, 86_400))
def test_single_events_are_counted_one_by_one(drawn: list[Any], later: float) -> None:
    """Each window holds the events that are younger than it, and nothing changes unannounced."""
    party = Party()
    for at, bits, called in sorted(drawn):
        party.add(at, bits, called)
    now = max((at for at, _, _ in drawn), default=0.0) + later
    for (seconds, span), seen in zip(WINDOWS.values(), party.at(now), strict=True):
        inside = [event for event in drawn if event[0] > now - seconds * span]
        counted = [sum(bits >> bit & 1 for _, bits, _ in inside) for bit in range(BITS)]
        numbers = {called for _, bits, called in inside if bits & ATTEMPT and called}
        assert seen == (*counted, len(numbers))
    soon = party.next_change(now)
    if not soon:
        assert party.at(now) == party.at(now + 30 * 86_400)
    elif soon > max(seconds for seconds, _ in WINDOWS.values()):
        assert party.at(now) == party.at(now + soon - 1)


@given(events, st.floats(0, 86_400), st.booleans())
def test_reading_takes_nothing_away_and_adds_nothing(
    drawn: list[Any], later: float, back: bool
) -> None:
    """A party with sketches that is read, or kept, after every event holds what one does that is
    read at the end, also where the clock went back by less than a slot."""
    read, unread, now = grown(), grown(), 0.0
    for n, (at, bits, called) in enumerate(sorted(drawn)):
        now = at - 4 * (n % 2) if back else at
        read.add(now, bits, called)
        unread.add(now, bits, called)
        read.at(now) if n % 3 else read.state()
    now += later
    for one, other in zip(read.at(now), unread.at(now), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_distinct_numbers_are_within_two_percent_at_the_95th_percentile() -> None:
    """Over many parties and sizes, called over several slots and with repeats."""
    drawn = random.Random(7)
    errors = []
    for _ in range(60):
        party, now = grown(), 1e6
        true = int(10 ** drawn.uniform(1.5, 4.5))
        numbers = [drawn.getrandbits(40) | 1 for _ in range(true)]
        for number in [*numbers, *numbers[: true // 3]]:
            now += 3000 / true
            party.add(now, ATTEMPT, number)
        errors.append(abs(party.at(now)[1][-1] - true) / true)
    errors.sort()
    assert errors[int(len(errors) * 0.95)] < 0.02


def test_a_flood_of_numbers_does_not_make_it_forget_who_keeps_calling() -> None:
    """Memory is bounded, and newcomers take only each other's place."""
    table = Table(100)
    for _ in range(3):
        table.party(7).add(1e6, ATTEMPT, 1)
    for number in range(1000, 100_000):
        table.party(number).add(1e6, ATTEMPT, 1)
    assert len(table) == 100
    kept = table.find(7)
    assert kept is not None
    assert kept.events is not None
    assert len(kept.events) == 3
    assert table.forgotten == 99_000 - 99


def test_parties_with_sketches_are_bounded() -> None:
    """The one that was heard of longest ago is forgotten."""
    tally = Tally(most_grown=3)
    for number in range(1, 6):
        for n in range(60):
            tally.add(CALLING, number, 1e6 + n, ATTEMPT, n)
    assert sorted(key for key, _ in tally.tables[CALLING].items()) == [3, 4, 5]


@given(st.lists(st.integers(0, 1 << 40), min_size=len(NAMES), max_size=len(NAMES)))
def test_packed_values_are_what_they_were(numbers: list[int]) -> None:
    """And never more than 64 bytes, shares being in thousandths."""
    wanted = tuple(
        min(n, (1 << 28) - 1) if name.startswith(("attempts", "distinct")) else n % 1001
        for n, name in zip(numbers, NAMES, strict=True)
    )
    data = pack(wanted)
    assert len(data) <= 64
    assert unpack(data) == wanted


def test_what_several_nodes_saw_adds_up() -> None:
    """Counts add, shares weigh by attempts."""
    a, b = [*NOTHING], [*NOTHING]
    a[:5] = [10, 8, 100, 0, 500]
    b[:5] = [30, 20, 500, 0, 100]
    assert combined([tuple(a), tuple(b)])[:5] == (40, 28, 400, 0, 200)


def call(**fields: Any) -> list[Any]:
    """A call as a worker hands it over."""
    given: dict[str, Any] = {
        "id": "0" * 26, "at": 1e9, "calling": 441632960001, "called": 447700900123, "entity": 0,
        "trunk": "", "category": "", "emergency": False, "replay": False,
    }  # fmt: skip
    given |= fields
    return [given.get(name, "") for name in OWN + SHARED]


RANG = {"action": "allow", "ruleset": "gb@1"}
REFUSED_BY_US = {"action": "block", "ruleset": "gb@1"}


def test_a_call_is_counted_for_each_of_its_parties() -> None:
    """Number, block, entity and trunk; a refused one as refused."""
    counting = Counting(clock=Clock())
    counting.call(call(entity=7, trunk="ic-1"), RANG)
    counting.call(call(entity=7, trunk="ic-1"), REFUSED_BY_US)
    keys = {CALLING: 441632960001, BLOCK: 441632960, ENTITY: 7, TRUNK: "ic-1"}
    for kind in KINDS:
        party = counting.tally.tables[kind].find(keys[kind])  # type: ignore[arg-type]
        assert party is not None
        seen = named(party, 1e6)
        assert (seen["attempts_1h"], seen["refused_share_1h"]) == (2, 500)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        pytest.param({"replay": True}, RANG, id="replay"),
        pytest.param({"emergency": True}, RANG, id="emergency"),
        pytest.param({}, {"action": "allow", "ruleset": "safeguard"}, id="safeguard"),
    ],
)
def test_what_is_no_conduct_is_not_counted(fields: dict[str, Any], verdict: dict[str, Any]) -> None:
    """For nobody."""
    counting = Counting(clock=Clock())
    counting.call(call(**fields), verdict)
    assert counting.counted == 0
    assert not counting.tally.changed


def test_only_commercial_calls_that_rang_count_for_frequency() -> None:
    """Of a registered entity; a call that may be asked about again by its decision's id."""
    counting = Counting(clock=Clock())
    counting.call(call(entity=7, category="energy"), RANG)
    counting.call(call(entity=7, category="energy", call_id="c"), RANG)
    counting.call(call(entity=7, category="energy"), REFUSED_BY_US)
    counting.call(call(entity=7, category="service"), RANG)
    counting.call(call(entity=0, category="energy"), RANG)
    assert counting.rang == [(447700900123, 7, 1e9, ""), (447700900123, 7, 1e9, "0" * 26)]


END = {
    "id": "A" * 26, "calling": 441632960001, "called": 447700900123, "entity": 0, "trunk": "",
    "answered": True, "seconds": 3.0,
}  # fmt: skip


def test_an_end_counts_once() -> None:
    """However often it is told."""
    counting = Counting(clock=Clock())
    assert [counting.end(END), counting.end(END)] == [True, False]
    party = counting.tally.tables[CALLING].find(441632960001)
    assert party is not None
    assert named(party, 1e6)["short_share_1h"] == 1000


@pytest.mark.parametrize("calls", [5, 500], ids=["exact", "sketched"])
@pytest.mark.parametrize("step", [0.0, -1e6, 1e6], ids=["no step", "back", "forth"])
def test_what_was_counted_outlives_a_restart_and_steps_of_the_clock(
    tmp_path: Path, calls: int, step: float
) -> None:
    """The wall clock may have been set meanwhile: the monotonic one tells how long ago it was."""
    keyring = Keyring.load_or_create(tmp_path / "secrets.json")
    clock = Clock()
    before = Counting(clock=clock)
    for n in range(calls):
        before.call(call(called=n + 1), RANG)
    before.keep(tmp_path / "kept", keyring, wall=1e9)
    assert b"441632960001" not in (tmp_path / "kept").read_bytes()

    clock.at += 600
    after = Counting(clock=clock)
    assert after.restore(tmp_path / "kept", keyring, wall=1e9 + 600 + step)
    party = after.tally.tables[CALLING].find(441632960001)
    assert party is not None
    seen = named(party, clock.at)
    assert seen["attempts_1m"] == 0
    assert seen["attempts_1h"] == calls
    assert seen["distinct_called_1h"] == pytest.approx(calls, rel=0.02)
    after.call(call(called=10**9), RANG)
    assert named(party, clock.at)["attempts_1m"] == 1


def test_what_was_kept_and_is_damaged_is_not_taken_in(tmp_path: Path) -> None:
    """It begins anew."""
    keyring = Keyring.load_or_create(tmp_path / "secrets.json")
    assert not Counting().restore(tmp_path / "kept", keyring, wall=0)
    (tmp_path / "kept").write_bytes(b"\0" * 100)
    assert not Counting().restore(tmp_path / "kept", keyring, wall=0)


def test_every_worker_sees_the_file_and_knows_when_nobody_writes_it(tmp_path: Path) -> None:
    """A party that it does not name has done nothing; a file left behind says nothing."""
    wall = Clock(1e9)
    view = ConductView(tmp_path, wall=wall)
    one = Call()
    one.trunk, one.entity_id = "ic-1", 7
    assert view.of("trunk", one) is None
    busy = (5, 4, *NOTHING[2:])
    write(tmp_path, {"entity": {}, "block": {}, "trunk": {place("ic-1"): pack(busy)}})
    os.utime(tmp_path / FILE, (1e9, 1e9))
    view.look()
    assert view.of("trunk", one) == busy
    assert view.of("entity", one) == NOTHING
    assert view.of("block", one) == NOTHING
    wall.at += 60
    assert view.of("trunk", one) is None


def test_what_is_published_slides_and_is_forgotten(tmp_path: Path) -> None:
    """Without a new event; and a party forgotten while it waits is not published any more, nor
    does it stand in the way of the one that comes after it."""
    clock = Clock()
    counting = Counting(clock=clock)
    publisher = Publisher(tmp_path, counting, url="", node="n", clock=clock)
    view = ConductView(tmp_path)

    def attempts(window: str) -> int:
        publisher.turn()
        view.look()
        return view.find(TRUNK, place("ic-1"))[NAMES.index(f"attempts_{window}")]

    for n in range(3):
        counting.call(call(trunk="ic-1", called=n + 1), RANG)
    assert (attempts("1m"), attempts("1h")) == (3, 3)
    clock.at += 70
    assert (attempts("1m"), attempts("1h")) == (0, 3)
    counting.call(call(trunk="ic-1"), RANG)
    counting.tally.drop(TRUNK, "ic-1")
    publisher.forget(TRUNK, "ic-1")
    assert attempts("1h") == 0
    counting.call(call(trunk="ic-1"), RANG)
    counting.call(call(trunk="ic-1"), RANG)
    assert attempts("1h") == 2
    clock.at += 3000
    assert attempts("1h") == 2


# With a service

RULES = """
[ruleset]
name = "default"
revision = "1"
default = "allow"

[[rule]]
id = "busy.number"
when = "signals.calling.attempts_1h >= 5"
then = "warn"
cause = "analytics"
why = "It calls often."
source = "Test"

[[rule]]
id = "busy.trunk"
when = "signals.trunk.distinct_called_1h >= 3"
then = "warn"
cause = "analytics"
why = "Many are called through it."
source = "Test"
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service with rules on signals, whose client may assert trunks and ask for instants."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "rules" / "default").mkdir(parents=True)
    (folder / "rules" / "default" / "rules.toml").write_text(RULES)
    (folder / "rules" / "packs.toml").write_text("")
    (folder / "state").mkdir()
    (folder / "state" / "clients.toml").write_text(
        '[switch]\nkeys = ["first"]\nasserts = ["trunk"]\nmay = ["at", "explain"]\n'
    )
    with running_service(folder / "state", rules_dir=str(folder / "rules")) as running:
        yield running


def decided(running: Running, call_id: str, **fields: object) -> object:
    asked = {"calling": "+441632960001", "called": "+447700900123", "call_id": call_id} | fields
    return running.screen(**asked)["rule"]


def test_a_number_that_calls_often_is_told_within_a_second(counted: Running) -> None:
    """By its signals in the index; asked again it counts once, replayed it does not count."""
    for _ in range(10):
        assert decided(counted, "the same") == "default"
    for n in range(10):
        decided(counted, f"replay-{n}", at="2026-01-01T12:00:00Z")
    for n in range(4):
        assert decided(counted, f"n-{n}") == "default"
    # Read by another number, so that asking does not make it true.
    shown = ["signals", "show", "+441632960001", "--json"]
    wait_for(
        lambda: json.loads(counted.cli(*shown).stdout)["attempts_1h"] == 5,
        seconds=20,
        what="the signals",
    )
    assert decided(counted, "after") == "busy.number"


def test_a_trunk_is_told_on_every_worker(counted: Running) -> None:
    """From worker memory."""
    for n in range(3):
        called = f"+44770090013{n}"
        decided(counted, f"t-{n}", calling=f"+44163296010{n}", called=called, trunk="ic-9")
    wait_for(
        lambda: decided(counted, "t-0", calling="+441632960100", trunk="ic-9") == "busy.trunk",
        seconds=20,
        what="the trunk's signals",
    )


def test_a_restart_forgets_nothing_and_counts_nothing_twice(counted: Running) -> None:
    """The recorder is told to end and comes back."""
    for n in range(6):
        decided(counted, f"r-{n}", calling="+441632960555")
    shown = ["signals", "show", "+441632960555", "--json"]

    def attempts() -> int:
        return int(json.loads(counted.cli(*shown).stdout)["attempts_1h"])

    wait_for(lambda: attempts() == 6, seconds=20, what="six attempts")
    status = counted.state / "recorder.json"
    pid = json.loads(status.read_text())["pid"]
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: json.loads(status.read_text())["pid"] != pid, seconds=20, what="another")
    decided(counted, "r-5", calling="+441632960555")
    decided(counted, "r-6", calling="+441632960555")
    wait_for(lambda: attempts() == 7, seconds=20, what="seven attempts")


def test_counters_are_reset_with_a_reason(counted: Running) -> None:
    """Which the audit keeps, with a token for the number."""
    for n in range(6):
        decided(counted, f"z-{n}", calling="+441632960777")
    wait_for(
        lambda: decided(counted, "z-0", calling="+441632960777") == "busy.number",
        seconds=20,
        what="the signals",
    )
    assert counted.cli("signals", "reset", "+441632960777", check=False).returncode
    counted.cli("signals", "reset", "+441632960777", "--reason", "a test line")
    wait_for(
        lambda: decided(counted, "z-0", calling="+441632960777") == "default",
        seconds=20,
        what="the reset",
    )
    audit = counted.cli("audit").stdout
    assert "signals.reset" in audit
    assert "441632960777" not in audit


def test_writing_takes_longer_while_workers_shed(
    tmp_path: Path, index_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five times as long, until none of them has said so for two seconds."""
    written: list[float] = []

    def write_calls(_store: ConductStore, _calls: Any, *, within_s: float) -> None:
        written.append(within_s)

    monkeypatch.setattr(ConductStore, "write_calls", write_calls)
    clock = Clock()
    keyring = Keyring.load_or_create(tmp_path / "secrets.json")
    recorder = Recorder(tmp_path, keyring, Log(tmp_path / FOLDER), redis_url=index_url, clock=clock)
    publisher = recorder.publisher

    def within(*, lost: int = 0) -> float:
        batch = {"instance": "", "rules": "", "verdicts": [], "lists": [], "calls": [], "told": []}
        recorder.take(json.dumps({**batch, "lost": lost}).encode())
        recorder.counting.rang.append((441632960001, 7, clock.at, ""))
        written.clear()
        publisher.turn()
        wait_for(lambda: written, seconds=10, what="calls to be written")
        return written[0]

    publisher.start()
    usual = within()
    assert within(lost=3) == pytest.approx(5 * usual)
    clock.at += 1.9
    assert within() == pytest.approx(5 * usual)
    clock.at += 0.2
    assert within() == usual
    publisher.stop()
