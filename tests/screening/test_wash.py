"""Washing answers as calls would be decided, within limits, and keeps who asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import server_program
from tests.running import Running, running_service, wait_for
from tests.screening.test_consents import SIGNED, Api, subscriber
from tests.servers import IndexServer
from typer.testing import CliRunner

from consent.keyring import Keyring
from consent.record import RecordError
from screening import cli
from screening.limit import Limit
from screening.wash import MOST_NUMBERS, read_lines

LOANS = "+12125550123"
PLAIN, CONSENTED, REFUSED = subscriber(60), "+12125550101", "+12125550142"
HONEY = "+12125550177"
ASK = {"entity": "sample-loans", "category": "loans", "at": SIGNED["at"]}


def answers(api: Api, numbers: list[str], **params: str) -> list[dict[str, Any]]:
    text = "".join(json.dumps(each) + "\n" for each in numbers)
    answer = api("POST", "/v1/wash", content=text, params=ASK | params)
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def washing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service whose index server can be killed, where an entity may wash 100 at once."""
    folder = tmp_path_factory.mktemp("wash")
    server = IndexServer(server_program("valkey"), folder)
    server.start()
    try:
        with running_service(
            folder / "state", "--sample", redis_url=server.url, wash_numbers_per_day="1000"
        ) as service:
            yield Api(service), server
    finally:
        server.kill()


def test_a_wash_from_its_key_to_its_account(washing: tuple[Api, IndexServer]) -> None:
    """Each answer is what a call comes to; keys, limits, honey and an outage are as described."""
    api, server = washing
    service = api.service
    found = answers(api, [PLAIN, CONSENTED, REFUSED, "112", "nonsense"])
    assert [(each["called"], each.get("answer")) for each in found] == [
        (PLAIN, "callable"),
        (CONSENTED, "consented"),
        (REFUSED, "refused"),
        ("112", None),
        ("nonsense", None),
    ]
    for each in found[:3]:
        call = service.screen(calling=LOANS, called=each["called"], **SIGNED)
        assert (call["action"] == "block") == (each["answer"] == "refused"), each
        assert call["cause"] == each["cause"]
    api("PUT", f"/v1/subscribers/{PLAIN}/personal/block/{LOANS}")
    api("POST", "/v1/consents/revoke", json={"called": CONSENTED, "entity": "sample-loans"})
    assert {each["answer"] for each in answers(api, [PLAIN, CONSENTED])} == {"refused"}
    night = answers(api, [subscriber(61)], at="2026-11-23T08:00:00Z")  # 3 in the morning there
    assert (night[0]["answer"], night[0]["cause"]) == ("refused", "time_band")

    for params, field in (
        ({"entity": "nobody"}, "entity"),
        ({"category": "loan"}, "query.category"),
        ({"calling": "+12125550199"}, "calling"),
    ):
        wrong = api("POST", "/v1/wash", 422, content=b"", params=ASK | params)
        assert wrong.json()["field"] == field
    wrong = api("POST", "/v1/wash", 422, content=b'"+1"\n{}\n', params=ASK)
    assert wrong.json()["field"] == "line 2"

    key = service.cli("keys", "add", "sample-loans", "--role", "wash").stdout.strip()
    own = Api(service, key)
    wait_for(
        lambda: own.ask("POST", "/v1/wash", content=b"", params=ASK).status_code == 200,
        seconds=10,
        what="the key to be known",
    )
    other = ASK | {"entity": "sample-insurance"}
    own("POST", "/v1/wash", 403, content=json.dumps(PLAIN), params=other)
    own("GET", "/v1/consents", 403, params={"called": PLAIN})
    acting = {"title": "Loans", "acts_for": "sample-insurance"}
    api("PUT", "/v1/entities/sample-loans", json=acting | {"numbers": [LOANS]})
    own("POST", "/v1/wash", content=json.dumps(PLAIN), params=other)
    api("PUT", "/v1/entities/sample-loans", json={"title": "Loans", "numbers": [LOANS]})

    (service.state / "honey.txt").write_text(f"# nobody's\n{HONEY}  # since May\n")
    assert answers(api, [HONEY])[0]["answer"] == "callable"
    assert service.metric("screening_honey_numbers_washed_total") == 1
    text = api("GET", "/v1/admin/audit", params={"limit": 1000}).text
    events = [e for e in json.loads(text)["events"] if e["action"].startswith("wash")]
    token = Keyring.load_or_create(service.state / "secrets.json").token(int(HONEY[1:]))
    assert events[0]["detail"] == {"count": 1, "tokens": [token]}
    assert events[1]["detail"] == {"category": "loans", "callable": 1}
    assert {"callable": 1, "consented": 1, "refused": 1, "no_number": 2}.items() <= events[-1][
        "detail"
    ].items()
    assert "1212555" not in text

    done = CliRunner().invoke(
        cli.app,
        ["wash", str(_file(service, [REFUSED, HONEY])), *_words(ASK)],
        env=service.environment,
    )
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    lines = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
    assert [each["answer"] for each in lines] == ["refused", "callable"]

    many = [subscriber(62)] * 70
    api("POST", "/v1/wash", content="\n".join(many), params=ASK)
    refused = api("POST", "/v1/wash", 429, content="\n".join(many), params=ASK)
    assert int(refused.headers["Retry-After"]) > 60
    api("POST", "/v1/wash", 429, content="\n".join(many * 2), params=ASK)

    server.kill()
    other = {"entity": "sample-insurance", "category": "insurance"}
    wait_for(
        lambda: answers(api, [subscriber(63)], **other)[0]["answer"] == "unknown",
        seconds=10,
        what="the outage to be told",
    )


def _file(service: Running, numbers: list[str]) -> Path:
    path = service.state / "numbers.txt"
    path.write_text("\n".join(numbers) + "\n")
    return path


def _words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@given(st.lists(st.text("+0123456789", min_size=1, max_size=16), max_size=20))
def test_a_number_may_be_written_in_three_ways(numbers: list[str]) -> None:
    """Bare, as text and as an object are the same numbers, empty lines nothing."""
    for form in (str, json.dumps, lambda each: json.dumps({"called": each})):
        assert read_lines("\n\n".join(map(form, numbers)).encode()) == numbers


def test_too_many_or_none() -> None:
    """A list beyond the limit is refused, and a line that is none is named."""
    with pytest.raises(RecordError, match="10,000"):
        read_lines(b"+1\n" * (MOST_NUMBERS + 1))
    with pytest.raises(RecordError, match="line 2"):
        read_lines(b'+1\n{"calling": "+1"}\n')
    with pytest.raises(RecordError, match="line 1"):
        read_lines(b"\xff\n")


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=60))
def test_a_limit_lets_no_more_pass(steps: list[tuple[int, int]]) -> None:
    """In any span no more passes than the bucket and what flowed in; what is refused takes none,
    and passes once the seconds told are over."""
    now = 0.0
    limit = Limit(10, seconds=100, clock=lambda: now)
    passed: list[tuple[float, int]] = []
    for pause, count in steps:
        now += pause
        wait = limit.take("one", count)
        if count > 10:
            assert wait
        elif wait:
            now += wait
            assert limit.take("one", count) == 0
            passed.append((now, count))
        else:
            passed.append((now, count))
        for start in range(len(passed)):
            taken = sum(each for _, each in passed[start:])
            assert taken <= 10 + (now - passed[start][0]) / 10 + 1e-6
    assert limit.take("other", 10) == 0
