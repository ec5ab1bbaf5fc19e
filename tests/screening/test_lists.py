"""Lists from the command line, on a running service: loaded whole, in force, rolled back."""

import gzip
from pathlib import Path

import pytest
from tests.running import Running, wait_for
from tests.screening.test_consents import Api

GERMAN = "+4930123456"  # libphonenumber's example of a German fixed line
REPORTED = "+4915123456789"  # and of a German mobile
REPORTS = ['"PHONE"', '"015123456789"', '"004930234567"', '"0441632960077"', '"12345"',
           '"015123456789"', '"kein Anschluss"', '"+++"']  # fmt: skip
"""A community block list as such lists come: quoted national digits, foreign, odd and broken."""


def caused(service: Running, calling: str, called: str = GERMAN) -> tuple[object, object]:
    """The action and cause of a call."""
    answer = service.screen(calling=calling, called=called, region="DE")
    return answer["action"], answer["cause"]


def load(service: Running, name: str, path: Path, *words: str, check: bool = True) -> str:
    """`screening lists load`; what it printed."""
    done = service.cli("lists", "load", name, str(path), *words, check=check)
    return done.stdout + done.stderr


def test_a_community_block_list_is_in_force(own_service: Running, tmp_path: Path) -> None:
    """A call from a reported number is blocked as `network_list`, one from another is not; a
    number that is no number of any plan is blocked as it was shown."""
    assert caused(own_service, REPORTED) == ("allow", "default")
    file = tmp_path / "reports.csv"
    file.write_text("\n".join(REPORTS) + "\n")
    out = load(own_service, "reports", file, "--kind", "block", "--format", "csv", "--region", "DE")
    wait_for(
        lambda: caused(own_service, REPORTED) == ("block", "network_list"),
        seconds=10,
        what="the list to be in force",
    )
    assert caused(own_service, "12345") == ("block", "network_list")
    assert caused(own_service, "+4915123456780") == ("allow", "default")
    assert "4 loaded, 1 duplicate, 2 rejected" in out
    rejected = own_service.state / "rejected" / "reports.txt"
    text = rejected.read_text()
    assert "7" in text
    assert "kein Anschluss" in text
    listing = own_service.cli("lists", "show").stdout
    assert "reports" in listing
    # A file that is not what its publisher says changes nothing, nor what is known of the last.
    file.with_name("reports.csv.sha256").write_text(f"{'0' * 64}  reports.csv\n")
    file.write_text("015123456780\n")
    words = ("--kind", "block", "--format", "csv", "--region", "DE")
    assert f"expected {'0' * 64}" in "".join(
        load(own_service, "reports", file, *words, check=False).split("\n")
    )
    assert rejected.read_text() == text


def test_a_registry_is_in_force_and_rolled_back(own_service: Running, tmp_path: Path) -> None:
    """A new generation replaces the one before, and a rollback brings that back."""
    called = ("+12125550150", "+12125550151")
    entity = {"calling": "+12125550123", "at": "2026-11-23T17:00:00Z"}  # noon in New York

    def blocked() -> list[bool]:
        return [own_service.screen(**entity, called=each)["action"] == "block" for each in called]

    assert blocked() == [False, False]
    words = ("--kind", "dnc", "--format", "ftc", "--region", "US", "--category", "all")
    first, second = tmp_path / "first.txt", tmp_path / "second.txt.gz"
    first.write_text("212,5550150\n")
    second.write_bytes(gzip.compress(b"212,5550151\n"))
    load(own_service, "extra-dnc", first, *words)
    wait_for(lambda: blocked() == [True, False], seconds=10, what="the first generation")
    load(own_service, "extra-dnc", second, *words, "--force")
    wait_for(lambda: blocked() == [False, True], seconds=10, what="the second generation")
    own_service.cli("lists", "rollback", "extra-dnc")
    wait_for(lambda: blocked() == [True, False], seconds=10, what="the rollback")


def test_a_registry_changes_by_its_change_list(own_service: Running, tmp_path: Path) -> None:
    """What is added is in force, what is removed is not; too many changes wait for a word."""
    called = ("+12125550150", "+12125550151")
    entity = {"calling": "+12125550123", "at": "2026-11-23T17:00:00Z"}  # noon in New York

    def blocked() -> list[bool]:
        return [own_service.screen(**entity, called=each)["action"] == "block" for each in called]

    full, changes = tmp_path / "full.txt", tmp_path / "changes.txt.gz"
    full.write_text("212,5550150\n")
    words = ("--kind", "dnc", "--format", "ftc", "--region", "US", "--category", "all")
    load(own_service, "extra-dnc", full, *words)
    wait_for(lambda: blocked() == [True, False], seconds=10, what="the full list")
    lines = b"212,5550150,2026-11-22,D\n212,5550151,2026-11-22,A\n"
    changes.write_bytes(gzip.compress(lines))
    held = own_service.cli("lists", "delta", "extra-dnc", str(changes), check=False)
    assert held.returncode != 0
    assert "held until --force confirms it" in " ".join(held.stderr.split())
    assert blocked() == [True, False]
    done = own_service.cli("lists", "delta", "extra-dnc", str(changes), "--force")
    assert "1 added, 1 removed, 0 rejected" in done.stdout
    wait_for(lambda: blocked() == [False, True], seconds=10, what="the changes")
    own_service.cli("lists", "rollback", "extra-dnc")
    wait_for(lambda: blocked() == [True, False], seconds=10, what="the rollback")


def test_a_list_is_loaded_and_rolled_back_over_http(own_service: Running) -> None:
    """The body is the file; what it says is in force when it is answered, or it is refused."""
    api = Api(own_service)
    called = ("+12125550150", "+12125550151")
    entity = {"calling": "+12125550123", "at": "2026-11-23T17:00:00Z"}  # noon in New York

    def blocked() -> list[bool]:
        return [own_service.screen(**entity, called=each)["action"] == "block" for each in called]

    path = "/v1/lists/extra-dnc"
    query = {"kind": "dnc", "format": "ftc", "region": "US", "category": "all"}
    api("GET", path, 404)
    loaded = api("PUT", path, content=b"212,5550150\n", params=query).json()
    assert (loaded["active"], loaded["generations"][0]["loaded"]) == (1, 1)
    assert loaded["generations"][0]["actor"] == "first"
    assert blocked() == [True, False]
    again = gzip.compress(b"212,5550151\n")
    api("PUT", path, content=again, params=query | {"force": "true"})
    assert blocked() == [False, True]
    assert api("POST", f"{path}/rollback").json()["active"] == 1
    assert blocked() == [True, False]
    delta = gzip.compress(b"212,5550150,2026-11-22,D\n212,5550151,2026-11-22,A\n")
    held = api("POST", f"{path}/changes", 422, content=delta).json()
    assert "held until --force confirms it" in held["detail"]
    assert blocked() == [True, False]
    changed = api("POST", f"{path}/changes", content=delta, params={"force": "true"}).json()
    assert (changed["active"], changed["generations"][0]["actor"]) == (3, "first")
    assert blocked() == [False, True]
    api("POST", "/v1/lists/nowhere/changes", 404, content=delta)
    refused = api("PUT", path, 422, content=b"", params=query).json()
    assert "empty" in refused["detail"]
    digest = {"Repr-Digest": "sha-256=:" + "A" * 43 + "=:"}
    wrong = api("PUT", path, 422, content=b"212,5550150\n", params=query, headers=digest).json()
    assert (wrong["field"], "expected 0000" in wrong["detail"]) == ("Repr-Digest", True)
    api("PUT", path, 422, content=b"212,5550150\n", params=query | {"format": "excel"})
    assert "extra-dnc" in api("GET", "/v1/lists").text
    assert not list((own_service.state / "uploads").iterdir())


@pytest.mark.parametrize("service", ["valkey"], indirect=True)
@pytest.mark.parametrize(
    ("content", "words", "says"),
    [
        ("", ("--kind", "block", "--format", "numbers"), "empty"),
        ("+12125550150\n", ("--kind", "dnc", "--format", "numbers"), "category"),
        ("+12125550150\n", ("--kind", "black", "--format", "numbers"), "kind"),
        ("+12125550150\n", ("--kind", "dno", "--format", "excel"), "format"),
        ("a;b\n1;2\n", ("--kind", "block", "--format", "csv"), "column"),
        ("02125550150\n", ("--kind", "block", "--format", "numbers", "--region", "XX"), "XX"),
    ],
)
def test_what_cannot_be_loaded_changes_nothing(
    service: Running, tmp_path: Path, content: str, words: tuple[str, ...], says: str
) -> None:
    """A refusal names what was wrong, exits other than 0, and no list appears."""
    file = tmp_path / "file.txt"
    file.write_text(content)
    done = service.cli("lists", "load", "refused", str(file), *words, check=False)
    assert done.returncode != 0
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    Api(service)("GET", "/v1/lists/refused", 404)


@pytest.mark.parametrize("service", ["valkey"], indirect=True)
def test_a_missing_file_is_named(service: Running) -> None:
    """The message names the file that is not there."""
    done = service.cli(
        "lists", "load", "x", "/nowhere/list.txt", "--kind", "dno", "--format", "numbers",
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "/nowhere/list.txt" in done.stderr
