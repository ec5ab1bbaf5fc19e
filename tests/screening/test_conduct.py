"""Complaints, the ladder and appeals: the story of docs/ladder.md, told to a running service."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.running import ROOT, running_service, wait_for
from tests.screening.test_consents import Api

from screening.recording.reader import DecisionLog

CALLER = "+12125550190"
SIGNED = {"attestation": "A", "verstat": "TN-Validation-Passed-A"}
AREAS = ("202", "206", "303", "312", "404", "415", "512", "602", "617", "702", "713", "801")
"""Complainants of one block of numbers count as few: these are of one each."""

RULES = """
[[rule]]
id = "us.sold"
when = 'call.display_name == "Sold"'
then = "block"
cause = "analytics"
why = "A rule that is wrong at times."
source = "test"

"""


def subscriber(number: int) -> str:
    return f"+1{AREAS[number % len(AREAS)]}55501{number // len(AREAS):02d}"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service with China's ladder, without its grace, for a country of reserved numbers."""
    folder = tmp_path_factory.mktemp("conduct")
    ladders, packs = folder / "ladder", folder / "rules"
    ladders.mkdir()
    text = (ROOT / "deploy" / "ladder" / "cn.toml").read_text()
    text = text.replace('jurisdiction = "CN"', 'jurisdiction = "US"')
    text = text.replace("grace_days = 3", "grace_days = 0")
    # The suspension asks for conduct beside complaints: many attempts in a day.
    head, suspended, rest = text.partition('id = "suspended"')
    rest = rest.replace("[stage.notice]", "[stage.signals]\nattempts_24h = 34\n[stage.notice]", 1)
    (ladders / "us.toml").write_text(head + suspended + rest)
    shutil.copytree(ROOT / "deploy" / "rules", packs)
    path = packs / "us" / "rules.toml"
    head, _, rest = path.read_text().partition("[[rule]]")
    path.write_text(head + RULES.lstrip() + "[[rule]]" + rest)
    given = {"ladder_dir": str(ladders), "rules_dir": str(packs)}
    with running_service(folder / "state", **given) as service:
        api = Api(service)
        homes = {"title": "Example Homes", "numbers": [CALLER]}
        api("PUT", "/v1/entities/example-homes", json=homes)
        yield api


def call(api: Api, number: int, *, calling: str = CALLER, **more: Any) -> dict[str, Any]:
    """A call to a subscriber, once it is in the decision record."""
    fields = {**SIGNED, "call_id": f"{calling}/{number}/{more}", **more}
    answer = api.service.screen(calling=calling, called=subscriber(number), **fields)
    decision_id = str(answer["decision_id"])
    wait_for(
        lambda: DecisionLog(api.service.state).find(decision_id),
        seconds=60,
        what="the decision to be in the record",
    )
    return answer


def complaints(api: Api, numbers: range, *, calling: str = CALLER, **more: Any) -> dict[str, Any]:
    """The answer to a file of complaints, one by each of some subscribers, after their calls."""
    for number in numbers:
        fields = {"call_id": f"{calling}/{number}", **SIGNED, **more}
        last = api.service.screen(calling=calling, called=subscriber(number), **fields)
    decision_id = str(last["decision_id"])
    wait_for(
        lambda: DecisionLog(api.service.state).find(decision_id),
        seconds=60,
        what="the calls to be in the record",
    )
    lines = [{"calling": calling, "called": subscriber(each), "at": now()} for each in numbers]
    body = "\n".join(json.dumps(each | {"category": "property"}) for each in lines)
    headers = {"Content-Type": "application/x-ndjson"}
    return dict(api("POST", "/v1/complaints", content=body, headers=headers).json())


def now() -> str:
    return datetime.now(UTC).isoformat()


def steps(api: Api) -> list[tuple[str, str]]:
    found = api("GET", "/v1/ladder", params={"entity": "example-homes"}).json()["steps"]
    return [(each["step"], each["stage"]) for each in found]


def verdict(api: Api) -> tuple[object, object]:
    answer = api.service.screen(calling=CALLER, called=subscriber(140), **SIGNED)
    return answer["action"], answer["cause"]


def test_the_story(api: Api) -> None:
    """From the first complaint to suspension, appeal and restoration."""
    # Spoofed calls: without attestation they are kept and move nobody.
    spoofed = complaints(api, range(12), attestation="C", verstat="")
    assert (spoofed["kept"], spoofed["matched"]) == (12, 12)
    assert steps(api) == []

    told = complaints(api, range(12, 17))
    assert told["matched"] == 5
    assert steps(api) == [("raised", "notice")]
    assert verdict(api)[0] == "allow"
    again = complaints(api, range(12, 17))
    assert (again["kept"], again["repeated"]) == (0, 5)

    complaints(api, range(24, 30))
    assert steps(api)[-1] == ("raised", "restricted")
    assert verdict(api) == ("warn", "escalation")
    complaints(api, range(36, 42))
    # Complaints enough, and 31 attempts: the stage waits for its signal.
    assert steps(api)[-1] == ("raised", "restricted")
    for number in range(48, 54):
        api.service.screen(calling=CALLER, called=subscriber(number), call_id=f"{number}", **SIGNED)
    wait_for(lambda: steps(api)[-1] == ("raised", "suspended"), seconds=60, what="the suspension")
    # The record has it; that it is in force here, too, takes this worker a moment.
    wait_for(lambda: verdict(api) == ("block", "escalation"), seconds=5, what="it to be in force")
    # A call with its number and without attestation may be another's.
    unsigned = api.service.screen(calling=CALLER, called=subscriber(140))
    assert unsigned["cause"] != "escalation"

    newest = api("GET", "/v1/ladder").json()["steps"][-1]
    explained = api.service.screen(calling=CALLER, called=subscriber(140), explain=True, **SIGNED)
    assert json.dumps(explained["trace"]).count(f'"entity.stage_event": {newest["sequence"]}')
    notices = api.service.cli("ladder", "notices", "example-homes").stdout
    assert f"US-{newest['sequence']} zh-Hans: Example Homes" in notices
    assert f"Appeal: US-{newest['sequence']}" in notices

    # Complaints are signals as well: a share of the entity's calls.
    def rate() -> float:
        shown = api.service.cli("signals", "show", "entity:1", "--json").stdout
        return float(json.loads(shown)["complaint_rate_24h"])

    wait_for(lambda: rate() > 0.5, seconds=30, what="the complaints to be signals")

    # The appeal pauses it; a second one against the same step is refused.
    refused = call(api, 150)
    assert refused["cause"] == "escalation"
    appeal = api(
        "POST", "/v1/appeals", 201, json={"decision_id": refused["decision_id"], "text": "No"}
    ).json()
    assert appeal["step"] == newest["sequence"]
    assert verdict(api)[0] == "allow"
    api("POST", "/v1/appeals", 409, json={"step": newest["sequence"]})
    listed = api.service.cli("appeals", "list").stdout
    assert str(refused["decision_id"]) in listed

    decided = api(
        "POST",
        f"/v1/appeals/{appeal['id']}/decide",
        json={"outcome": "upheld", "reason": "The calls were agreed to."},
    ).json()
    assert decided["effect"] == "step reversed"
    assert steps(api)[-1] == ("reversed", "suspended")
    assert verdict(api) == ("warn", "escalation")
    api(
        "POST", f"/v1/appeals/{appeal['id']}/decide", 409, json={"outcome": "upheld", "reason": "x"}
    )
    ratio = api.service.metric("screening_false_positive_ratio", rule="us.entity.suspended")
    assert ratio == 1.0

    # Everything is undone by a command, from its first step.
    first = api("GET", "/v1/ladder").json()["steps"][0]["sequence"]
    api.service.cli("ladder", "reverse", str(first), "--reason", "A test campaign")
    wait_for(lambda: verdict(api)[0] == "allow", seconds=5, what="the reversal to be in force")
    assert api.service.cli("ladder", "show").stdout.count("reversed") == 2
    api.service.cli("consent", "verify")
    # The index passes over steps, made anew or compared.
    api.service.cli("index", "rebuild")
    api.service.cli("index", "verify")


def test_the_called_party_s_view(api: Api) -> None:
    """What was blocked and why; wanted: allowed from then on and counted; nuisance: complained."""
    blocked = call(api, 60, calling="+12125550191", display_name="Sold")
    assert blocked["action"] == "block"
    path = f"/v1/subscribers/{subscriber(60)}/screened"
    found = api("GET", path).json()["calls"]
    assert [each["decision_id"] for each in found] == [blocked["decision_id"]]
    assert (found[0]["cause"], found[0]["rule"]) == ("analytics", "us.sold")
    assert "2125550191" not in json.dumps(found)

    wanted = f"{path}/{blocked['decision_id']}/wanted"
    api("POST", wanted, 422, json={})
    api("POST", wanted, 422, json={"calling": "+12125550192"})
    assert api("POST", wanted, json={"calling": "+12125550191"}).json()["counted"]
    assert not api("POST", wanted, json={"calling": "+12125550191"}).json()["counted"]
    assert "+12125550191" in str(api("GET", f"/v1/subscribers/{subscriber(60)}/personal").json())
    assert api.service.metric("screening_false_positives", rule="us.sold") == 1

    nuisance = f"{path}/{blocked['decision_id']}/nuisance"
    made = api("POST", nuisance, json={"category": "loans"}).json()
    assert made["matched"]
    other = nuisance.replace(subscriber(60), subscriber(61))
    api("POST", other, 422, json={})
    month = now()[:7]
    shares = api("GET", "/v1/complaints/shares", params={"month": month}).json()["shares"]
    assert {each["category"] for each in shares} >= {"loans"}


def test_a_number_of_nobody(api: Api) -> None:
    """Its signed calls bring it up the ladder; whoever registers it then stands where it stood."""
    number = "+12125550195"

    def asked(**more: Any) -> tuple[object, object]:
        answer = api.service.screen(calling=number, called=subscriber(140), **more)
        return answer["action"], answer["cause"]

    complaints(api, range(84, 90), calling=number, attestation="C", verstat="")
    assert asked(**SIGNED)[0] == "allow"
    complaints(api, range(90, 96), calling=number)
    complaints(api, range(96, 102), calling=number)
    assert asked(**SIGNED) == ("warn", "escalation")
    assert asked()[0] == "allow"
    # A decision that rests on its step is appealed as the step is.
    warned = call(api, 152, calling=number)
    wish = {"decision_id": warned["decision_id"]}
    appeal = api("POST", "/v1/appeals", 201, json=wish).json()
    newest = api("GET", "/v1/ladder").json()["steps"][-1]
    assert (newest["step"], newest["entity"]) == ("paused", "")
    assert appeal["step"] == newest["sequence"] - 1
    assert asked(**SIGNED)[0] == "allow"
    verdict_of = {"outcome": "rejected", "reason": "Six complained"}
    api("POST", f"/v1/appeals/{appeal['id']}/decide", json=verdict_of)
    assert asked(**SIGNED) == ("warn", "escalation")
    assert number[1:] not in api.service.cli("ladder", "show").stdout
    assert f"{number}: since" in api.service.cli("ladder", "notices").stdout

    api("PUT", "/v1/entities/late", json={"title": "Late Ltd", "numbers": [number]})
    assert asked(**SIGNED) == ("warn", "escalation")

    def of_entity() -> list[str]:
        found = api("GET", "/v1/ladder", params={"entity": "late"}).json()["steps"]
        return [each["stage"] for each in found]

    wait_for(lambda: of_entity() == ["restricted"], seconds=60, what="the stage to go with it")
    assert asked(**SIGNED) == ("warn", "escalation")


def test_an_upheld_appeal_corrects_the_list(api: Api, tmp_path: Path) -> None:
    """The caller is excepted from the list that blocked it, however often that is loaded anew,
    until a person undoes it."""
    number, path = "+12125550196", tmp_path / "reports.txt"
    load = ("lists", "load", "reports", str(path), "--kind", "block", "--format", "numbers")

    def cause() -> object:
        return api.service.screen(calling=number, called=subscriber(140), **SIGNED)["cause"]

    path.write_text(f"{number}\n+12125550197\n")
    api.service.cli(*load)
    wait_for(lambda: cause() == "network_list", seconds=10, what="the list to be in force")
    refused = call(api, 151, calling=number)
    opened = api("POST", "/v1/appeals", 201, json={"decision_id": refused["decision_id"]}).json()
    decide = f"/v1/appeals/{opened['id']}/decide"
    upheld = {"outcome": "upheld", "reason": "Never called anybody"}
    api("POST", decide, 422, json={**upheld, "calling": "+12125550197"})
    decided = api("POST", decide, json={**upheld, "calling": number}).json()
    assert decided["effect"] == "excepted from reports"
    assert cause() == "default"
    other = api.service.screen(calling="+12125550197", called=subscriber(140), **SIGNED)
    assert other["cause"] == "network_list"

    path.write_text(f"{number}\n+12125550197\n+12125550198\n")
    api.service.cli(*load, "--force")
    latest = {"calling": "+12125550198", "called": subscriber(140), **SIGNED}
    wait_for(
        lambda: api.service.screen(**latest)["cause"] == "network_list",
        seconds=10,
        what="the list to be in force anew",
    )
    assert cause() == "default"
    shown = api.service.cli("lists", "exceptions").stdout
    assert "Never called anybody" in " ".join(shown.split())
    assert number[1:] not in shown
    (row,) = [
        line for line in api.service.cli("lists", "show").stdout.splitlines() if "reports" in line
    ]
    assert row.split()[:6] == ["reports", "block", "any", "2", "3", "1"]

    api.service.cli("lists", "restore", "reports", number, "--reason", "A test")
    wait_for(lambda: cause() == "network_list", seconds=10, what="the list to name it again")
    again = api.service.cli(
        "lists", "restore", "reports", number, "--reason", "A test", check=False
    )
    assert again.returncode == 1
    assert "not excepted" in again.stderr + again.stdout


def test_import(api: Api, tmp_path: Path) -> None:
    """A file taken twice is taken once; a line that is none is named."""
    path = tmp_path / "more.ndjson"
    line = {"calling": "+12125550199", "called": subscriber(70), "at": now(), "category": "loans"}
    path.write_text(json.dumps(line) + "\n")
    assert "1 kept, 0 of them matched" in api.service.cli("complaints", "import", str(path)).stdout
    path.write_text(json.dumps(line) + "\n{}\n")
    done = api.service.cli("complaints", "import", str(path), check=False)
    assert done.returncode == 1
    assert "0 kept, 0 of them matched, 1 repeated, 1 rejected" in done.stdout
    assert "line 2: calling: is absent" in done.stdout


def test_the_report_of_a_month(api: Api, tmp_path: Path) -> None:
    """A page and CSV files, whose figures are those of the record, and no number in any."""
    for _ in range(2):  # asked again, as switches do: it counts once
        blocked = call(api, 80, calling="+12125550193", display_name="Sold")
    out = tmp_path / "report"
    words = ("report", "--month", now()[:7], "--jurisdiction", "US", "--out", str(out))
    page = Path(api.service.cli(*words).stdout.replace("\n", "").strip()).read_text("utf-8")
    assert blocked["action"] == "block"
    assert page.count("<svg") >= 3
    tables = {path.stem: path.read_text().splitlines()[1:] for path in out.glob("*.csv")}
    assert {
        "calls", "verdicts", "complaints", "stages", "exposed", "appeals", "lists", "freshness",
        "enforcement", "enforcement_days",
    } <= set(tables)  # fmt: skip
    assert any(row.startswith("block,analytics,") for row in tables["verdicts"])
    by_day = sum(int(row.rpartition(",")[2]) for row in tables["calls"])
    assert by_day == sum(int(row.rpartition(",")[2]) for row in tables["verdicts"])
    kept = [each for each in DecisionLog(api.service.state).decisions(days=1) if not each["replay"]]
    assert by_day == len({each["id"] for each in kept if each["called_country"] == "US"})
    assert by_day < len(kept)
    every = page + "".join(path.read_text() for path in out.glob("*.csv"))
    assert "55501" not in every
    assert api.service.cli("report", "--month", "2026-13", *words[3:], check=False).returncode == 1


def test_the_token_key_rotates(api: Api) -> None:
    """A call from before is found afterwards, a complainant is known again, by number or decision,
    and the steps that stand are in force."""
    number = "+12125550199"
    before = call(api, 103, calling=number)
    told = {"calling": number, "called": subscriber(103), "at": now()}
    assert api("POST", "/v1/complaints", json=told).json()["matched"]
    api.service.cli("keys", "rotate", "token")

    def newest() -> dict[str, Any]:
        answer = api.service.screen(calling=number, called=subscriber(103), **SIGNED)
        found: list[Any] = []
        wait_for(
            lambda: (
                found.extend(DecisionLog(api.service.state).find(str(answer["decision_id"])))
                or found
            ),
            seconds=60,
            what="the decision to be in the record",
        )
        return dict(found[0])

    wait_for(lambda: newest()["token_key"] == 2, seconds=60, what="the recorder to have the key")
    nuisance = f"/v1/subscribers/{subscriber(103)}/screened/{newest()['id']}/nuisance"
    assert api("POST", nuisance, json={}).json()["id"] is None
    old = nuisance.replace(nuisance.split("/")[-2], str(before["decision_id"]))
    assert api("POST", old, json={}).json()["id"] is None
    again = api("POST", "/v1/complaints", json=told).json()
    assert (again["id"], again["matched"]) == (None, False)
    call(api, 104, calling=number)
    other = {"calling": number, "called": subscriber(104), "at": now()}
    assert api("POST", "/v1/complaints", json=other).json()["matched"]
    late = api.service.screen(calling="+12125550195", called=subscriber(140), **SIGNED)
    assert (late["action"], late["cause"]) == ("warn", "escalation")
