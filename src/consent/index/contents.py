"""What the index holds of a called number, as it lies there: for comparing it with the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consent.facts import NO_PROFILE, Consent, Profile
from consent.index import layout


@dataclass(slots=True)
class Contents:
    """All that is held for one number; consents by entity, personal entries by calling number."""

    profile: Profile = NO_PROFILE
    consents: dict[int, Consent] = field(default_factory=dict)
    personal: dict[int, str] = field(default_factory=dict)


def read_bucket(bucket: int, width: int, fields: Mapping[bytes, bytes]) -> dict[int, Contents]:
    """The numbers of a bucket and what its fields say of each. Raises ValueError for no layout."""
    low_bytes = len(layout.profile_field(0, width))
    found: dict[int, Contents] = {}
    try:
        for name, value in fields.items():
            called = bucket * width + int.from_bytes(name[:low_bytes])
            here = found.setdefault(called, Contents())
            if len(name) == low_bytes:
                here.profile = layout.decode_profile(value)
            else:
                entity = int.from_bytes(name[low_bytes:])
                here.consents[entity] = layout.decode_consent(value)
    except (IndexError, KeyError) as error:
        raise ValueError(f"bucket {bucket} holds what is not of the layout") from error
    return found


def read_personal(fields: Mapping[bytes, bytes]) -> dict[int, str]:
    """The personal entries of a number's own key."""
    return {
        int.from_bytes(name): "allow" if value == b"a" else "block"
        for name, value in fields.items()
    }


def places(keys: Iterable[bytes], side: layout.Side, width: int) -> list[int]:
    """A called number for each of some keys of a side that hold what subscribers decided."""
    tag = len(layout.TAGS[0])
    found = []
    for key in keys:
        head, number = key[tag : tag + len(side.bucket)], key[tag + len(side.bucket) :]
        if head == side.bucket:
            found.append(int(number) * width)
        elif head == side.personal:
            found.append(int(number))
    return found
