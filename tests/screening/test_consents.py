"""Consents and what subscribers set, over HTTP: recorded, in force at once, proved, kept apart."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.conftest import server_program
from tests.postgres import Postgres
from tests.running import Running, running_service, wait_for
from tests.servers import IndexServer

from consent.keyring import Keyring
from consent.record import Checkpoint, Entry
from consent.record.chain import entry_hash

SIGNED = {"attestation": "A", "verstat": "TN-Validation-Passed", "at": "2026-11-23T17:00:00Z"}
LOANS = "+12125550123"  # of the sample's entity sample-loans
ENTITY = "sample-loans"
EVIDENCE = {
    "jurisdiction": "US",
    "basis": "explicit",
    "brand": "Sample",
    "purpose": "Offers of loans by telephone",
    "channel": "web",
    "captured": "Form 7, step 2",
    "text_sha256": "0" * 64,
    "text_locale": "en-US",
    "text_version": "3",
    "uri": "https://evidence.example/7",
    "sha256": "f" * 64,
    "author": "subject",
    "verification": "otp 4711",
    "notice_version": "2026-01",
    "confirmed": "2026-11-20T10:00:00+00:00",
    "retain_until": "2031-11-20T10:00:00+00:00",
    "legal_hold": True,
    "source": "crm",
    "subscribed_since": "2019-05-01T00:00:00+00:00",
    "calling_numbers": ["+12125550123"],
    "delegates": ["sample-loans"],
}


class Api:
    """Requests to a service with a key."""

    def __init__(self, service: Running, key: str = "") -> None:
        self.service = service
        self._headers = {"Authorization": f"Bearer {key or service.first_key}"}

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The answer, whatever it is."""
        given["headers"] = self._headers | given.get("headers", {})
        return httpx.request(method, self.service.url + path, timeout=30, **given)

    def __call__(self, method: str, path: str, status: int = 200, **given: Any) -> httpx.Response:
        answer = self.ask(method, path, **given)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def state(self, called: str, entity: str = ENTITY) -> dict[str, Any]:
        """The consent of a subscriber to an entity."""
        found = self("GET", "/v1/consents", params={"called": called}).json()["consents"]
        return dict(next(each for each in found if each["entity"] == entity))

    def cause(self, called: str, calling: str = LOANS) -> object:
        """What a call comes to."""
        return self.service.screen(calling=calling, called=called, **SIGNED)["cause"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service of this module with the sample registry, over each kind of database."""
    state = tmp_path_factory.mktemp(f"consents-{request.param}") / "state"
    database: dict[str, str] = {}
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = {"database_url": server.new_database()}
    with running_service(state, "--sample", lookups_per_minute="100000", **database) as service:
        yield Api(service)


def subscriber(n: int) -> str:
    """A reserved number that the sample says nothing of."""
    return f"+1212555{160 + n:04d}"


def body(n: int, **more: Any) -> dict[str, Any]:
    return {"called": subscriber(n), "entity": ENTITY, **more}


def test_a_consent_from_its_grant_to_its_end(api: Api) -> None:
    """Each step is in force when it is answered, and shown with all that proves it."""
    called, until = subscriber(0), datetime.now(UTC) + timedelta(days=30)
    assert api.cause(called) != "consented"
    granted = api(
        "POST",
        "/v1/consents",
        json=body(0, categories=["loans", "banking"], evidence=EVIDENCE),
    )
    said = granted.json()
    assert (said["state"], said["event"]) == ("in_force", "consent.granted")
    assert said["categories"] == ["banking", "loans"]
    assert granted.headers["ETag"] == f'"{said["sequence"]}"'
    assert api.cause(called) == "consented"
    held = api.state(called)
    assert held["evidence"] == EVIDENCE
    assert (held["state"], held.get("expires_at")) == ("granted", None)

    renewed = api("POST", "/v1/consents/renew", json=body(0, expires_at=until.isoformat()))
    assert datetime.fromisoformat(renewed.json()["expires_at"]) == until.replace(microsecond=0)
    assert api.state(called)["evidence"] == {}
    narrowed = api("POST", "/v1/consents/narrow", json=body(0, withdrawn=["loans"])).json()
    assert narrowed["categories"] == ["banking"]
    assert api.cause(called) != "consented"
    api("POST", "/v1/consents", json=body(0, categories=["all"]))
    assert api.cause(called) == "consented"
    api("POST", "/v1/consents/expire", json=body(0))
    assert api.state(called)["state"] == "expired"
    api("POST", "/v1/consents", json=body(0, categories=["loans"]))
    revoked = api("POST", "/v1/consents/revoke", json=body(0, evidence={"channel": "call"})).json()
    assert revoked["event"] == "consent.revoked"
    assert api.cause(called) == "no_consent"
    held = api.state(called)
    assert (held["state"], held["evidence"]) == ("revoked", {"channel": "call"})
    assert "revoked_at" in held


def test_a_call_asked_about_again_is_within_its_terms(api: Api) -> None:
    """One call a week is agreed to: a fork of it passes when it has been counted, another call
    does not."""
    called = subscriber(52)
    api("POST", "/v1/consents", json=body(52, categories=["loans"], terms={"calls": 1,
        "per_days": 7}))  # fmt: skip

    def cause(call_id: str, **asked: str) -> object:
        asked |= {"attestation": "A", "verstat": "TN-Validation-Passed", "call_id": call_id}
        return api.service.screen(calling=LOANS, called=called, **asked)["cause"]

    def another() -> object:
        return cause("another", at=datetime.now(UTC).isoformat())  # at an instant: counts nothing

    assert another() == cause("first") == "consented"
    wait_for(lambda: another() != "consented", seconds=15, what="the call to be counted")
    assert cause("first") == "consented"


def test_a_file_of_reassigned_numbers_ends_consents(api: Api) -> None:
    """As soon as it is answered; what is no such file, or has another digest, ends nothing."""
    path, called = "/v1/lists/reassigned-numbers", subscriber(50)
    api("POST", "/v1/consents", json=body(50, categories=["loans"]))
    assert api.cause(called) == "consented"
    lines = f"number,date\n{called},{datetime.now(UTC):%Y-%m-%d}\n{subscriber(51)},someday\n"
    content = gzip.compress(lines.encode())
    wrong = {"Content-Digest": "sha-256=:" + "A" * 43 + "=:"}
    assert api("POST", path, 422, content=content, headers=wrong).json()["field"] == (
        "Content-Digest"
    )
    refused = api("POST", path, 422, content=b"AAA\n").json()
    assert refused["detail"].startswith("of 0 lines none is a number and a date")
    assert api.cause(called) == "consented"
    told = api("POST", path, content=content).json()
    assert told == {
        "state": "in_force", "lines": 2, "rejected": 1, "known": 1, "ended": 1,
        "reasons": ["line 2 is no number and date"],
    }  # fmt: skip
    assert api.cause(called) != "consented"
    assert api("POST", path, content=content).json()["ended"] == 0


def test_a_consent_holds_on_its_terms(api: Api) -> None:
    """Hours, kinds of call and how often, and a revocation in part or at an instant to come."""
    called, noon, one = subscriber(45), "12:00-13:00", "13:00-14:00"

    def grant(**terms: Any) -> object:
        says = {"categories": ["loans", "banking"], "terms": terms}
        api("POST", "/v1/consents", json=body(45, **says))
        return api.cause(called)

    assert grant(bands=[noon]) == "consented"
    assert grant(bands=[one]) != "consented"
    assert grant(modes=["prerecorded"]) != "consented"
    assert grant(modes=["voice"], calls=16, per_days=30) == "consented"
    api("POST", "/v1/consents/narrow", json=body(45, terms={"bands": [one]}))
    assert api.state(called)["terms"]["zone"] == "America/New_York"
    assert api.cause(called) != "consented"
    grant()
    later = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    api("POST", "/v1/consents/revoke", json=body(45, effective_at=later.isoformat()))
    held = api.state(called)
    assert held["state"] == "granted"
    assert held["revocation"]["retroactive"] is False
    assert datetime.fromisoformat(held["revocation"]["effective_at"]) == later
    assert api.cause(called) == "consented"
    then = SIGNED | {"at": later.isoformat()}
    assert api.service.screen(calling=LOANS, called=called, **then)["cause"] == "no_consent"
    api("POST", "/v1/consents/revoke", json=body(45, scope=["loans"]))
    assert api.cause(called) == "no_consent"
    assert api.state(called)["revoked_for"] == ["loans"]
    out = api("GET", f"/v1/subscribers/{called}/export").json()
    (consent,) = out["consents"]
    assert (consent["state"], consent["revocation"]["scope"]) == ("granted", ["loans"])
    assert out["events"][-1]["says"]["scope"] == ["loans"]


@pytest.mark.parametrize(
    ("path", "changes", "field"),
    [
        ("", {"categories": ["loans"], "terms": {"bands": ["9-18"]}}, "terms.bands"),
        ("", {"categories": ["loans"], "terms": {"calls": 2}}, "terms"),
        ("/revoke", {"effective_at": "2999-01-01T00:00:00Z"}, "effective_at"),
        ("", {"categories": []}, "categories"),
        ("", {"categories": ["loan"]}, "categories.0"),
        ("", {"categories": ["loans"], "called": "112"}, "called"),
        ("", {"categories": ["loans"], "entity": "nobody"}, "entity"),
        ("", {"categories": ["loans"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ("", {"categories": ["loans"], "expires_at": "tomorrow"}, "expires_at"),
        ("", {"categories": ["loans"], "at": "2999-01-01T00:00:00Z"}, "at"),
        ("", {"categories": ["loans"], "evidence": {"basis": "none"}}, "evidence.basis"),
        ("", {"categories": ["loans"], "evidence": {"text_sha256": "x"}}, "evidence"),
        ("", {"categories": ["loans"], "until": 3}, "until"),
        ("/renew", {}, "expires_at"),
        ("/renew", {"expires_at": None}, "entity"),
        ("/narrow", {"withdrawn": ["loans"]}, "entity"),
        ("/revoke", {"called": ""}, "called"),
        ("/expire", {}, "entity"),
    ],
)
def test_a_refusal_names_the_field(
    api: Api, path: str, changes: dict[str, Any], field: str
) -> None:
    """A problem document says which field and what was expected, and nothing is recorded."""
    before = api("GET", "/v1/consents", params={"called": subscriber(1)}).headers["ETag"]
    answer = api("POST", f"/v1/consents{path}", 422, json=body(1) | changes)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["field"]) == (422, field), problem
    assert "events[" not in problem["detail"]
    after = api("GET", "/v1/consents", params={"called": subscriber(1)}).headers["ETag"]
    assert before == after == '"0"'


def test_a_request_is_carried_out_once(api: Api) -> None:
    """The same key gives the same answer, another request under it 409, another key a new one."""
    grant = {"json": body(2, categories=["loans"]), "headers": {"Idempotency-Key": "grant-2"}}
    first, again = (api("POST", "/v1/consents", **grant).json() for _ in range(2))
    assert first == again
    other = {**grant, "json": body(2, categories=["banking"])}
    assert api("POST", "/v1/consents", 409, **other).json()["field"] == "Idempotency-Key"
    api("POST", "/v1/consents/revoke", 409, json=body(2), headers=grant["headers"])
    unnamed = api("POST", "/v1/consents", json=body(2, categories=["loans"])).json()
    assert unnamed["sequence"] > first["sequence"]
    api("POST", "/v1/consents", 422, json=grant["json"], headers={"Idempotency-Key": "a b"})


def test_a_decision_rests_on_what_was_seen(api: Api) -> None:
    """With the ETag of an older state a write is refused, and nothing is recorded."""
    seen = api("GET", "/v1/consents", params={"called": subscriber(3)}).headers["ETag"]
    granted = api(
        "POST", "/v1/consents", json=body(3, categories=["loans"]), headers={"If-Match": seen}
    )
    stale = api("POST", "/v1/consents/revoke", 412, json=body(3), headers={"If-Match": seen})
    assert stale.json()["field"] == "If-Match"
    assert api.state(subscriber(3))["state"] == "granted"
    now = {"If-Match": granted.headers["ETag"]}
    api("POST", "/v1/consents/revoke", json=body(3), headers=now)
    api("POST", "/v1/consents/revoke", 422, json=body(3), headers={"If-Match": "W/x"})


def test_an_entity_s_consents_come_page_by_page(api: Api) -> None:
    """Each subscriber once, as its consent now is; those of an ended subscription are not there."""
    entity, numbers = "sample-insurance", [subscriber(n) for n in range(10, 23)]
    for called in [*numbers, *numbers[:3]]:
        grant = {"called": called, "entity": entity, "categories": ["insurance"]}
        api("POST", "/v1/consents", json=grant)
    api("POST", "/v1/consents/revoke", json={"called": numbers[5], "entity": entity})
    api("POST", f"/v1/subscribers/{numbers[6]}/refuse-all")
    api("POST", f"/v1/subscribers/{numbers[7]}/reassign")
    found, after, pages = [], 0, 0
    while after is not None:
        params = {"entity": entity, "after": after, "limit": 4}
        page = api("GET", "/v1/consents", params=params).json()
        found, after, pages = found + page["consents"], page.get("next"), pages + 1
    states = {each["called"]: each["state"] for each in found}
    assert pages >= 4
    assert len(found) == len(states) == 12
    assert states == {
        called: "revoked" if called in numbers[5:7] else "granted"
        for called in numbers
        if called != numbers[7]
    }
    page = api("GET", "/v1/consents", params={"entity": entity, "state": "revoked"}).json()
    assert {each["called"] for each in page["consents"]} == set(numbers[5:7])
    api("GET", "/v1/consents", 422)
    api("GET", "/v1/consents", 422, params={"entity": "nobody"})


WISH: dict[str, Any] = {
    "refused": ["loans"],
    "accepted": ["health"],
    "bands": ["21:00-09:00", "12:00-13:00"],
    "days": ["sat", "sun", "holiday"],
    "modes": ["prerecorded", "voice"],
    "zone": "America/New_York",
    "prefixes": [{"prefix": "12125550", "action": "block"}],
}


def test_preferences_are_in_force_and_read_back(api: Api) -> None:
    """What a subscriber wants comes back as it was set; a refusal holds in its hours alone."""
    called, calling = subscriber(30), LOANS
    path = f"/v1/subscribers/{called}/preferences"
    api("PUT", path, json=WISH)
    answer = api("GET", path)
    read = answer.json()
    assert {**read, "bands": sorted(read["bands"])} == {**WISH, "bands": sorted(WISH["bands"])}
    api("PUT", path, json={"refused": ["loans"], "zone": "America/New_York"})
    assert api.cause(called, calling) == "subscriber_refusal"
    hours = {"refused": ["loans"], "zone": "America/New_York", "bands": ["13:00-11:00"]}
    api("PUT", path, json=hours, headers={"If-Match": answer.headers["ETag"]}, status=412)
    api("PUT", path, json=hours)  # it is noon there
    assert api.cause(called, calling) != "subscriber_refusal"
    for wrong, field in (
        ({"bands": ["9-12"]}, "bands"),
        ({"zone": "Mars/Base"}, "zone"),
        ({"refused": ["loans"], "accepted": ["loans"]}, "accepted"),
        ({"prefixes": [{"prefix": "12", "action": "block"}]}, "prefixes"),
        ({"days": ["holidays"]}, "days.0"),
    ):
        assert api("PUT", path, 422, json=wrong).json()["field"] == field, wrong
    assert api("PUT", "/v1/subscribers/112/preferences", 422, json={}).json()["field"] == "number"


def test_personal_lists_are_in_force(api: Api) -> None:
    """An entry is on one of the two lists, exact, and in force at once."""
    called = subscriber(31)
    path = f"/v1/subscribers/{called}/personal"
    api("PUT", f"{path}/block/{LOANS}")
    api("PUT", f"{path}/allow/{subscriber(32)}")
    api("PUT", f"{path}/block/anonymous")
    assert api("GET", path).json() == {
        "allow": [subscriber(32)],
        "block": ["anonymous", LOANS],
    }
    assert api.cause(called) == "subscriber_refusal"
    api("PUT", f"{path}/allow/{LOANS}")
    assert api.cause(called) == "subscriber_allow"
    api("DELETE", f"{path}/{LOANS}")
    api("DELETE", f"{path}/anonymous")
    assert api("GET", path).json() == {"allow": [subscriber(32)], "block": []}
    assert api("PUT", f"{path}/block/nobody", 422).json()["field"] == "calling"
    api("PUT", f"{path}/perhaps/{LOANS}", 422)


def test_refuse_all_and_reassign(api: Api) -> None:
    """One refuses every trade and voids consents; the other ends what both said."""
    called = subscriber(33)
    api("POST", "/v1/consents", json={**body(33), "categories": ["loans"]})
    api("POST", f"/v1/subscribers/{called}/refuse-all", json={"evidence": {"channel": "call"}})
    assert api.cause(called) == "no_consent"
    assert api("GET", f"/v1/subscribers/{called}/preferences").json()["refused"] == ["all"]
    assert api.state(called)["state"] == "revoked"
    since = {"since": "2026-11-01T00:00:00Z"}
    api("POST", f"/v1/subscribers/{called}/reassign", json=since)
    assert api("GET", "/v1/consents", params={"called": called}).json()["consents"] == []
    assert api("GET", f"/v1/subscribers/{called}/preferences").json()["refused"] == []


def test_an_export_is_whole_and_proves_itself(api: Api) -> None:
    """All that was said, and each entry's hash follows from what stands beside it."""
    called = subscriber(40)
    api("POST", "/v1/consents", json=body(40, categories=["loans"], evidence=EVIDENCE))
    api("PUT", f"/v1/subscribers/{called}/preferences", json=WISH)
    api("PUT", f"/v1/subscribers/{called}/personal/allow/{LOANS}")
    out = api("GET", f"/v1/subscribers/{called}/export").json()
    assert out["number"] == called
    assert [each["event"] for each in out["events"]] == [
        "consent.granted",
        "preferences.set",
        "personal.set",
    ]
    assert out["events"][0]["says"]["evidence"] == EVIDENCE
    assert out["consents"][0]["evidence"] == EVIDENCE
    assert out["personal"]["allow"] == [LOANS]
    assert {each["list"] for each in out["lists"]} == {"sample-us-dnc"}
    assert [each["listed"] for each in out["lists"]] == [False]
    assert {"subscriber.exported", "consent.granted"} <= {each["action"] for each in out["audit"]}
    for each in out["events"]:
        row = each["entry"]
        entry = Entry(
            sequence=each["sequence"],
            at_us=row["at_us"],
            recorded_us=row["recorded_us"],
            kind=each["event"],
            subject_id=bytes.fromhex(row["subject"]),
            entity_id=row["entity_id"],
            body=base64.b64decode(row["sealed"]),
            actor=row["actor"],
        )
        assert entry_hash(bytes.fromhex(row["before"]), entry).hex() == row["hash"]
    assert all(Checkpoint.parse(line) for line in out["ledger"]["checkpoints"])
    empty = api("GET", f"/v1/subscribers/{subscriber(41)}/export").json()
    assert (empty["events"], empty["consents"]) == ([], [])


def test_the_role_decides(api: Api) -> None:
    """Without a key 401, without the role 403; neither tells of a number, nor does the audit."""
    weak = Api(
        api.service, api.service.cli("keys", "add", "weak", "--role", "operate").stdout.strip()
    )
    path = f"/v1/subscribers/{subscriber(0)}/preferences"
    wait_for(
        lambda: weak.ask("GET", path).status_code == 403, seconds=10, what="the key to be known"
    )
    weak("POST", "/v1/consents", 403, json=body(0, categories=["loans"]))
    assert httpx.get(api.service.url + path).status_code == 401
    text = api("GET", "/v1/admin/audit", params={"limit": 1000}).text
    assert "/v1/subscribers/{number}/preferences" in text
    assert not re.search(r"1212555", text)


def test_no_number_is_told_elsewhere(api: Api) -> None:
    """Log, audit and metrics name subscribers by token or not at all."""
    api("POST", "/v1/consents", json=body(0, categories=["loans"]))
    token = Keyring.load_or_create(api.service.state / "secrets.json").token(int(subscriber(0)[1:]))
    audit = api("GET", "/v1/admin/audit", params={"limit": 1000}).text
    assert token in audit
    for text in (audit, api.service.log.split("\ncurl")[0], api("GET", "/metrics").text):
        assert subscriber(0)[1:] not in text


def test_the_description_is_whole(api: Api) -> None:
    """Each route has its bodies, its answers and its refusals described."""
    described = api("GET", "/openapi.json").json()
    parts = described["components"]["schemas"]
    assert set(EVIDENCE) == set(parts["ConsentEvidence"]["properties"])
    for path in ("/v1/consents", "/v1/consents/revoke"):
        post = described["paths"][path]["post"]
        assert {"200", "202", "401", "403", "409", "412", "422", "503"} <= set(post["responses"])
        names = {each["name"] for each in post["parameters"]}
        assert {"Idempotency-Key", "If-Match"} <= names
        assert "$ref" in json.dumps(post["requestBody"])


def test_pending_until_the_index_is_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the index gone a write is 202 and says where to ask; back, it is in force by itself."""
    folder = tmp_path_factory.mktemp("pending")
    server = IndexServer(server_program("valkey"), folder, "--appendonly", "yes")
    server.start()
    try:
        with running_service(
            folder / "state", "--sample", redis_url=server.url, lookups_per_minute="10"
        ) as service:
            api = Api(service)
            api("POST", "/v1/consents", json=body(0, categories=["loans"]))
            server.kill()
            answer = api("POST", "/v1/consents/revoke", 202, json=body(0))
            assert answer.json()["state"] == "pending"
            where = answer.headers["Location"]
            assert api("GET", where).json()["state"] == "pending"
            assert api.state(subscriber(0))["state"] == "revoked"
            server.start()
            wait_for(
                lambda: api("GET", where).json()["state"] == "in_force",
                seconds=15,
                what="the write to be in force",
            )
            wait_for(
                lambda: api.cause(subscriber(0)) == "no_consent", seconds=15, what="the verdict"
            )
            api("GET", "/v1/events/999999", 404)
            # The record gone: nothing is done, and the same request is done once it is back.
            record = service.state / "record.db"
            request = {"json": body(1, categories=["loans"]), "headers": {"Idempotency-Key": "k"}}
            record.rename(record.with_suffix(".away"))
            assert api("POST", "/v1/consents", 503, **request).json()["title"]
            assert service.screen(calling=LOANS, called=subscriber(0), **SIGNED)["action"]
            record.with_suffix(".away").rename(record)
            assert api("GET", "/v1/consents", params={"called": subscriber(1)}).json() == {
                "consents": []
            }
            assert api("POST", "/v1/consents", **request).json()["state"] == "in_force"
            assert api.cause(subscriber(1)) == "consented"
            # Beyond a key's limit 429 with the seconds to wait.
            path = f"/v1/subscribers/{subscriber(0)}/preferences"
            answers = [api.ask("GET", path) for _ in range(31)]
            assert {200, 429} == {each.status_code for each in answers}
            refused = next(each for each in answers if each.status_code == 429)
            assert 0 < int(refused.headers["Retry-After"]) <= 60
    finally:
        server.kill()
