"""Early warning: who is warned of and who is not, and that no warning is lost or given twice."""

import hashlib
import hmac
import json
import shutil
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.campaigns import START, Campaign, Maker, Profile
from benchmarks.campaigns import blast as plant_blast
from benchmarks.campaigns import drip as plant_drip
from benchmarks.campaigns import flood as plant_flood
from benchmarks.campaigns import hijack as plant_hijack
from benchmarks.campaigns import neighbours as plant_neighbours
from benchmarks.campaigns import rotation as plant_rotation
from tests.running import ROOT, Running, running_service, wait_for

from consent.keyring import Keyring
from consent.record import Record, RecordConflict, RecordError, Warned
from rules.loading import load_packs
from screening.recording.decision import Records, Tokens
from screening.recording.segments import FOLDER, Log, compress, segments
from screening.recording.segments import Limits as LogLimits
from screening.watching.detector import Detector, Finding, Limits
from screening.watching.events import Call, Complaint, End, Event, number_of, token_of
from screening.watching.following import Follower, event_of
from screening.watching.party import KINDS, NUMBER
from screening.watching.proposal import rule
from screening.watching.seen import Seen
from screening.watching.warned import body_of
from screening.watching.watch import Watch
from screening.webhook import SIGNATURE, Webhook, pause

SMALL = Limits(seen_bits=1 << 20)
PLANTS = {
    "blast": (plant_blast, "number"),
    "drip": (plant_drip, "number"),
    "rotation": (plant_rotation, "block"),
    "hijack": (plant_hijack, "entity"),
    "flood": (plant_flood, "trunk"),
    "neighbours": (plant_neighbours, "neighbours"),
}
DAY = 86_400.0
WEEKDAY = [0.0] * 8 + [1.0] * 10 + [0.0] * 6


def lawful(maker: Maker) -> dict[str, Any]:
    """A courier, a school with alerts, a call centre with consent, a bank, and people."""
    import numpy as np

    office = np.array(WEEKDAY * 5 + [0.0] * 48)
    rounds = maker.times(office, 400)
    maker.add(rounds, maker.number(), maker.strangers(len(rounds)), Profile(0.75, 0.2))
    parents, school = maker.strangers(400), maker.number()
    for day in (3, 9, 16):
        alert = maker.spread(400, START + day * DAY + 7 * 3600, START + day * DAY + 7.2 * 3600)
        maker.add(alert, school, maker.rng.permutation(parents), Profile(0.6, 0.3))
    centre = maker.entity()
    calls = maker.times(office, 900)
    maker.add(calls, maker.number(), maker.strangers(len(calls)),
              Profile(0.4, 0.3, 1.0, 0.95, entity=centre))  # fmt: skip
    bank, numbers = maker.entity(), maker.block(4)
    calls = maker.times(office, 900)
    signed = Profile(0.6, 0.2, 1.0, entity=bank)
    maker.add(calls, maker.rng.choice(numbers, len(calls)), maker.strangers(len(calls)), signed)
    people = maker.rng.integers(100_000_000, 101_000_000, 300)
    calls = maker.times(office, 2_000)
    maker.add(calls, maker.rng.choice(people, len(calls)), maker.rng.choice(people, len(calls)),
              Profile(0.7, 0.1, 0.5))  # fmt: skip
    return {"entity": [(bank, numbers, signed)]}


def weeks(plant: str = "", *, level: int = 2, seed: int = 5) -> tuple[list[Event], Campaign | None]:
    """Three weeks, with a campaign on the third Tuesday."""
    maker = Maker(seed, 3)
    taken = lawful(maker)
    campaign = None
    if plant:
        campaign = PLANTS[plant][0](maker, level, START + 15 * DAY + 10 * 3600, taken)
    return maker.finish().events, campaign


def found(events: list[Event], detector: Detector | None = None) -> list[Finding]:
    return [f for f in (detector or Detector(limits=SMALL)).take(events) if not f.grown]


# Who is warned of


def test_lawful_bulk_callers_pass() -> None:
    """Couriers, schools, banks and call centres with consent are not warned of, once known."""
    assert [f for f in found(weeks()[0]) if f.at > START + 14 * DAY] == []


@pytest.mark.parametrize("plant", PLANTS)
def test_each_kind_of_campaign_is_found(plant: str) -> None:
    """With who is behind it, since when, and decisions of its own as examples."""
    events, campaign = weeks(plant)
    assert campaign is not None
    given = [f for f in found(events) if f.at > START + 14 * DAY]
    assert given
    first = given[0]
    names = {
        "number": campaign.numbers,
        "block": {campaign.block},
        "entity": {campaign.entity},
        "trunk": {campaign.trunk},
        "neighbours": {campaign.trunk},
    }
    assert first.key in names[first.kind]
    assert first.kind in (PLANTS[plant][1], "number")
    assert campaign.since - 3600 <= first.since <= first.at <= campaign.until
    assert 0.5 < first.sure <= 1
    ids = {event.id: event for event in events if isinstance(event, Call)}
    assert first.examples
    assert all(ids[each].at >= campaign.since - 3600 for each in first.examples)


def test_a_clock_that_is_put_back_or_forward_finds_nobody() -> None:
    """A day ahead for a while and back again: rates are of the watch's own clock."""
    events = weeks()[0]
    stepped: list[Event] = []
    for event in events:
        inside = START + 15 * DAY + 12 * 3600 < event.at < START + 15 * DAY + 13 * 3600
        stepped.append(event._replace(at=event.at + DAY) if inside else event)
    detector = Detector(limits=SMALL)
    assert [f for f in found(stepped, detector) if f.at > START + 14 * DAY] == []
    assert detector.steps >= 2
    plain = Detector(limits=SMALL)
    plain.take(events)
    assert abs(detector.tick - plain.tick) < 24 * 60


def test_a_restart_in_the_middle_changes_nothing() -> None:
    """What was kept and taken in again finds what an unbroken watch finds, and no more."""
    events, _ = weeks("blast", level=0)
    unbroken = Detector(limits=SMALL).take(events)
    middle = next(n for n, event in enumerate(events) if event.at > START + 15 * DAY + 10.1 * 3600)
    before = Detector(limits=SMALL)
    findings = before.take(events[:middle])
    state = before.state()
    blobs = {name: dict(state.pop(name)) for name in ("pairs", "numbers")}
    after = Detector(limits=SMALL)
    after.restore({**json.loads(json.dumps(state)), **blobs})
    findings += after.take(events[middle:])
    assert [(f.kind, f.key, f.since, f.at) for f in findings] == [
        (f.kind, f.key, f.since, f.at) for f in unbroken
    ]


def test_memory_is_bounded_whatever_comes() -> None:
    """Numbers that call once are not remembered; of those that go on, no more than the limit."""
    limits = Limits(
        parties=dict.fromkeys(KINDS, 50),
        seen_bits=1 << 12,
        hourly=100,
        strangers=100,
        heavy_log2=12,
    )
    detector = Detector(limits=limits)
    detector.take(Call(START + n, "", n, n, 7, trunk=f"t{n}") for n in range(5_000))
    assert len(detector.tables[NUMBER]) == 0
    detector.take(Call(START + 6_000 + n, "", n % 500, n % 500, n, trunk="t") for n in range(5_000))
    assert all(len(table) <= 100 for table in detector.tables.values())
    assert detector.tables[NUMBER].forgotten > 0
    assert len(detector._hourly) <= 100
    assert len(detector._strangers) <= 100


def test_who_was_dismissed_is_left_in_peace() -> None:
    """Not warned of again while quiet was asked for."""
    events, campaign = weeks("blast", level=2)
    assert campaign is not None
    detector = Detector(limits=SMALL)
    given: list[Finding] = []
    for event in events:
        for finding in detector.take([event]):
            given.append(finding)
            detector.dismiss(finding.kind, finding.key, minutes=7 * 1440)
    assert [f.key in campaign.numbers for f in given if f.at > START + 15 * DAY].count(True) == 1


def test_what_was_met_is_known_again() -> None:
    """A filter forgets only what is older than its capacity."""
    seen = Seen(1 << 14)
    things = [hash((n, n * 7)) for n in range(seen.capacity)]
    assert sum(seen.meet(each) for each in things) > 0.97 * len(things)
    assert not any(seen.meet(each) for each in things)


# From the record of decisions


def keyring(tmp_path: Path) -> Keyring:
    return Keyring.load_or_create(tmp_path / "secrets.json")


def test_the_record_tells_of_calls_ends_and_complaints(tmp_path: Path) -> None:
    """What the recorder writes is what the watch hears; no number is in it."""
    tokens = Tokens(keyring(tmp_path))
    records = Records(tokens)
    told = {"id": "X" * 26, "calling": 441632960001, "called": 441632960002, "entity": 7,
            "trunk": "ic-1", "answered": True, "seconds": 2.5}  # fmt: skip
    line = records.heard("end", told, at=1e9)
    assert b"441632960" not in line
    calling, block = (number_of(tokens.of(value)) for value in (441632960001, 441632960))
    assert event_of(json.loads(line)) == End(1e9, calling, block, 7, "ic-1", True, True)
    line = records.heard("complaint", told, at=1e9)
    assert event_of(json.loads(line)) == Complaint(1e9, calling, block, 7, "ic-1")
    assert token_of(calling) == tokens.of(441632960001)


def record_of(event: Event) -> bytes:
    fields: dict[str, Any] = {
        "instant": event.at,
        "calling": token_of(event.calling),
        "calling_block": token_of(event.block),
        "entity": event.entity,
        "trunk": event.trunk,
    }
    if isinstance(event, Call):
        more = {"kind": "call", "id": event.id, "called": token_of(event.called),
                "vouched": event.vouched, "consent": int(event.consented), "action": "allow",
                "ruleset": "gb@1"}  # fmt: skip
    elif isinstance(event, End):
        seconds = 3 if event.short else 60
        more = {"kind": "end", "answered": event.answered, "seconds": seconds}
    else:
        more = {"kind": "complaint"}
    return json.dumps({**more, **fields}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "fields",
    [{"attempt": 2}, {"emergency": True}, {"replay": True}, {"ruleset": "safeguard"}],
    ids=lambda fields: next(iter(fields)),
)
def test_what_counts_for_nobody(fields: dict[str, Any]) -> None:
    """A question asked again, an emergency, a replay."""
    call = json.loads(record_of(Call(1e9, "1", 5, 6, 7)))
    assert event_of(call) is not None
    assert event_of({**call, **fields}) is None


def test_a_log_is_followed_over_segments_and_restarts(tmp_path: Path) -> None:
    """Each record once, in order, whether segments are compressed meanwhile or not."""
    log = Log(tmp_path, limits=LogLimits(segment_bytes=4_000))
    follower = Follower(tmp_path)
    heard: list[str] = []

    def hear(reader: Follower) -> None:
        reader.more = True
        while reader.more:
            heard.extend(event.id for event in reader.read() if isinstance(event, Call))

    for number in range(120):
        log.append([record_of(Call(1e9 + number, str(number), 5, 6, 7))])
        if number % 7 == 0:
            hear(follower)
        if number == 60:
            for segment in log.uncompressed(log.segments()):
                compress(segment)
            hear(follower)
            follower.close()
            follower = Follower(tmp_path, after=follower.position)
    hear(follower)
    follower.close()
    log.close()
    assert len(segments(tmp_path)) > 3
    assert heard == [str(number) for number in range(120)]
    assert follower.missed == 0


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    opened = Record.open(str(tmp_path / "record.db"), keyring=keyring(tmp_path))
    yield opened
    opened.close()


def test_a_watch_that_is_killed_loses_no_warning_and_gives_none_twice(
    tmp_path: Path, record: Record
) -> None:
    """It goes on from what it had kept, hears again what came since, and says the same."""
    events, campaign = weeks("blast", level=1)
    assert campaign is not None
    log = Log(tmp_path / FOLDER)

    def watch() -> Watch:
        detector = Detector(limits=SMALL)
        return Watch(tmp_path, keyring(tmp_path), detector=detector, days=1e4, node="n",
                     tells=True, now=lambda: campaign.until + 60)  # fmt: skip

    def catch_up(running: Watch) -> None:
        while running.step(record.warnings):
            pass

    half = next(n for n, event in enumerate(events) if event.at > campaign.since)
    log.append([record_of(event) for event in events[:half]])
    first = watch()
    catch_up(first)
    first.keep()
    log.append([record_of(event) for event in events[half:] if event.at < campaign.until])
    catch_up(first)
    given = record.warnings.latest()
    assert [each.party for each in given if each.kind == NUMBER] == [
        token_of(next(iter(campaign.numbers)))
    ]
    first.follower.close()
    again = watch()
    assert 0 < again.follower.position < first.follower.position
    catch_up(again)
    assert again.follower.position == first.follower.position
    assert again.detector.calls == first.detector.calls
    assert [each.id for each in record.warnings.latest()] == [each.id for each in given]
    assert again.found == 0
    again.follower.close()
    log.close()
    assert record.warnings.waiting() == len(given)


# The list, and telling


def a_warning(number: int = 1, *, at: float = 1e9, next_at: float | None = 1e9) -> Warned:
    about = {"score": 16.0, "sure": 0.9, "hourly": 120.0, "expected_hourly": 4.0,
             "evidence": {"calls": 50.0}, "examples": ["A" * 26]}  # fmt: skip
    return Warned(f"W-{number:016x}", NUMBER, "a" * 16, at - 600, at, about, "", next=next_at)


def test_a_warning_is_judged_once_with_a_reason(record: Record) -> None:
    """Acknowledged, then dismissed, and kept in the audit."""
    assert record.warnings.keep(a_warning())
    assert not record.warnings.keep(a_warning())
    with pytest.raises(RecordError, match="reason"):
        record.warnings.decide(a_warning().id, "dismissed", reason=" ", actor="first")
    record.warnings.decide(a_warning().id, "acknowledged", reason="on it", actor="first")
    with pytest.raises(RecordConflict, match="acknowledged already"):
        record.warnings.decide(a_warning().id, "acknowledged", reason="again", actor="first")
    record.warnings.decide(a_warning().id, "dismissed", reason="a school", actor="second")
    assert [(e.state, e.reason, e.decided_by) for e in record.warnings.latest()] == [
        ("dismissed", "a school", "second")
    ]
    actions = [each.action for each in record.audit.latest()]
    assert actions == ["warning.dismissed", "warning.acknowledged"]


def test_what_waits_to_be_told_is_bounded(record: Record) -> None:
    """Of too many the oldest are given up, and stay in the list."""
    for number in range(6):
        record.warnings.keep(a_warning(number, at=1e9 + number))
    assert record.warnings.bound(4) == 2
    assert record.warnings.waiting() == 4
    assert len(record.warnings.latest()) == 6
    assert a_warning(0).id not in {each.id for each in record.warnings.due()}


class Receiver:
    """A webhook's server that refuses the first requests."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        answers = list(statuses)
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((dict(self.headers), body))
                self.send_response(answers.pop(0) if answers else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_webhook_that_fails_first_gets_each_warning_signed(
    tmp_path: Path, record: Record
) -> None:
    """After a refusal, a restart and a wait: the same id, a signature that holds."""
    receiver = Receiver(503)
    secret = b"a secret of the receiver"
    record.warnings.keep(a_warning(next_at=1e9))
    hook = Webhook(
        receiver.url, secret=secret, body=body_of, clock=lambda: 1e9 + 5, chance=lambda: 0.0
    )
    assert hook.tell(record.warnings) == 0
    assert (hook.failed, hook.failure) == (1, "status 503")
    later = record.warnings.latest()[0]
    assert (later.attempts, later.next) == (1, 1e9 + 6)
    record.close()

    opened = Record.open(str(tmp_path / "record.db"), keyring=keyring(tmp_path))
    hook = Webhook(receiver.url, secret=secret, body=body_of)
    assert hook.tell(opened.warnings) == 1
    assert hook.tell(opened.warnings) == 0
    assert opened.warnings.waiting() == 0
    opened.close()
    receiver.close()
    assert [sent["Idempotency-Key"] for sent, _ in receiver.requests] == [a_warning().id] * 2
    for sent, body in receiver.requests:
        at, _, digest = sent[SIGNATURE].partition(",v1=")
        signed = at.removeprefix("t=").encode() + b"." + body
        assert hmac.compare_digest(hmac.new(secret, signed, hashlib.sha256).hexdigest(), digest)
        assert json.loads(body)["id"] == a_warning().id


def test_pauses_grow_to_an_hour() -> None:
    """Each up to twice the last, never more."""
    assert [pause(n, 1.0) for n in (0, 1, 2, 30)] == [6.0, 11.0, 21.0, 3_601.0]
    assert pause(30, 0.0) == 1.0


def test_a_webhook_that_is_no_address() -> None:
    """Refused when it is made."""
    with pytest.raises(ValueError, match="no http or https URL"):
        Webhook("ftp://example.org", secret=b"x" * 16, body=body_of)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 12025550177])
def test_the_rule_of_a_warning_loads(tmp_path: Path, kind: str, number: int) -> None:
    """In a pack as it is shipped, in shadow, whatever a trunk is called."""
    key: int | str = 7 if kind in ("number", "block", "entity") else 'ic "1"\\ü'
    evidence = {"ended": 40.0, "answered": 12.0}
    finding = Finding(kind, key, 1e9, 1e9, 16.0, 0.9, 120.0, 4.0, evidence, ())
    packs = shutil.copytree(ROOT / "deploy" / "rules", tmp_path / "rules")
    text = rule(finding, "W-0123456789abcdef", number=number)
    assert tomllib.loads(text)["rule"][0]["mode"] == "shadow"
    with (packs / "gb" / "rules.toml").open("a") as file:
        file.write("\n" + text)
    load_packs(packs)


def test_beside_the_service(tmp_path: Path) -> None:
    """It runs where it is configured, is counted, and its warnings are listed and judged."""
    with running_service(tmp_path, watch="true") as service:
        wait_for(
            lambda: service.metric("screening_watch_up") == 1, seconds=20, what="the watch to run"
        )
        beside_the_service(service)


def beside_the_service(service: Running) -> None:
    with_record = Record.open(
        str(service.state / "record.db"),
        keyring=Keyring.load_or_create(service.state / "secrets.json"),
    )
    with_record.warnings.keep(a_warning(next_at=None))
    with_record.close()
    key = {"Authorization": f"Bearer {service.first_key}"}
    url = f"{service.url}/v1/warnings"
    assert httpx.get(url).status_code == 401
    listed = httpx.get(url, headers=key, params={"state": "open"}).json()["warnings"]
    assert [each["id"] for each in listed] == [a_warning().id]
    wait_for(
        lambda: service.metric("screening_watch_open", kind=NUMBER) == 1,
        seconds=10,
        what="the open warning to be counted",
    )
    judged = {"state": "acknowledged", "reason": "on it"}
    one = f"{url}/{a_warning().id}"
    assert httpx.post(one, headers=key, json=judged).json()["state"] == "acknowledged"
    assert httpx.post(one, headers=key, json=judged).status_code == 409
    unknown = httpx.post(f"{url}/W-none", headers=key, json=judged)
    assert unknown.status_code == 422
    assert "acknowledged" in service.cli("watch", "list").stdout
    service.cli("watch", "dismiss", a_warning().id, "--reason", "a school")
    assert httpx.get(url, headers=key).json()["warnings"][0]["state"] == "dismissed"
    refused = service.cli("watch", "run", "--once", check=False)
    assert "runs on" in refused.stderr
