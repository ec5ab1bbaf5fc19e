"""The decision record: what is kept of a call, how it is verified, what it costs nobody."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.running import ROOT, Running, running_service, wait_for

from consent.conduct import NAMES
from consent.keyring import Keyring
from consent.record.chain import Checkpoint
from consent.signing import SigningKey
from rules.verdict import Action, Cause, Verdict
from screening.recording.decision import COLUMNS, Tokens
from screening.recording.export import export
from screening.recording.intake import Recorder
from screening.recording.outbox import OWN, SHARED, SOCKET, Outbox
from screening.recording.reader import DecisionLog
from screening.recording.segments import (
    FOLDER,
    Limits,
    Log,
    LogError,
    checkpoints,
    compress,
    first_flaw,
    segments,
)
from screening.recording.writer import Writer
from screening.screener import Decision, Question

SMALL = Limits(segment_bytes=2_000, most_bytes=1 << 30)


def call(number: int) -> bytes:
    record = {"kind": "call", "instant": 1e9 + number, "id": f"ID{number}"}
    return json.dumps(record, separators=(",", ":")).encode()


def written(folder: Path, count: int, *, limits: Limits = SMALL, start: int = 0) -> None:
    log = Log(folder, limits=limits)
    for number in range(start, start + count):
        log.append([call(number)])
    log.close()


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new, 1))


def swap(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    path.write_bytes(b"".join(lines))


def drop(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[3]
    path.write_bytes(b"".join(lines))


# The chain on disk


def test_a_log_that_nobody_touched_holds(tmp_path: Path) -> None:
    """Over several segments, compressed and not, and over several starts."""
    written(tmp_path, 60)
    for segment in segments(tmp_path)[:-2]:
        compress(segment)
    written(tmp_path, 10, start=60)
    there = segments(tmp_path)
    assert len(there) > 4
    assert [each.closed for each in there].count(True) > 1
    assert first_flaw(tmp_path, []) is None
    found = [line for each in there for line in each.lines() if b'"kind":"call"' in line]
    assert len(found) == 70


@pytest.mark.parametrize(
    ("damage", "at", "what"),
    [
        pytest.param(lambda p: rewrite(p, b'"ID2"', b'"ID9"'), 4, "altered", id="altered"),
        pytest.param(lambda p: rewrite(p, b'"n":4,', b'"n":44,'), 4, "missing", id="renumbered"),
        pytest.param(lambda p: rewrite(p, b'{"n":4,', b'{"m":4,'), 4, "altered", id="no record"),
        pytest.param(drop, 4, "missing, the next one there is 5", id="missing"),
        pytest.param(swap, 4, "out of order: it stands after 5", id="moved"),
        pytest.param(lambda p: rewrite(p, b'"log":"', b'"log":"0'), 1, "altered", id="its name"),
        pytest.param(lambda p: rewrite(p, b'"kept_from":1', b'"kept_from":2'), 1, "altered",
                     id="its beginning"),
        pytest.param(lambda p: p.unlink(), 1, "missing", id="first segment"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_the_first_flaw_is_found(
    tmp_path: Path, damage: object, at: int, what: str, closed: bool
) -> None:
    """Whatever was done to a log, the place where it was first done to is told."""
    written(tmp_path, 30)
    damage(segments(tmp_path)[0].path)  # type: ignore[operator]
    if closed:
        for segment in segments(tmp_path):
            compress(segment)
    flaw = first_flaw(tmp_path, [])
    assert flaw is not None
    assert (flaw.sequence, what) == (at, flaw.what[: len(what)])


def test_a_segment_taken_out_of_the_middle_is_missed(tmp_path: Path) -> None:
    """Between two others."""
    written(tmp_path, 40)
    there = segments(tmp_path)
    there[1].path.unlink()
    flaw = first_flaw(tmp_path, [])
    assert flaw is not None
    assert flaw.sequence == there[1].first


def test_a_checkpoint_shows_a_tail_that_was_cut_and_a_chain_written_anew(tmp_path: Path) -> None:
    """What whoever made the chain from there to its end could else hide."""
    key = SigningKey.create(tmp_path / "key.pem")
    log = Log(tmp_path / "log", limits=SMALL, key=key)
    log.append([call(1), call(2)])
    log.close()
    marks = checkpoints(tmp_path / "log")
    assert [mark.sequence for mark in marks] == [3]
    assert first_flaw(tmp_path / "log", marks) is None

    path = segments(tmp_path / "log")[0].path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    flaw = first_flaw(tmp_path / "log", marks)
    assert flaw is not None
    assert (flaw.sequence, "missing" in flaw.what) == (3, True)

    again = Log(tmp_path / "log", limits=SMALL)  # cut, and gone on: another record 3
    again.append([call(3)])
    again.close()
    assert first_flaw(tmp_path / "log", []) is None
    flaw = first_flaw(tmp_path / "log", marks)
    assert flaw is not None
    assert "written anew" in flaw.what


def test_checkpoints_of_another_log_do_not_hold(tmp_path: Path) -> None:
    """The name of the log is part of what is signed."""
    key = SigningKey.create(tmp_path / "key.pem")
    written(tmp_path / "log", 5)
    mark = Checkpoint.sign("00" * 16, 2, b"", 0.0, key)
    flaw = first_flaw(tmp_path / "log", [mark])
    assert flaw is not None
    assert "another" in flaw.what


@pytest.mark.parametrize("torn", [b'{"n":12,"kind":"ca', b"\0" * 500, b"\0" * 40 + b"\n"])
def test_a_crash_costs_what_it_tore_and_no_more(tmp_path: Path, torn: bytes) -> None:
    """A line half written, or blocks that never came to disk, are cut; the chain goes on."""
    log = Log(tmp_path)
    log.append([call(number) for number in range(10)])
    assert log._file is not None
    log._file.close()  # as a killed process leaves it
    os.close(log._lock)
    path = segments(tmp_path)[-1].path
    with path.open("ab") as file:
        file.write(torn)
    written(tmp_path, 5, start=10)
    assert first_flaw(tmp_path, []) is None
    openings = [json.loads(next(each.lines())) for each in segments(tmp_path)]
    assert [each["cut_bytes"] for each in openings] == [0, len(torn)]
    assert len([1 for each in segments(tmp_path) for line in each.lines() if b'"ID' in line]) == 15


def test_two_processes_do_not_write_one_log(tmp_path: Path) -> None:
    """The second one is refused."""
    log = Log(tmp_path)
    with pytest.raises(LogError, match="another process"):
        Log(tmp_path)
    log.close()
    Log(tmp_path).close()


class Clock:
    """Epoch seconds, set by hand."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@pytest.mark.parametrize("by", ["size", "age"])
def test_whole_segments_go_and_the_rest_still_holds(tmp_path: Path, by: str) -> None:
    """The oldest first, by size and by age; that one was taken out by hand is told from it."""
    limits = Limits(
        segment_bytes=2_000,
        most_bytes=10_000 if by == "size" else 1 << 30,
        most_seconds=1e9 if by == "size" else 3600.0,
    )
    clock = Clock(tmp_path.stat().st_mtime)
    log = Log(tmp_path, limits=limits, clock=clock)
    for number in range(100):
        log.append([call(number)])
    if by == "age":
        clock.at += 7200
        log.append([call(100)])
    log.close()
    there = segments(tmp_path)
    assert there[0].first > 1
    assert sum(each.size for each in there) <= (10_000 if by == "size" else 5_000)
    assert first_flaw(tmp_path, []) is None
    if by == "size":
        there[0].path.unlink()
        flaw = first_flaw(tmp_path, [])
        assert flaw is not None
        assert flaw.sequence == there[0].first


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0])
def test_a_clock_that_steps_ends_a_segment_and_loses_nothing(tmp_path: Path, step: float) -> None:
    """Back or forth by a day."""
    clock = Clock(tmp_path.stat().st_mtime)
    log = Log(tmp_path, clock=clock)
    log.append([call(1)])
    clock.at += step
    log.append([call(2)])
    log.close()
    assert len(segments(tmp_path)) == 2
    assert first_flaw(tmp_path, []) is None


def test_what_could_not_be_written_is_named_in_the_log(tmp_path: Path) -> None:
    """A queue that is full drops with a count; the record after it tells how many."""
    log = Log(tmp_path)
    writer = Writer(log, most_bytes=200)
    writer.put([call(1)])
    writer.put([call(2)] * 10)
    writer.lose("outbox", 5)
    writer.start()
    writer.put([call(3)])
    writer.stop()
    lines = [json.loads(line) for line in segments(tmp_path)[0].lines()]
    gaps = [line["lost"] for line in lines if line["kind"] == "gap"]
    assert gaps == [{"behind": 10, "outbox": 5}]
    assert [line["id"] for line in lines if line["kind"] == "call"] == ["ID1", "ID3"]
    assert writer.lost == {"behind": 10, "outbox": 5}


# A worker's way to it


def asked(call_id: str = "c") -> tuple[Question, Decision]:
    question = Question()
    question.call.call_id = call_id
    verdict = Verdict(Action.ALLOW, Cause.DEFAULT, "default", "x@1")
    return question, Decision(verdict, None, "0" * 26)


def test_a_recorder_that_does_not_read_costs_records_and_no_time(tmp_path: Path) -> None:
    """The buffer is bounded, what does not fit is counted, and the count arrives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen(1)
        received = asyncio.run(_overrun(tmp_path, listener))
    assert sum(batch["lost"] for batch in received) == 500
    calls = [each for batch in received for each in batch["calls"]]
    assert len(calls) == 2_001
    assert calls[-1][2] == "after"


async def _overrun(folder: Path, listener: socket.socket) -> list[dict[str, Any]]:
    outbox = Outbox(folder, instance="test", most_waiting=2_000, every_seconds=0.001)
    for _ in range(2_500):
        outbox.observe(*asked("x" * 100), 0.001, "http")
    assert outbox.dropped == {"full": 500}
    received: list[dict[str, Any]] = []
    link: socket.socket | None = None
    while sum(len(batch["calls"]) for batch in received) < 2_000:
        await asyncio.sleep(0.005)
        if link is None:
            link, _ = await asyncio.to_thread(listener.accept)
            link.settimeout(5)
        received.append(json.loads(await asyncio.to_thread(link.recv, 1 << 20)))
    outbox.observe(*asked("after"), 0.001, "http")
    outbox.close()
    assert link is not None
    with link:
        while message := await asyncio.to_thread(link.recv, 1 << 20):
            received.append(json.loads(message))
    return received


@pytest.mark.parametrize("hostile", ["\ud800", "y" * 60_000], ids=["no Unicode", "long"])
async def test_a_hostile_text_does_not_cost_other_calls_the_record(
    tmp_path: Path, hostile: str
) -> None:
    """What cannot be written of it is cut or replaced; its neighbours are whole."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen(1)
        outbox = Outbox(tmp_path, instance="test")
        for text in ("before", *[hostile] * 50, "after"):
            outbox.observe(*asked(text), 0.001, "http")
        outbox.close()
        link, _ = listener.accept()
        with link:
            batch = json.loads(link.recv(1 << 20))
    assert outbox.dropped.total() == 0
    assert [batch["calls"][0][2], batch["calls"][-1][2]] == ["before", "after"]
    assert len(batch["calls"]) == 52


# What the recorder makes of it

EMPTY = dict.fromkeys(OWN + SHARED, "") | {
    "id": "ID1", "at": 1e9, "calling": 0, "called": 0, "diverted_from": 0, "decided_s": 2e-4,
    "facts_s": None, "consent": 0, "signals": None, "verdict": 0, "lists": 0, "entity": 0,
    "vouched": False, "emergency": False, "replay": False,
}  # fmt: skip


def test_a_batch_becomes_records(tmp_path: Path) -> None:
    """Tokens for numbers, what is not empty and nothing else, and a repeated call as such."""
    keyring = Keyring.load_or_create(tmp_path / "secrets.json")
    recorder = Recorder(tmp_path, keyring, Log(tmp_path / FOLDER))
    calling, called = 441632960001, 441632960123
    full = {
        "call_id": "c-1", "calling": calling, "called": called, "diverted_from": called,
        "facts_s": 0.0, "consent": 7, "signals": [3, *[0] * (len(NAMES) - 1)], "verdict": 1,
        "lists": 1, "trunk": 'ic"7', "entity": 5, "vouched": True, "zone": "Europe/London",
    }  # fmt: skip
    batch = {
        "instance": "n/0", "rules": "f00d", "lost": 0, "told": [], "lists": [[], [["L", 4]]],
        "verdicts": [{"action": "allow", "cause": "default", "ruleset": "x@1", "sip": 0},
                     {"action": "block", "cause": "time_band", "ruleset": "x@1", "sip": 603}],
        "calls": [list((EMPTY | each).values()) for each in ({}, full, full)],
    }  # fmt: skip
    for _ in range(2):
        recorder.take(json.dumps(batch).encode())
    recorder.writer.start()
    recorder.writer.stop()
    lines = [json.loads(line) for each in segments(tmp_path / FOLDER) for line in each.lines()]
    plain, *asked_again = [line for line in lines if line["kind"] == "call"][:3]
    del plain["hash"], asked_again[0]["hash"]
    shared = {"kind": "call", "instant": 1e9, "id": "ID1", "decided_us": 200, "instance": "n/0",
              "rules": "f00d", "ruleset": "x@1", "token_key": 1}  # fmt: skip
    assert plain == shared | {"n": 2, "action": "allow", "cause": "default"}
    assert asked_again[0] == shared | {
        "n": 3, "calling": keyring.token(calling), "calling_block": keyring.token(calling // 1000),
        "called": keyring.token(called), "diverted_from": keyring.token(called), "consent": 7,
        "neighbour": True, "call_key": Tokens(keyring).call_key("c-1"), "signals": {NAMES[0]: 3},
        "facts_us": 0, "local_times": asked_again[1]["local_times"], "trunk": 'ic"7', "entity": 5,
        "vouched": True, "zone": "Europe/London", "action": "block", "cause": "time_band",
        "sip": 603, "lists": [{"name": "L", "generation": 4, "age_s": 0}],
    }  # fmt: skip
    assert [each["attempt"] for each in asked_again[1:]] == [2]
    assert len(asked_again[1]["local_times"]) == 1
    assert (recorder.calls, recorder.repeats, recorder.counting.counted) == (6, 3, 3)


# With a service


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose client may assert a trunk and ask for another instant."""
    state = tmp_path_factory.mktemp("recorded") / "state"
    state.mkdir()
    (state / "clients.toml").write_text(
        '[switch]\nkeys = ["first"]\nasserts = ["trunk"]\nmay = ["at"]\n'
    )
    with running_service(state, "--sample") as running:
        wait_for(lambda: recorder_of(running), seconds=20, what="the recorder")
        yield running


def recorder_of(running: Running) -> int:
    """The recorder's process id, 0 while none runs."""
    try:
        pid = int(json.loads((running.state / "recorder.json").read_text())["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return 0
    return pid


def decisions(running: Running, *, of: str) -> list[dict[str, object]]:
    return DecisionLog(running.state).find(of)


def kept(running: Running, decision_id: object, *, attempts: int = 1) -> dict[str, object]:
    """The record of a decision, once it is there."""
    wait_for(
        lambda: len(decisions(running, of=str(decision_id))) == attempts,
        seconds=10,
        what="the record",
    )
    return decisions(running, of=str(decision_id))[-1]


BLOCKED = {"calling": "+447700900123", "called": "+12025550143"}


def test_a_record_holds_what_the_decision_was_made_of(recorded: Running) -> None:
    """Every field of the table, tokens for numbers, and no number anywhere."""
    answer = recorded.screen(
        calling="+441632960001", called="+12025550143", call_id="r-1", trunk="ic-7",
        attestation="A", verstat="TN-Validation-Passed", purpose="loans",
    )  # fmt: skip
    record = kept(recorded, answer["decision_id"])
    assert record.keys() >= {each.name for each in COLUMNS} - {"signals"}
    keyring = Keyring.load_or_create(recorded.state / "secrets.json")
    assert record["calling"] == keyring.token(441632960001)
    assert record["called"] == keyring.token(12025550143)
    same = ("action", "cause", "rule", "ruleset", "degraded")
    assert {name: record[name] for name in same} == {name: answer[name] for name in same}
    assert (record["trunk"], record["attestation"], record["attempt"]) == ("ic-7", "A", 1)
    assert record["calling_country"] == "GB"
    text = b"".join(line for each in segments(recorded.state / FOLDER) for line in each.lines())
    for number in (b"441632960001", b"12025550143", b"r-1"):
        assert number not in text


def test_a_call_asked_again_is_recorded_as_another_attempt(recorded: Running) -> None:
    """The same id; the recorder killed in between does not forget it."""
    first = recorded.screen(**BLOCKED, call_id="again")
    kept(recorded, first["decision_id"])
    pid = recorder_of(recorded)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: recorder_of(recorded) not in (0, pid), seconds=20, what="another recorder")
    second = recorded.screen(**BLOCKED, call_id="again")
    assert first["decision_id"] == second["decision_id"]
    assert kept(recorded, second["decision_id"], attempts=2)["attempt"] == 2
    assert recorded.cli("log", "verify").returncode == 0
    assert recorded.metric("screening_recorder_up") == 1


def test_a_replay_is_marked(recorded: Running) -> None:
    """It was decided for another instant than its own."""
    answer = recorded.screen(**BLOCKED, call_id="replayed", at="2026-01-01T12:00:00Z")
    record = kept(recorded, answer["decision_id"])
    assert (record["replay"], record["instant"]) == (True, 1767268800)


def test_a_recorder_that_hangs_holds_up_no_call(recorded: Running) -> None:
    """Its calls wait, are answered meanwhile, and are recorded when it goes on."""
    pid = recorder_of(recorded)
    os.kill(pid, signal.SIGSTOP)
    try:
        answers = [recorded.screen(**BLOCKED, call_id=f"hang-{n}") for n in range(20)]
    finally:
        os.kill(pid, signal.SIGCONT)
    kept(recorded, answers[-1]["decision_id"])
    assert not recorded.metric("screening_record_dropped_total")


def test_a_full_disk_costs_records_and_no_call(recorded: Running) -> None:
    """What is lost is counted, shown, and named in the log once it can be written again."""
    kept(recorded, recorded.screen(**BLOCKED, call_id="fits")["decision_id"])
    before = recorded.metric("screening_recorder_lost_total", reason="disk")
    size = segments(recorded.state / FOLDER)[-1].size
    limit, recorder = resource.RLIMIT_FSIZE, recorder_of(recorded)
    unlimited = resource.prlimit(recorder, limit)
    resource.prlimit(recorder, limit, (size + 10, unlimited[1]))
    try:
        for n in range(5):
            assert recorded.screen(**BLOCKED, call_id=f"full-{n}")["action"]
        wait_for(
            lambda: recorded.metric("screening_recorder_lost_total", reason="disk") == before + 5,
            seconds=10,
            what="the count of what is lost",
        )
        assert recorded.metric("screening_recorder_failed") == 1
    finally:
        resource.prlimit(recorder, limit, unlimited)
    kept(recorded, recorded.screen(**BLOCKED, call_id="fits again")["decision_id"])
    lines = [
        json.loads(line) for each in segments(recorded.state / FOLDER) for line in each.lines()
    ]
    assert {"disk": 5} in [line["lost"] for line in lines if line["kind"] == "gap"]
    wait_for(lambda: recorded.metric("screening_recorder_failed") == 0, seconds=10, what="recovery")
    assert "record" in recorded.cli("log", "verify").stdout


def test_commands_find_export_and_verify(recorded: Running, tmp_path: Path) -> None:
    """By id, by number for who holds the keys and says why; Parquet; the first flaw."""
    import duckdb

    answer = recorded.screen(calling="+447700900321", called="+12025550199", call_id="find-me")
    kept(recorded, answer["decision_id"])
    by_id = recorded.cli("log", "find", str(answer["decision_id"]), "--json").stdout
    recorded.cli("keys", "rotate", "token", check=False)
    refused = recorded.cli("log", "find", "+447700900321", check=False)
    assert "--reason" in refused.stderr
    by_number = recorded.cli("log", "find", "+447700900321", "--reason", "appeal", "--json").stdout
    assert json.loads(by_id)["id"] == json.loads(by_number)["id"] == answer["decision_id"]
    assert "log.find" in recorded.cli("audit").stdout
    assert str(answer["decision_id"]) in recorded.cli("log", "tail", "-n", "3").stdout

    out = tmp_path / "decisions.parquet"
    assert str(out) in recorded.cli("log", "export", str(out)).stdout
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT action, called_country FROM read_parquet(?) WHERE id = ?",
            [str(out), answer["decision_id"]],
        ).fetchall()
    assert found == [(answer["action"], "US")]

    page = (ROOT / "docs" / "records.md").read_text("utf-8")
    queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with duckdb.connect() as connection:
        for query in queries:
            named = query.replace("decisions.parquet", str(out))
            assert connection.execute(named).description
    assert len(queries) > 4
    table = page.split("| field | meaning |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| ", table, re.MULTILINE) == [each.name for each in COLUMNS]

    key = SigningKey.create(tmp_path / "key.pem")
    (tmp_path / "trusted").write_text(key.line() + "\n")
    line = recorded.cli("log", "checkpoint", "--key", str(tmp_path / "key.pem")).stdout
    (tmp_path / "marks").write_text(line)
    trusted = ("--keys", str(tmp_path / "trusted"), "--checkpoints", str(tmp_path / "marks"))
    assert "hold" in recorded.cli("log", "verify", *trusted).stdout

    copy = tmp_path / "copy"
    copy.mkdir()
    for each in segments(recorded.state / FOLDER):
        (copy / each.path.name).write_bytes(each.path.read_bytes())
    last = segments(copy)[-1].path
    rewrite(last, str(answer["decision_id"]).encode(), b"0" * 26)
    broken = recorded.cli("log", "verify", str(copy), check=False)
    assert (broken.returncode, "altered" in broken.stdout) == (1, True)


def test_an_export_of_nothing_says_so(tmp_path: Path) -> None:
    """No file is left."""
    with pytest.raises(LogError, match="no decisions"):
        export(tmp_path, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
