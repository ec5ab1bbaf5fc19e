"""What every write over HTTP carries beside its body, and what it gets back."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Header, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from consent.event import Event
from consent.record import Once, RecordConflict, RecordError
from screening.access import Principal
from screening.problem import Refused
from screening.registrar import Taken
from screening.service import Service
from screening.statement import instant, plain

_TAG: Final = re.compile(r'"(\d{1,18})"')
_KEY: Final = re.compile(r"[!-~]{1,255}")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Names this request among yours: sent again, it is answered and not done "
        "again. For another request the same key is refused with 409.",
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The ETag that the decision rests on: refused with 412 if it has changed.",
    ),
]


class WriteOut(BaseModel):
    """What became of a write."""

    sequence: int = Field(description="Of the ledger; 0 where there was nothing to change.")
    state: Literal["in_force", "pending"] = Field(
        description="in_force: every call from now on is decided by it. pending: committed, and "
        "in force by itself once the index is back; GET /v1/events/{sequence} says when."
    )
    event: str | None = Field(None, description="The kind of ledger event.")
    at: datetime | None = Field(None, description="When it was decided.")
    categories: list[str] | None = Field(None, description="What a consent now covers.")
    expires_at: datetime | None = Field(None, description="Until when; null: until revoked.")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who writes, under which key, resting on what."""

    actor: str
    once: Once | None
    rests_on: int | None

    async def take(self, service: Service, event: Event) -> Taken:
        """Commit a decision and bring it into force. Raises what `Registrar.take` raises."""
        unchanged = None if self.rests_on is None else {event.called: self.rests_on}
        return await service.take([event], actor=self.actor, once=self.once, unchanged=unchanged)


def envelopes(
    holder: Callable[[Request], Awaitable[Principal]],
) -> Callable[..., Awaitable[Envelope]]:
    """A dependency: the envelope of a request, whose sender `holder` admits.

    Raises Refused for headers that cannot be used.
    """

    async def envelope(
        request: Request,
        who: Annotated[Principal, Depends(holder)],
        key: IdempotencyKey = None,
        if_match: IfMatch = None,
    ) -> Envelope:
        once = rests_on = None
        if key is not None:
            if not _KEY.fullmatch(key):
                detail = "Idempotency-Key is not 1 to 255 visible characters of ASCII"
                raise Refused(422, "Invalid request", detail, field="Idempotency-Key")
            content = f"{request.method} {request.url.path}\n".encode() + await request.body()
            once = Once(who.name, key, content)
        if if_match is not None:
            tag = _TAG.fullmatch(if_match.strip())
            if tag is None:
                detail = 'If-Match is no entity tag of ours, such as "17"'
                raise Refused(422, "Invalid request", detail, field="If-Match")
            rests_on = int(tag[1])
        return Envelope(who.name, once, rests_on)

    return envelope


@contextmanager
def refusals() -> Iterator[None]:
    """What the record refuses, as problem documents that name the field."""
    try:
        yield
    except RecordConflict as conflict:
        if conflict.field == "key":
            raise Refused(409, "Key used before", str(conflict), field="Idempotency-Key") from None
        raise Refused(412, "Changed meanwhile", str(conflict), field="If-Match") from None
    except RecordError as refused:
        detail, field = plain(refused)
        raise Refused(422, "Refused", detail, **({"field": field} if field else {})) from None


def written(taken: Taken, response: Response, **members: Any) -> WriteOut:
    """The answer to a write: 202 while it is pending, else the status of the route."""
    if not taken.in_force:
        response.status_code = 202
        response.headers["Location"] = f"/v1/events/{taken.sequence}"
    if taken.sequence:
        response.headers["ETag"] = tag(taken.sequence)
    state: Literal["in_force", "pending"] = "in_force" if taken.in_force else "pending"
    if not taken.events:
        return WriteOut(sequence=0, state=state, **members)
    newest = taken.events[-1]
    expires = newest.body.get("expires")
    return WriteOut(
        sequence=taken.sequence,
        state=state,
        event=newest.kind,
        at=instant(newest.at),
        categories=newest.body.get("categories"),
        expires_at=instant(expires) if expires else None,
        **members,
    )


def tag(sequence: int) -> str:
    """The entity tag of what a number's newest event left."""
    return f'"{sequence}"'


def answers(
    refusals_: Mapping[int | str, Any], problem: Mapping[str, Any], *also: int
) -> dict[int | str, dict[str, Any]]:
    """How a route may answer beside success, for its description."""
    return {**refusals_, **{status: dict(problem) for status in (*also, 422, 503)}}


PENDING: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": WriteOut, "description": "Committed; in force once the index is back."}
}
