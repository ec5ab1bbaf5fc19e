"""Notices on their way to callers: once each, signed, again after a failure, by a real receiver."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.running import running_service, wait_for
from tests.screening.test_ladder_numbers import CALLER, NUMBER, Told
from tests.screening.test_watch import Receiver

from consent.entity import Party
from consent.event import Event, EventKind
from consent.record import Notice, Record, RecordError
from consent.record.notices import LEASE_SECONDS
from screening.notices import body_of
from screening.settings import Settings
from screening.state import open_files
from screening.webhook import GIVE_UP_SECONDS, SIGNATURE, Webhook

SECRET = b"a secret of the receiver"


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with open_files(Settings(state_dir=tmp_path / "state")) as state:
        yield Told(state)


@pytest.fixture
def receiving() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def receiver(*statuses: int) -> Receiver:
        made.append(Receiver(*statuses))
        return made[-1]

    yield receiver
    for each in made:
        each.close()


def hook(receiver: Receiver, record: Record, *, at: float) -> Webhook[Notice]:
    return Webhook(
        receiver.url,
        secret=SECRET,
        body=lambda each: body_of(each, record),
        clock=lambda: at,
        chance=lambda: 0.0,
    )


def states(told: Told) -> list[str]:
    steps = [each.sequence for each in told.record.steps.all() if each.notice]
    return [each.state for each in told.record.notices.of(steps)]


def test_delivered_once(told: Told, receiving: Callable[..., Receiver]) -> None:
    """Each step's notice, signed, in its languages; the number of a caller that is one is told to
    who delivers it."""
    told.climb()
    assert states(told) == ["pending", "pending"]
    receiver = receiving()
    now = time.time()
    assert hook(receiver, told.record, at=now).tell(told.record.notices) == 2
    assert hook(receiver, told.record, at=now).tell(told.record.notices) == 0
    assert states(told) == ["delivered", "delivered"]
    (sent, body), _ = receiver.requests
    at, _, digest = sent[SIGNATURE].partition(",v1=")
    signed = at.removeprefix("t=").encode() + b"." + body
    assert hmac.compare_digest(hmac.new(SECRET, signed, hashlib.sha256).hexdigest(), digest)
    said = json.loads(body)
    first = told.record.steps.of(NUMBER)[0]
    assert sent["Idempotency-Key"] == f"{first.reference}.1"
    assert (said["reference"], said["stage"]) == (first.reference, "notice")
    assert said["number"] == f"+{CALLER}"
    assert said["text"].keys() == {"hi", "en"}
    assert f"Appeal: {first.reference}" in said["text"]["en"]


def test_refused_at_first(told: Told, receiving: Callable[..., Receiver]) -> None:
    """It is tried again after a pause, under the same key; after days it is a person's matter, who
    can have it sent again under another."""
    told.complain()
    told.conduct.look()
    receiver, notices = receiving(503, 503, 500), told.record.notices
    now = time.time()
    refused = hook(receiver, told.record, at=now)
    assert refused.tell(notices) == 0
    (sequence,) = [each.sequence for each in told.record.steps.all()]
    (waits,) = notices.of([sequence])
    assert (waits.state, waits.attempts, waits.failure) == ("pending", 1, "status 503")
    assert waits.next == pytest.approx(now + 1, abs=1e-5)
    assert refused.tell(notices) == 0
    assert len(receiver.requests) == 1

    wait_for(lambda: notices.of([sequence])[0].next < time.time(), seconds=5, what="the pause")
    late = hook(receiver, told.record, at=now + GIVE_UP_SECONDS + 10)
    late.tell(notices)
    assert late.given_up == 1
    assert states(told) == ["failed"]
    assert notices.due() == []

    again = notices.resend(sequence, actor="test")
    assert (again.state, again.attempts) == ("pending", 0)
    third = hook(receiver, told.record, at=time.time())
    assert third.tell(notices) == 0
    wait_for(lambda: notices.of([sequence])[0].next < time.time(), seconds=5, what="the pause")
    assert third.tell(notices) == 1
    assert states(told) == ["delivered"]
    keys = [sent["Idempotency-Key"] for sent, _ in receiver.requests]
    assert keys == [f"US-{sequence}.1"] * 2 + [f"US-{sequence}.2"] * 2
    with pytest.raises(RecordError, match="no notice"):
        notices.resend(sequence + 1, actor="test")


def test_one_of_two_who_tell(told: Told) -> None:
    """What one has taken up the other does not, and it is due again if the one has died."""
    told.complain()
    told.conduct.look()
    assert len(told.record.notices.due()) == 1
    assert told.record.notices.due() == []
    (step,) = told.record.steps.all()
    (taken,) = told.record.notices.of([step.sequence])
    assert taken.next is not None
    assert taken.next > time.time()
    later = Record.open(
        str(told.state.folder / "record.db"),
        keyring=told.state.keyring,
        clock=lambda: time.time() + LEASE_SECONDS + 1,
    )
    # Whether its receiver had it before the one died nobody knows: the same key says it twice.
    assert [each.key for each in later.notices.due()] == [taken.key]
    later.close()


def test_withdrawn(told: Told, receiving: Callable[..., Receiver]) -> None:
    """Nobody is told of a step that is undone, and nobody of what an earlier subscriber did."""
    told.climb()
    first = told.record.steps.of(NUMBER)[0].sequence
    told.conduct.reverse(first, reason="A test", actor="test")
    assert states(told) == ["withdrawn", "withdrawn"]
    told.climb()
    told.record.ledger.append([Event(0, told.now, EventKind.ERASED, CALLER, {})], actor="test")
    told.record.ledger.finish_erasures(told.record.ledger.last_sequence())
    receiver = receiving()
    assert hook(receiver, told.record, at=time.time()).tell(told.record.notices) == 0
    assert receiver.requests == []
    assert told.record.notices.counts() == {"withdrawn": 4}


def test_the_service_delivers(tmp_path: Path, receiving: Callable[..., Receiver]) -> None:
    """One worker of the node tells the receiver; metrics and the command say what became of it."""
    receiver = receiving(503)
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    folder = tmp_path / "state"
    with open_files(Settings(state_dir=folder)) as state:
        told = Told(state)
        homes = told.record.entities.put("homes", title="Homes", categories=[], actor="test")
        told.complain(entity=homes.id)
        (step,) = told.conduct.look()
    assert step.party == Party(homes.id)
    given = {"notice_webhook": receiver.url, "notice_secret": str(secret)}
    with running_service(folder, **given) as service:
        wait_for(
            lambda: service.metric("screening_notices", state="delivered") == 1,
            seconds=60,
            what="the notice to be delivered",
        )
        assert f"{step.reference} delivered, 2 tries" in service.cli("ladder", "notices").stdout
        service.cli("ladder", "resend", str(step.sequence))
        wait_for(lambda: len(receiver.requests) == 3, seconds=30, what="it to be sent again")
    said = json.loads(receiver.requests[-1][1])
    assert (said["entity"], said["title"], said["number"]) == ("homes", "Homes", "")
    keys = [sent["Idempotency-Key"].rpartition(".")[2] for sent, _ in receiver.requests]
    assert keys == ["1", "1", "2"]
