"""Entities: registered, changed, suspended, and the telemarketers that call for them."""

import json

from tests.running import Running, wait_for
from tests.screening.test_consents import SIGNED, Api, subscriber
from typer.testing import CliRunner

from consent.calling import Registry
from consent.entity import Entity
from screening import cli

BANK = {"title": "Acme Bank", "categories": ["loans"], "numbers": ["+12125550180"]}
CENTRE = {
    "title": "Call Centre",
    "ranges": [{"first": "+12125550181", "last": "+12125550185"}],
    "acts_for": "acme-bank",
}


def test_a_delegate_s_numbers_are_its_principal_s() -> None:
    """While both are active; one whose principal is suspended speaks for nobody."""
    bank = Entity(1, "bank", "Bank", ("loans",), (441632960001,), ())
    centre = Entity(2, "centre", "Centre", (), (441632960002,), ((441632960010, 441632960019),))
    acting = Entity(3, "acting", "Centre", (), (441632960003,), (), acts_for=1)
    both = Registry([bank, centre, acting])
    asked = (441632960001, 441632960002, 441632960015, 441632960003, 441632960004)
    assert [both.entity_of(each) for each in asked] == [bank, centre, centre, bank, None]
    alone = Registry([centre, acting])
    assert [alone.entity_of(each) for each in asked] == [None, centre, centre, None, None]


def test_over_http_and_at_the_terminal(own_service: Running) -> None:
    """What is registered decides the next call; consent to the bank permits its call centre."""
    api, service = Api(own_service), own_service

    def cause(calling: str) -> object:
        return service.screen(calling=calling, called=subscriber(50), **SIGNED)["cause"]

    made = api("PUT", "/v1/entities/acme-bank", json=BANK)
    assert made.json()["id"] == 3
    read = api("GET", "/v1/entities/acme-bank")
    assert read.headers["ETag"] == made.headers["ETag"]
    assert BANK.items() <= read.json().items()
    grant = {"called": subscriber(50), "entity": "acme-bank", "categories": ["loans"]}
    api("POST", "/v1/consents", json=grant)
    assert cause("+12125550180") == "consented"
    assert cause("+12125550183") != "consented"
    api("PUT", "/v1/entities/centre", json=CENTRE)
    assert cause("+12125550183") == "consented"
    assert api("GET", "/v1/entities/acme-bank").json()["delegates"] == ["centre"]
    names = [each["name"] for each in api("GET", "/v1/entities").json()["entities"]]
    assert names == ["sample-loans", "sample-insurance", "acme-bank", "centre"]

    stale = {"json": BANK | {"title": "B"}, "headers": {"If-Match": '"0123"'}}
    assert api("PUT", "/v1/entities/acme-bank", 412, **stale).json()["field"] == "If-Match"
    api("GET", "/v1/entities/nobody", 404)
    for wrong, field in (
        ({"categories": ["all"]}, "categories"),
        ({"numbers": ["nobody"]}, "numbers.0"),
        ({"acts_for": "centre"}, "acts_for"),
        ({"status": "asleep"}, "status"),
        ({"numbers": ["+12125550123"]}, "numbers"),
    ):
        answer = api("PUT", "/v1/entities/other", 422, json={"title": "O", **wrong})
        assert answer.json()["field"] == field, wrong
        assert "2125550123" not in answer.text

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli.app, ["entity", *words], env=service.environment)
        assert done.exit_code == code, f"{words}: {done.output}{done.exception!r}"
        return str(done.output)

    run("range", "centre", "+12125550190", "+12125550195")
    wait_for(lambda: cause("+12125550191") == "consented", seconds=10, what="the range")
    run("range", "centre", "+12125550190", "+12125550195", "--remove")
    run("delegate", "acme-bank", "centre", "--end")
    wait_for(lambda: cause("+12125550183") != "consented", seconds=10, what="the delegation's end")
    run("delegate", "acme-bank", "centre")
    run("status", "acme-bank", "suspended")
    wait_for(lambda: cause("+12125550180") != "consented", seconds=10, what="the suspension")
    assert cause("+12125550183") != "consented"
    # Its subscribers can still take back what they gave.
    api("POST", "/v1/consents/revoke", json={"called": subscriber(50), "entity": "acme-bank"})
    run("add", "third", "--title", "Third", "--category", "food", "--number", "+12125550199")
    run("add", "third", "--title", "Again", code=1)
    assert "suspended" in run("show")
    assert "+12125550181-+12125550185" in run("show", "centre")
    audit = json.dumps(api("GET", "/v1/admin/audit").json())
    assert "entity.put" in audit
    assert "21255501" not in audit
