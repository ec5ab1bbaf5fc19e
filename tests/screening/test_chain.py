"""The ledger from the command line: verified, its keys rotated, a subscriber erased."""

import json
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.consent.test_record_chain import fill, rewrite
from tests.running import Running, command, environment_of, running_service, wait_for

from consent.keyring import Keyring
from consent.record import Checkpoint, Record
from consent.signing import SigningKey
from screening.checkpoints import read_checkpoints, write_new

CALLED = "+12125550101"
CONSENTED = {
    "calling": "+12125550123",
    "called": CALLED,
    "attestation": "A",
    "verstat": "TN-Validation-Passed",
}


def url_of(record_url: str) -> str:
    return record_url if "://" in record_url else f"sqlite:///{record_url}"


def test_checkpoints_are_kept_elsewhere(tmp_path: Path, record_url: str) -> None:
    """A service signs and writes where the ledger has come to, whole at its end; what was cut or
    written anew since is found by the file alone, and exits 1."""
    elsewhere = tmp_path / "elsewhere" / "checkpoints"
    settings = {"database_url": url_of(record_url), "checkpoint_file": str(elsewhere)}
    with running_service(tmp_path / "state", "--sample", **settings) as service:
        wait_for(elsewhere.exists, seconds=10, what="a checkpoint")
        service.cli("consent", "revoke", "--called", CALLED, "--entity", "sample-loans")
        verified = service.cli("consent", "verify").stdout
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state" / "checkpoint.pem").stat().st_mode) == 0o600
    assert "whole: " in verified
    lines = elsewhere.read_text().splitlines()
    last = Checkpoint.parse(lines[-1])
    assert lines[-1] in service.log
    public = tmp_path / "public"
    public.write_text(service.cli("consent", "checkpoint-key").stdout)
    words = ("consent", "verify", "--checkpoints", str(elsewhere), "--public-key", str(public))
    assert f"whole: {last.sequence:,} events" in service.cli(*words).stdout

    keyring = Keyring.load_or_create(tmp_path / "state" / "secrets.json")
    with closing(Record.open(record_url, keyring=keyring)) as record:
        assert record.ledger.last_sequence() == last.sequence
        rewrite(record, altered=2)
    done = service.cli(*words, check=False)
    assert (done.returncode, "written anew at or before it" in done.stdout) == (1, True)
    cut(record_url, keyring)
    done = service.cli(*words, check=False)
    assert (done.returncode, "event 2: missing: the ledger was cut" in done.stdout) == (1, True)
    elsewhere.rename(tmp_path / "away")
    assert "whole: 1 events, 0 checkpoints" in service.cli("consent", "verify").stdout


def cut(record_url: str, keyring: Keyring) -> None:
    """What a forger does who wants the end forgotten."""
    record = Record.open(record_url, keyring=keyring)
    with record._database.write() as connection:
        connection.execute(sa.text("DELETE FROM event WHERE sequence > 1"))
        connection.execute(sa.text("DELETE FROM checkpoint"))
        connection.execute(sa.text("UPDATE counter SET value = 1 WHERE name = 'event'"))
    record.close()


def forged(path: Path) -> None:
    line = json.loads(path.read_text().splitlines()[-1])
    path.write_text(json.dumps(line | {"sequence": line["sequence"] + 1}) + "\n")


def of_others(path: Path) -> None:
    mark = Checkpoint.parse(path.read_text().splitlines()[-1])
    key = SigningKey.create(path.with_suffix(".pem"))
    path.write_text(Checkpoint.sign(mark.ledger, mark.sequence, mark.head, mark.at, key).line())


def emptied(path: Path) -> None:
    path.write_text("no checkpoint\n")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (forged, "is not signed by a trusted key"),
        (of_others, "is not signed by a trusted key"),
        (emptied, "has no checkpoint"),
    ],
)
def test_checkpoints_that_are_none(
    tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    """Whoever has no key makes none that is believed."""
    environment = environment_of(tmp_path / "state")
    file = written(tmp_path / "state", 3)
    change(file)
    done = command("consent", "verify", environment=environment, check=False)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())


def written(state: Path, count: int) -> Path:
    """A record with some events and a checkpoint, and the file that has it."""
    keyring = Keyring.load_or_create(state / "secrets.json")
    signer = SigningKey.load_or_create(state / "checkpoint.pem")
    with closing(Record.open(str(state / "record.db"), keyring=keyring, signer=signer)) as record:
        fill(record, count)
        record.ledger.checkpoint()
        write_new(record, state / "checkpoints.jsonl")
    return state / "checkpoints.jsonl"


def test_a_line_that_a_crash_broke_off(tmp_path: Path) -> None:
    """It stays as it is, and what follows is whole; nothing is written twice."""
    file = written(tmp_path, 2)
    written(tmp_path, 0)
    assert len(file.read_text().splitlines()) == 1
    with file.open("a") as broken:
        broken.write('{"ledger": "ab')
    written(tmp_path, 1)
    found = list(read_checkpoints(file))
    assert [each.sequence if each else None for _, each in found] == [2, None, 3]


def test_keys_rotate_while_calls_run(own_service: Running) -> None:
    """Neither calls nor writers notice, the chain holds, and a rotation that was broken off is
    gone on with before there is another key."""
    assert own_service.screen(**CONSENTED)["cause"] == "consented"
    assert "whole: " in own_service.cli("consent", "verify").stdout
    for purpose in ("token", "data"):
        done = own_service.cli("keys", "rotate", purpose).stdout
        assert f"{purpose} key version 2 writes from now on" in done
    assert "whole: " in own_service.cli("consent", "verify").stdout
    words = ("--called", CALLED, "--entity", "sample-loans")
    own_service.cli("consent", "revoke", *words)
    assert own_service.screen(**CONSENTED)["cause"] != "consented"
    path = own_service.state / "secrets.json"
    Keyring.rotate(path, "data")
    done = own_service.cli("keys", "rotate", "data").stdout
    assert "are left of a rotation that was broken off" in done
    assert Keyring.load_or_create(path).version("data") == 3
    own_service.cli("consent", "grant", *words)
    assert own_service.screen(**CONSENTED)["cause"] == "consented"
    wait_for(lambda: not own_service.ready()["failures"], seconds=10, what="no failure")


def test_a_subscriber_is_erased(own_service: Running) -> None:
    """Its facts are gone at once, nothing of it can be read again, and the chain holds."""
    assert own_service.screen(**CONSENTED)["cause"] == "consented"
    refused = own_service.cli("subscriber", "erase", CALLED, check=False)
    assert refused.returncode == 1
    assert own_service.screen(**CONSENTED)["cause"] == "consented"
    done = own_service.cli("subscriber", "erase", CALLED, "--yes").stdout
    assert "its facts are gone and its key is destroyed" in done
    assert own_service.screen(**CONSENTED)["cause"] != "consented"
    again = own_service.cli("subscriber", "erase", CALLED, "--yes", check=False)
    assert (again.returncode, "nothing is held" in again.stdout) == (1, True)
    assert "whole: " in own_service.cli("consent", "verify").stdout
    assert CALLED[1:] not in own_service.cli("audit").stdout
    keyring = Keyring.load_or_create(own_service.state / "secrets.json")
    with closing(Record.open(str(own_service.state / "record.db"), keyring=keyring)) as record:
        assert record.ledger.erasures_waiting() == 0
        assert int(CALLED) not in {each.called for each in record.ledger.events()}
