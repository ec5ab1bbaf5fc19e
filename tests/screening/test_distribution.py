"""Rule sets reach every node, or the node stays on the last good one and says so."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import server_program
from tests.running import ROOT, Running, command, environment_of, running_service, wait_for
from tests.servers import IndexServer
from typer.testing import CliRunner

from consent.keyring import Keyring
from consent.record import FOLDER, Record
from consent.signing import SigningKey, TrustedKeys
from rules import bundle
from rules.loading import read_folder
from screening import distribution
from screening.cli import app
from screening.distribution import BOUND_SECONDS

pytestmark = pytest.mark.timely

CANADA = {"calling": "+14165550101", "called": "+14165550102"}
SHOWN = 12


class Rules:
    """Rule sets under names of their own, each a folder of the shipped packs with a revision."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, revision: str, *, edit: Callable[[str], str] = str) -> Path:
        """The packs with this revision of `default`, and another change if one is given."""
        packs = Path(shutil.copytree(ROOT / "deploy" / "rules", self._folder / revision))
        file = packs / "default" / "rules.toml"
        lines = [
            f'revision = "{revision}"' if line.startswith("revision") else line
            for line in file.read_text().splitlines()
        ]
        file.write_text(edit("\n".join(lines) + "\n"))
        return packs

    def content(self, revision: str) -> bytes:
        """The bundle of them."""
        return bundle.pack(read_folder(self.folder(revision)))


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    return Rules(tmp_path)


@contextlib.contextmanager
def opened(running: Running) -> Iterator[Record]:
    """The record of a service, as whoever has its database can use it."""
    state = running.state
    url = running.environment.get("SCREENING_DATABASE_URL", str(state / "record.db"))
    record = Record.open(url, keyring=Keyring.load_or_create(state / "secrets.json"))
    yield record
    record.close()


def keep(running: Running, folder: Path, *, key: Path | None = None) -> str:
    """The digest of a folder, kept from a machine that asks for no signature."""
    with opened(running) as record:
        kept, _ = distribution.push(
            record,
            read_folder(folder),
            trusted=TrustedKeys(),
            key=SigningKey.load(key) if key else None,
            actor="test",
        )
    return kept.digest


def put_in_force(running: Running, digest: str) -> None:
    """Activate without a check and without telling anybody."""
    with opened(running) as record:
        record.rulebook.activate(digest, actor="test")


def said_to_be_kept(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.partition("kept as ")[2][:SHOWN]


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    """The command ended with 1 and said why."""
    assert (done.returncode, words in done.stderr) == (1, True), done.stdout + done.stderr


def ruleset(running: Running) -> object:
    return running.screen(**CANADA)["ruleset"]


def runs(revision: str, *nodes: Running, seconds: float = 30) -> None:
    """Wait until every node answers with this revision of the default pack."""
    for node in nodes:
        wait_for(
            lambda node=node: ruleset(node) == f"default@{revision}",  # type: ignore[misc]
            seconds=seconds,
            what=f"{revision} in force",
        )


def failure(running: Running) -> str:
    failures = running.ready()["failures"]
    assert isinstance(failures, dict)
    return str(failures.get("rules", ""))


def refuses(running: Running, words: str) -> None:
    """Wait until the node says that it does not run what is active, and why."""
    wait_for(lambda: words in failure(running), seconds=30, what=f"a refusal with {words!r}")
    assert running.metric("screening_rules_revision_mismatch") == 1
    assert running.metric("screening_reload_failed", kind="rules") == 1


def agrees(running: Running) -> None:
    """Wait until the node runs what is active."""
    wait_for(lambda: not failure(running), seconds=30, what="no failure")
    assert running.metric("screening_rules_revision_mismatch") == 0


@pytest.fixture(scope="module")
def index_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    server = IndexServer(server_program("valkey"), tmp_path_factory.mktemp("index"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def nodes(
    index_server: IndexServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, Running]]:
    """Two nodes with state folders of their own over one record and one index server."""
    folder = tmp_path_factory.mktemp("nodes")
    shared = {
        "redis_url": index_server.url,
        "database_url": f"sqlite:///{folder / 'record.db'}",
        "watch_interval_ms": "500",
    }
    with contextlib.ExitStack() as running:
        one = running.enter_context(running_service(folder / "one", **shared))
        shutil.copy(folder / "one" / "secrets.json", folder / "secrets.json")
        (folder / "two").mkdir()
        shutil.copy(folder / "secrets.json", folder / "two" / "secrets.json")
        two = running.enter_context(running_service(folder / "two", **shared))
        yield one, two


def test_pushed_activated_rolled_back(nodes: tuple[Running, Running], rules: Rules) -> None:
    """From the command line of one node, in force on both, measured by each."""
    one, two = nodes
    before = ruleset(one)
    counts = [node.metric("screening_rules_activation_seconds_count") for node in nodes]
    first, second = (
        said_to_be_kept(one.cli("rules", "push", str(rules.folder(name))))
        for name in ("two.1", "two.2")
    )
    assert [ruleset(node) for node in nodes] == [before, before]

    said = one.cli("rules", "activate", first, "--reason", "a trial").stdout
    assert "in force in 2 of 2 workers" in said
    runs("two.1", one, two, seconds=BOUND_SECONDS)
    two.cli("rules", "activate", second)
    runs("two.2", one, two, seconds=BOUND_SECONDS)
    for node, count in zip(nodes, counts, strict=True):
        assert node.metric("screening_rules_activation_seconds_count") == count + 2
        assert node.metric("screening_rules_revision_info") == 1
        about = node.ready()["revision"]
        assert isinstance(about, dict)
        assert (about["source"], about["digest"][:SHOWN]) == ("record", second)

    said = two.cli("rules", "rollback", "--reason", "no good").stdout
    assert f"left {second}, back to {first}" in said
    runs("two.1", one, two, seconds=BOUND_SECONDS)
    said = one.cli("rules", "list").stdout
    for words in (first, second, "a trial", "no good", "is not used", "default@two.2", "cli:"):
        assert words in said
    one.cli("rules", "rollback")
    wait_for(lambda: ruleset(two) == before, seconds=BOUND_SECONDS, what="what was before")


def test_the_record_alone_is_enough(
    nodes: tuple[Running, Running], rules: Rules, index_server: IndexServer
) -> None:
    """With the index server frozen nobody hears an announcement, and both nodes follow."""
    one, two = nodes
    digest = keep(one, rules.folder("alone.1"))
    index_server.freeze()
    try:
        put_in_force(one, digest)
        runs("alone.1", one, two, seconds=BOUND_SECONDS)
        said = one.cli("rules", "activate", digest).stdout
        assert "no worker could be told" in said
    finally:
        index_server.thaw()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_over_http(nodes: tuple[Running, Running], rules: Rules) -> None:
    """Activate, list and roll back with a key that may operate; each is in the audit."""
    one, two = nodes
    revision = keep(one, rules.folder("http.1"))[:SHOWN]
    base, headers = one.url + "/v1/admin/rules", bearer(one.first_key)
    before = ruleset(two)
    wish = {"revision": revision, "reason": "by request"}
    answer = httpx.post(base + "/activate", json=wish, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    workers = answer.json()["workers"]
    assert (workers["heard"], workers["in_force"]) == (2, 2)
    runs("http.1", one, two, seconds=BOUND_SECONDS)

    listed = httpx.get(base, headers=headers).json()
    assert listed["in_force"]["digest"].startswith(revision)
    assert listed["bundles"][0]["digest"] == listed["activations"][0]["revision"]
    assert listed["activations"][0]["reason"] == "by request"

    answer = httpx.post(base + "/rollback", json={"reason": "back"}, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    wait_for(lambda: ruleset(two) == before, seconds=BOUND_SECONDS, what="what was before")
    audit = httpx.get(one.url + "/v1/admin/audit", headers=headers).json()["events"]
    assert [(each["actor"], each["action"]) for each in audit[:2]] == [
        ("first", "rules.rollback"),
        ("first", "rules.activate"),
    ]
    assert audit[1]["detail"]["reason"] == "by request"


REFUSED_REQUESTS: dict[str, tuple[object, int, str]] = {
    "no such revision": ({"revision": "ffffffff"}, 409, "no bundle has the revision"),
    "no revision": ({"revision": "../../x"}, 409, "hexadecimal digits"),
    "nothing": ({}, 422, "revision"),
    "too long a reason": ({"revision": "ffffffff", "reason": "x" * 501}, 422, "reason"),
}


@pytest.mark.parametrize(
    ("wish", "status", "words"), REFUSED_REQUESTS.values(), ids=REFUSED_REQUESTS
)
def test_requests_refused(
    nodes: tuple[Running, Running], wish: object, status: int, words: str
) -> None:
    """As problem documents that name what is wrong."""
    one, _ = nodes
    url = one.url + "/v1/admin/rules/activate"
    answer = httpx.post(url, json=wish, headers=bearer(one.first_key))
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert httpx.post(url, json=wish).status_code == 401


def altered(content: bytes) -> bytes:
    return content.replace(b"allow", b"block")


def hostile(path: str, text: str) -> Callable[[bytes], bytes]:
    def make(content: bytes) -> bytes:
        files = json.loads(content) | {path: text}
        words = json.dumps(files, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return words.encode()

    return make


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a path that leads out": (hostile("../../evil/x.toml", ""), "is no path of a rule pack"),
    "no bundle": (lambda _: b"PK\3\4", "is not JSON"),
    "rules that do not hold": (
        hostile("default/rules.toml", "[ruleset]\nname = 1\n"),
        "default/rules.toml:2:",
    ),
    "a text nested without end": (
        hostile("default/rules.toml", "x = " + "[" * 20_000),
        "nested too deeply",
    ),
}


@pytest.mark.parametrize(("make", "words"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_database_may_hold(
    nodes: tuple[Running, Running],
    rules: Rules,
    make: Callable[[bytes], bytes],
    words: str,
) -> None:
    """What never went through `push`, activated all the same: refused, the last good one stays."""
    one, _ = nodes
    before = ruleset(one)
    with opened(one) as record:
        evil = record.rulebook.push(make(rules.content("evil.1")), sets=["x@1"], actor="test")
        record.rulebook.activate(evil.digest, actor="test")
        for node in nodes:
            refuses(node, words)
            assert ruleset(node) == before
            assert node.ready()["ready"] is True
        record.rulebook.rollback(record.rulebook.active(), actor="test")
    for node in nodes:
        agrees(node)


def test_a_bundle_altered_in_the_database(nodes: tuple[Running, Running], rules: Rules) -> None:
    """Refused by its digest; pushing the same rules again mends it, and the nodes take it."""
    one, two = nodes
    before = ruleset(one)
    folder = rules.folder("altered.1")
    digest = keep(one, folder)
    database = one.environment["SCREENING_DATABASE_URL"].removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        query = "SELECT content FROM bundle WHERE digest = ?"
        ((content,),) = connection.execute(query, (digest,)).fetchall()
        change = "UPDATE bundle SET content = ? WHERE digest = ?"
        connection.execute(change, (altered(content), digest))
    refused(one.cli("rules", "activate", digest, check=False), "was altered")
    put_in_force(one, digest)
    for node in nodes:
        refuses(node, "was altered")
        assert ruleset(node) == before
    keep(one, folder)
    runs("altered.1", one, two)
    for node in nodes:
        agrees(node)


def test_rules_that_do_not_hold_are_not_pushed(
    nodes: tuple[Running, Running], rules: Rules
) -> None:
    """Exit 1 with file, line and column, and nothing is kept."""
    one, _ = nodes
    folder = rules.folder(
        "broken.1", edit=lambda text: text.replace("calling.dno", "calling.dmo", 1)
    )
    done = one.cli("rules", "push", str(folder), check=False)
    refused(done, '"calling.dno"')
    assert re.search(r"default/rules\.toml:\d+:\d+: ", done.stderr)
    with opened(one) as record:
        assert not any("default@broken.1" in each.sets for each in record.rulebook.bundles())


def test_a_folder_by_choice(nodes: tuple[Running, Running], rules: Rules) -> None:
    """Back to each node's own folder, and `rules list` says which is in force."""
    one, two = nodes
    put_in_force(one, keep(one, rules.folder("choice.1")))
    runs("choice.1", one, two, seconds=BOUND_SECONDS)
    said = one.cli("rules", "activate", "--folder").stdout
    assert "in force in 2 of 2 workers" in said
    for node in nodes:
        about = node.ready()["revision"]
        assert isinstance(about, dict)
        assert about["source"] == "folder"
        assert not (node.state / "rules.bundle").exists()
    assert f"the folder {Path('deploy/rules')} is in force" in one.cli("rules", "list").stdout


@pytest.mark.parametrize("words", [(), ("abcdef", "--folder")], ids=["neither", "both"])
def test_a_wrong_call_of_the_command(words: tuple[str, ...]) -> None:
    """Exit 2 before anything is opened: a revision or the folder, one of the two."""
    done = CliRunner().invoke(app, ["rules", "activate", *words])
    assert (done.exit_code, "one of the two" in done.output) == (2, True)


# One node, its own record


def test_the_folder_is_ignored_while_a_bundle_is_active(tmp_path: Path, rules: Rules) -> None:
    """Changes in it are not taken in, the log says so, and after `--folder` they are."""
    folder = rules.folder("folder.1")
    with running_service(tmp_path / "state", rules_dir=str(folder)) as node:
        runs("folder.1", node)
        put_in_force(node, keep(node, rules.folder("bundle.1")))
        runs("bundle.1", node)
        assert f"the folder {folder} is not used" in node.log
        shutil.copytree(rules.folder("folder.2"), folder, dirs_exist_ok=True)
        os.kill(node.process.pid, signal.SIGHUP)
        wait_for(lambda: node.log.count("bundle.1") >= 2, seconds=30, what="the reload")
        runs("bundle.1", node)
        put_in_force(node, FOLDER)
        runs("folder.2", node)
        shutil.copytree(rules.folder("folder.3"), folder, dirs_exist_ok=True)
        runs("folder.3", node)


def test_a_start_without_databases(tmp_path: Path, rules: Rules) -> None:
    """The copy on this disk is in force; a copy that was altered is not, and the folder is."""
    state = tmp_path / "state"
    with running_service(state) as node:
        before = ruleset(node)
        put_in_force(node, keep(node, rules.folder("kept.1")))
        runs("kept.1", node)
    (state / "record.db").rename(state / "record.away")
    (state / "record.db").mkdir()  # neither opened nor made anew
    nowhere = f"unix://{tmp_path / 'nowhere'}?db=0"
    with running_service(state, redis_url=nowhere) as node:
        assert ruleset(node) == "default@kept.1"
        failures = node.ready()["failures"]
        assert isinstance(failures, dict)
        assert "record" in failures
    copy = state / "rules.bundle"
    copy.write_text(copy.read_text().replace("kept.1", "evil.1"))
    with running_service(state, redis_url=nowhere) as node:
        assert ruleset(node) == before
        assert "rules.bundle is not used" in node.log
        (state / "record.db").rmdir()
        (state / "record.away").rename(state / "record.db")
        runs("kept.1", node)


def test_a_record_that_has_forgotten(tmp_path: Path, rules: Rules) -> None:
    """An emptied record does not undo what a person activated; the next activation decides."""
    state = tmp_path / "state"
    with running_service(state) as node:
        put_in_force(node, keep(node, rules.folder("known.1")))
        runs("known.1", node)
    for file in state.glob("record.db*"):
        file.unlink()
    with running_service(state) as node:
        refuses(node, "has forgotten 1, which is in force here")
        assert ruleset(node) == "default@known.1"
        put_in_force(node, keep(node, rules.folder("next.1")))
        runs("next.1", node)
        agrees(node)


def test_signatures(tmp_path: Path, rules: Rules) -> None:
    """With keys configured, only what a trusted key signed is kept, activated and run."""
    state, trusted = tmp_path / "state", tmp_path / "trusted"
    author, stranger = tmp_path / "author.pem", tmp_path / "stranger.pem"
    made = command("rules", "keygen", str(author), environment=environment_of(state))
    trusted.write_text(made.stdout)
    SigningKey.create(stranger)

    with running_service(state, rule_keys=str(trusted)) as node:
        folder = rules.folder("signed.1")
        push = ("rules", "push", str(folder))
        refused(node.cli(*push, check=False), "is not signed")
        refused(node.cli(*push, "--key", str(stranger), check=False), "of a trusted key")
        signed = said_to_be_kept(node.cli(*push, "--key", str(author)))
        node.cli("rules", "activate", signed)
        runs("signed.1", node)

        # Who pushes where no keys are configured has a bundle kept, and it goes no further.
        for name, key, words in (
            ("unsigned.1", None, "is not signed"),
            ("stranger.1", stranger, "no signature of a trusted key"),
        ):
            other = keep(node, rules.folder(name), key=key)
            url = node.url + "/v1/admin/rules/activate"
            answer = httpx.post(url, json={"revision": other}, headers=bearer(node.first_key))
            assert (answer.status_code, words in answer.text) == (409, True), answer.text
            put_in_force(node, other)
            refuses(node, words)
            assert ruleset(node) == "default@signed.1"

        # From there it can even be activated: the worker tells that it refuses.
        activate = ("rules", "activate", other)
        done = command(*activate, environment=environment_of(state), check=False)
        assert done.returncode == 1
        for said in ("stays on the rules it had", words, "in force in 0 of 1 workers"):
            assert said in done.stdout
        refused(node.cli("rules", "rollback", check=False), "`screening rules list`")
        told = node.cli("rules", "activate", signed).stdout
        assert "in force in 1 of 1 workers" in told
        agrees(node)

        # A key that is not trusted any more: what runs stays, and is told; signed anew it is good.
        second = SigningKey.create(tmp_path / "second.pem")
        trusted.write_text(base64.b64encode(second.public).decode())
        refuses(node, "no signature of a trusted key")
        assert ruleset(node) == "default@signed.1"
        keep(node, folder, key=tmp_path / "second.pem")
        agrees(node)


def test_a_start_on_a_bundle_that_cannot_be_run(tmp_path: Path, rules: Rules) -> None:
    """With nothing good on this disk the folder is in force until the bundle can be."""
    state, trusted = tmp_path / "state", tmp_path / "trusted"
    state.mkdir()
    key = SigningKey.create(tmp_path / "key")
    before = Running("", state, None, environment_of(state))  # type: ignore[arg-type]
    put_in_force(before, keep(before, rules.folder("late.1"), key=tmp_path / "key"))
    with running_service(state, rule_keys=str(trusted)) as node:
        refuses(node, "the trusted keys cannot be read")
        assert ruleset(node) != "default@late.1"
        about: Any = node.ready()["revision"]
        assert about["source"] == "folder"
        trusted.write_text(base64.b64encode(key.public).decode())
        runs("late.1", node)
        agrees(node)
