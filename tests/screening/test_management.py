"""Who may do what, what is kept of it, and what changes while calls run."""

import asyncio
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.running import ROOT, Running, command, environment_of, running_service, wait_for
from tests.switch import Traffic, traffic
from typer.testing import CliRunner

from screening.cli import app

RELOAD = "/v1/admin/rules/reload"


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


def test_management_needs_a_key_with_the_role(service: Running) -> None:
    """401 without a key or with a wrong one, 403 without the role, as problem documents."""
    weak = service.cli("keys", "add", "dashboard", "--role", "lookup").stdout.strip()
    wait_for(
        lambda: httpx.get(service.url + "/v1/lists", headers=bearer(weak)).status_code == 403,
        seconds=10,
        what="the new key to be known",
    )
    for path, method in ((RELOAD, "POST"), ("/v1/lists", "GET"), ("/v1/admin/audit", "GET")):
        for headers, status in (({}, 401), (bearer("wrong"), 401), (bearer(weak), 403)):
            answer = httpx.request(method, service.url + path, headers=headers)
            assert answer.status_code == status, path
            assert answer.headers["content-type"] == "application/problem+json"
        strong = httpx.request(method, service.url + path, headers=bearer(service.first_key))
        assert strong.status_code == 200, strong.text


def test_two_keys_of_one_name_until_one_is_revoked(service: Running) -> None:
    """Rotation: both are valid at once, then only the new one."""
    words = ("keys", "add", "noc", "--role", "operate")
    old, new = (service.cli(*words).stdout.strip() for _ in range(2))

    def status(key: str) -> int:
        return httpx.get(service.url + "/v1/lists", headers=bearer(key)).status_code

    wait_for(lambda: status(old) == status(new) == 200, seconds=10, what="both keys")
    ids = [
        word
        for line in service.cli("keys", "list").stdout.splitlines()
        if " noc " in line
        for word in line.split()
        if len(word) == 8 and all(c in "0123456789abcdef" for c in word)
    ]
    service.cli("keys", "revoke", "noc", ids[0])
    wait_for(lambda: sorted((status(old), status(new))) == [200, 401], seconds=10, what="one key")


def test_secrets_are_private_and_never_shown(service: Running) -> None:
    """Key files have mode 0600, keys stand in them hashed, and no output holds one."""
    for name in ("secrets.json", "keys.json", "first-key"):
        mode = stat.S_IMODE((service.state / name).stat().st_mode)
        assert mode == 0o600, name
    assert service.first_key not in (service.state / "keys.json").read_text()
    assert service.first_key not in service.log


def test_every_management_action_is_kept(service: Running) -> None:
    """The audit names the key, the action and the instant."""
    headers = bearer(service.first_key)
    httpx.post(service.url + RELOAD, headers=headers)
    events = httpx.get(service.url + "/v1/admin/audit", headers=headers).json()["events"]
    newest = events[0]
    assert (newest["actor"], newest["action"]) == ("first", "rules.reload")
    assert newest["at"] > 1.7e9


def test_a_client_may_assert_what_it_is_configured_to(tmp_path: Path) -> None:
    """A network in clients.toml may assert priority; its call then passes."""
    state = tmp_path / "state"
    question = {"calling": "+12125550123", "called": "+12125550142", "priority": "psap-callback"}
    with running_service(state, "--sample") as service:
        assert httpx.post(service.url + "/v1/screen", json=question).json()["action"] == "block"
        (state / "clients.toml").write_text(
            '[gateway]\nnetworks = ["127.0.0.0/8"]\nasserts = ["priority"]\n'
        )

        def cause() -> Any:
            return httpx.post(service.url + "/v1/screen", json=question).json()["cause"]

        wait_for(lambda: cause() == "emergency", seconds=10, what="the client to be known")
        (state / "clients.toml").write_text('[gateway]\nnetwork = ["127.0.0.0/8"]\n')
        wait_for(lambda: "keys" in service.ready()["failures"], seconds=10, what="a refusal")
        assert "network" in service.ready()["failures"]["keys"]  # type: ignore[index]
        assert cause() == "emergency"


def packs_of(folder: Path) -> Path:
    """A copy of the shipped packs, to be changed."""
    return Path(shutil.copytree(ROOT / "deploy" / "rules", folder / "rules"))


def set_revision(packs: Path, revision: str) -> None:
    """Give the default pack another revision, in one step as an editor would."""
    file = packs / "default" / "rules.toml"
    lines = [
        f'revision = "{revision}"' if line.startswith("revision") else line
        for line in file.read_text().splitlines()
    ]
    beside = file.with_suffix(".new")
    beside.write_text("\n".join(lines) + "\n")
    beside.replace(file)


# Of a country that has no pack: libphonenumber's examples for Germany.
ELSEWHERE = {"calling": "+4930123456", "called": "+4915123456789"}


def test_a_changed_file_is_in_force_and_a_broken_one_is_not(tmp_path: Path) -> None:
    """Hot reload: the new revision in every answer; a set that does not load changes nothing."""
    packs = packs_of(tmp_path)
    with running_service(tmp_path / "state", rules_dir=str(packs)) as service:
        set_revision(packs, "test.2")
        wait_for(
            lambda: service.screen(**ELSEWHERE)["ruleset"] == "default@test.2",
            seconds=10,
            what="the revision",
        )
        file = packs / "default" / "rules.toml"
        good = file.read_text()
        file.write_text(good.replace("call.", "cal.") + '\n[[rule]]\nid = "x"\nwhen = "1 +"\n')
        wait_for(lambda: "rules" in service.ready()["failures"], seconds=10, what="the refusal")
        assert service.screen(**ELSEWHERE)["ruleset"] == "default@test.2"
        assert service.metric("screening_reload_failed", kind="rules") == 1
        answer = httpx.post(service.url + RELOAD, headers=bearer(service.first_key))
        assert answer.status_code == 409
        assert any("default" in line for line in answer.json()["errors"])
        file.write_text(good)
        wait_for(
            lambda: service.metric("screening_reload_failed", kind="rules") == 0,
            seconds=10,
            what="the mended rules",
        )


@pytest.mark.parametrize("way", ["signal", "request"])
def test_a_reload_that_is_asked_for(tmp_path: Path, way: str) -> None:
    """SIGHUP and POST take in a change at once, the folder not being looked at meanwhile."""
    packs = packs_of(tmp_path)
    hour = str(3_600_000)
    with running_service(
        tmp_path / "state", rules_dir=str(packs), watch_interval_ms=hour
    ) as service:
        set_revision(packs, "asked.1")
        assert service.screen(**ELSEWHERE)["ruleset"] != "default@asked.1"
        if way == "signal":
            os.kill(service.process.pid, signal.SIGHUP)
        else:
            answer = httpx.post(service.url + RELOAD, headers=bearer(service.first_key))
            assert answer.json()["revisions"]["default"] == "default@asked.1"
        wait_for(
            lambda: service.screen(**ELSEWHERE)["ruleset"] == "default@asked.1",
            seconds=10,
            what="the revision",
        )


async def test_a_call_during_a_reload_carries_exactly_one_revision(tmp_path: Path) -> None:
    """While two revisions that differ in cause alternate, no answer mixes them."""
    packs = packs_of(tmp_path)
    rule = (
        '\n[[rule]]\nid = "default.test"\nwhen = \'called.number == "+4915123456789" '
        '&& called.personal != "block"\'\nthen = "warn"\ncause = "{cause}"\n'
        'why = "Test."\nsource = "test"\n'
    )
    file = packs / "default" / "rules.toml"
    text = file.read_text()
    causes = {"r.0": "analytics", "r.1": "escalation"}

    def write(revision: str) -> None:
        lines = [
            f'revision = "{revision}"' if line.startswith("revision") else line
            for line in text.splitlines()
        ]
        beside = file.with_suffix(".new")
        beside.write_text("\n".join(lines) + rule.format(cause=causes[revision]))
        beside.replace(file)

    write("r.0")
    with running_service(tmp_path / "state", rules_dir=str(packs)) as service:
        until, seen = asyncio.Event(), Traffic()
        running = asyncio.create_task(
            traffic(
                service.url,
                questions=lambda n: {**ELSEWHERE, "call_id": f"reload-{n}"},
                connections=8,
                calls_per_second=300,
                until=until,
                into=seen,
            )
        )
        try:
            for turn in range(1, 7):
                wanted = f"r.{turn % 2}"
                write(wanted)
                async with asyncio.timeout(20):
                    while (
                        not seen.exchanges
                        or seen.exchanges[-1].verdict["ruleset"] != f"default@{wanted}"
                    ):
                        await asyncio.sleep(0.01)
        finally:
            until.set()
            await running
    assert not seen.errors
    pairs = {(each.verdict["ruleset"], each.verdict["cause"]) for each in seen.exchanges}
    assert pairs == {(f"default@{revision}", cause) for revision, cause in causes.items()}


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    """A setting that cannot be used ends the start with its name and exit code 2."""
    done = command(
        "serve", environment=environment_of(tmp_path, facts_budget_ms="soon"), check=False
    )
    assert done.returncode == 2
    assert "SCREENING_FACTS_BUDGET_MS" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version(tmp_path: Path) -> None:
    """Every command explains itself."""
    environment = environment_of(tmp_path)
    assert "Usage" in command("--help", environment=environment).stdout
    for words in (("serve",), ("check",), ("lists", "load"), ("keys", "add"), ("index",)):
        done = CliRunner().invoke(app, [*words, "--help"])
        assert (done.exit_code, "Usage" in done.stdout) == (0, True)
