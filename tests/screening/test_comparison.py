"""`screening index verify` finds what the index has otherwise than the record."""

from collections.abc import Callable

import redis
from tests.running import Running

from consent.facts import ALL_BIT, Consent
from consent.index import layout

CALLED = 12125550101
"""Has a consent of the sample registry."""


STRANGER = 12125550177
"""Shares a bucket with it, and decided nothing."""

BUCKET = layout.SIDES[0].bucket_key(CALLED, layout.BUCKET_WIDTH)


def altered(client: "redis.Redis") -> None:
    low = layout.profile_field(CALLED, layout.BUCKET_WIDTH)
    for field in client.hkeys(BUCKET):
        if field.startswith(low):
            value = layout.encode_consent(Consent(1, True, 0, ALL_BIT))
            client.hset(BUCKET, field, value)


def put_in(client: "redis.Redis") -> None:
    field = layout.consent_field(STRANGER, 1, layout.BUCKET_WIDTH)
    client.hset(BUCKET, field, layout.encode_consent(Consent(1, False, 0, ALL_BIT)))


def entered(client: "redis.Redis") -> None:
    client.hset(layout.SIDES[0].personal_key(CALLED), b"\x01", b"b")


def unlisted(client: "redis.Redis") -> None:
    for key in client.scan_iter(match="*:p:*"):
        client.delete(key)


ALTERED: dict[str, tuple[Callable[["redis.Redis"], None], str]] = {
    "altered": (altered, "is revoked, expected granted as event"),
    "put in": (put_in, "consent to entity 1 is granted as event 1 for all, expected absent"),
    "personal entry": (entered, "a personal entry is block, expected none"),
    "list": (unlisted, "not listed, expected listed"),
}


def test_what_differs_is_found(own_service: Running) -> None:
    """Each kind of difference, by token and with exit code 1; nothing where all is the same, and
    a rebuild mends it."""
    url = f"unix://{own_service.state.absolute() / 'valkey.sock'}"
    whole = own_service.cli("index", "verify").stdout
    assert "the index says what the record says" in whole
    client = redis.Redis.from_url(url)
    for change, _ in ALTERED.values():
        change(client)
    done = own_service.cli("index", "verify", check=False)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert [kind for kind, (_, says) in ALTERED.items() if says not in said] == [], said
    assert str(CALLED) not in said
    assert str(STRANGER) not in said
    client.close()
    own_service.cli("index", "rebuild")
    assert "the index says what the record says" in own_service.cli("index", "verify").stdout
