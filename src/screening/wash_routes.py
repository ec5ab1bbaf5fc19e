"""Washing over HTTP: numbers in, what each is to the entity out, limited and accounted for."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from consent.category import Category
from consent.record import Entity
from screening.access import Principal, Role
from screening.bulk_routes import NDJSON
from screening.envelope import refusals
from screening.limit import Limit
from screening.problem import Refused
from screening.service import Service
from screening.wash import (
    MOST_NUMBERS,
    Answer,
    account,
    calling_of,
    counts_of,
    read_lines,
    wash,
)

BODY_LIMIT_BYTES: Final = 64 * MOST_NUMBERS
DAY_SECONDS: Final = 86_400


def wash_routes(
    app: FastAPI,
    service: Service,
    *,
    washer: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the route; `washer` admits who may use it."""
    settings = service.settings
    # A tenth of the day's at once, which a campaign's first list may be.
    burst = max(1, settings.wash_numbers_per_day // 10)
    limit = Limit(burst, seconds=burst * DAY_SECONDS / settings.wash_numbers_per_day)

    @app.post(
        "/v1/wash",
        tags=["washing"],
        summary="What calls of an entity to some numbers would come to, before they are dialled.",
        description=f"A number a line, {MOST_NUMBERS:,} at most: as JSON text, as an object with "
        "`called`, or bare. Each is decided by the rules in force, as a call of the entity at "
        "`at` would be: `refused` where it would be blocked, with the cause (`time_band` hangs "
        "on `at`), `consented` where a consent permits it, else `callable`; `unknown` while the "
        "index cannot be read: ask again, do not call. An answer holds for the instant.\n\n"
        "A key with the role `wash` washes for the entity of its own name, or one that it is a "
        "delegate of. Each entity has a limit for the day, of which a tenth can be asked at "
        "once; beyond it 429. Who washed how much for whom is kept.",
        responses={
            **refusals_,
            200: {
                "description": "A line a number, in their order",
                "content": {
                    NDJSON: {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "called": {"type": "string"},
                                "answer": {"type": "string", "enum": [str(a) for a in Answer]},
                                "cause": {"type": "string"},
                                "error": {"type": "string"},
                            },
                        }
                    }
                },
            },
            413: problem,
            422: problem,
            429: problem,
            503: problem,
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {NDJSON: {"schema": {"type": "string"}, "example": '"+447700900123"'}},
            }
        },
        response_class=Response,
    )
    async def washed(
        request: Request,
        holder: Annotated[Principal, Depends(washer)],
        entity: Annotated[str, Query(max_length=64, description="Who would call.")],
        category: Annotated[Category, Query(description="What for.")],
        calling: Annotated[
            str, Query(max_length=64, description="From which of its numbers; else its first.")
        ] = "",
        at: Annotated[
            AwareDatetime | None, Query(description="When it would call; now when absent.")
        ] = None,
        mode: Literal["voice", "autodialler", "prerecorded"] = "voice",
    ) -> Response:
        with refusals():
            caller, number = await service.on_record(
                lambda: calling_of(service.record(), entity, calling, region=settings.region)
            )
            await service.on_record(_expect_own, service, holder, caller)
            numbers = read_lines(await _body(request))
        wait = limit.take(entity, len(numbers)) if len(numbers) <= burst else DAY_SECONDS
        if wait:
            service.metrics.washed.labels("limited").inc(len(numbers))
            detail = f"{entity!r} may wash {settings.wash_numbers_per_day:,} numbers a day"
            detail += f", {burst:,} of them at once"
            raise Refused(429, "Too many numbers", detail, retry_after=wait)
        found = await wash(
            service.screener,
            numbers,
            calling=number,
            category=category,
            region=settings.region,
            at=time.time() if at is None else at.timestamp(),
            mode=mode,
        )
        counts = counts_of(found)
        caught = await service.on_record(service.honey.among, numbers)
        await service.on_record(
            account, service.state, holder.name, entity, str(category), counts, caught
        )
        for answer, count in counts.items():
            service.metrics.washed.labels(answer).inc(count)
        service.metrics.honey_washed.inc(len(caught))
        return Response(b"".join(each.text() for each in found), media_type=NDJSON)


def _expect_own(service: Service, holder: Principal, entity: Entity) -> None:
    """Raises Refused where a key that may only wash asks for another's."""
    if any(map(holder.has, (Role.OPERATE, Role.CONSENT))) or holder.name == entity.name:
        return
    delegates = service.record().entities.all()
    if any(each.name == holder.name and each.acts_for == entity.id for each in delegates):
        return
    detail = f"the key {holder.name!r} may wash for the entity {holder.name!r} alone"
    raise Refused(403, "Not this entity", detail, field="entity")


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            detail = f"the body is longer than {BODY_LIMIT_BYTES:,} bytes"
            raise Refused(413, "Body too large", detail)
        chunks.append(chunk)
    return b"".join(chunks)
