"""Consents over HTTP: grant, renew, narrow, revoke, expire, and who has agreed to what."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from screening.access import Principal
from screening.consents import of_entity, of_subscriber
from screening.envelope import (
    PENDING,
    Envelope,
    WriteOut,
    answers,
    envelopes,
    refusals,
    tag,
    written,
)
from screening.problem import Refused
from screening.service import Service
from screening.statement import (
    ConsentOut,
    Expire,
    Grant,
    Narrow,
    Number,
    Renew,
    Revoke,
    Statement,
    called_number,
)

PAGE_LIMIT = 500


class ConsentsOut(BaseModel):
    """Consents, of one subscriber or one page of an entity's."""

    consents: list[ConsentOut]
    next: int | None = Field(None, description="The cursor of the next page: `after`; null: none.")


class StateOut(BaseModel):
    """Whether a write is in force."""

    sequence: int
    state: str


def consent_routes(
    app: FastAPI,
    service: Service,
    *,
    consent: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the routes; `consent` admits who may use them."""
    Holder = Annotated[Principal, Depends(consent)]  # noqa: N806
    Carried = Annotated[Envelope, Depends(envelopes(consent))]  # noqa: N806
    reads = answers(refusals_, problem, 429)
    region = service.settings.region

    def route(path: str, model: type[Statement], summary: str) -> None:
        async def state(response: Response, carried: Carried, stated: Statement) -> WriteOut:
            with refusals():
                called = called_number(stated.called, region=region)
                entity = await service.on_record(_entity_id, service, stated.entity)
                event = stated.event(called=called, entity=entity, now=time.time())
                return written(await carried.take(service, event), response)

        state.__annotations__["stated"] = Annotated[model, Body()]
        app.post(
            path,
            tags=["consents"],
            summary=summary,
            responses=PENDING | answers(refusals_, problem, 409, 412),
            operation_id=f"consent_{model.__name__.lower()}",
            response_model_exclude_none=True,
        )(state)

    route("/v1/consents", Grant, "A subscriber agrees to the calls of an entity.")
    route("/v1/consents/renew", Renew, "A consent goes on until another instant.")
    route("/v1/consents/narrow", Narrow, "Some categories of a consent are taken back.")
    route("/v1/consents/revoke", Revoke, "A consent is taken back: no such call from now on.")
    route("/v1/consents/expire", Expire, "A consent has come to its end.")

    @app.get(
        "/v1/consents",
        tags=["consents"],
        summary="The consents of a subscriber, or of an entity page by page.",
        description="Give `called` or `entity`. Pages of an entity are in the order of the "
        "ledger; each subscriber is on one of them, by the newest word on the entity. With "
        "`state` a page may have fewer than `limit`, even none: `next` says whether to go on.",
        responses=reads,
        response_model_exclude_none=True,
    )
    async def consents(
        response: Response,
        holder: Holder,
        called: Annotated[Number | None, Query()] = None,
        entity: Annotated[str | None, Query(max_length=64)] = None,
        state: Annotated[str | None, Query(pattern="^(granted|expired|revoked)$")] = None,
        after: Annotated[int, Query(ge=0, description="The cursor: `next` of a page.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
    ) -> ConsentsOut:
        after_next = None
        with refusals():
            if called is not None and entity is None:
                number = called_number(called, region=region)
                await service.may_look_up(holder, "consents.read", number)
                found, newest = await service.on_record(
                    lambda: of_subscriber(service.record(), number)
                )
                response.headers["ETag"] = tag(newest)
            elif entity is not None and called is None:
                await service.may_look_up(holder, "consents.read", entity, count=limit)
                found, after_next = await service.on_record(
                    lambda: of_entity(service.record(), entity, after, limit)
                )
            else:
                detail = "expected one of called and entity"
                raise Refused(422, "Invalid request", detail, field="called")
        if state is not None:
            found = [each for each in found if each.state == state]
        return ConsentsOut(consents=found, next=after_next)

    @app.get(
        "/v1/events/{sequence}",
        tags=["consents"],
        summary="Whether a write is in force yet.",
        responses={**refusals_, 404: problem, 503: problem},
    )
    async def event_state(
        _holder: Holder, sequence: Annotated[int, Path(ge=1, le=2**62)]
    ) -> StateOut:
        last = await service.on_record(_last_sequence, service)
        if sequence > last:
            raise Refused(404, "Not found", f"the ledger has {last} events", field="sequence")
        in_force = await service.on_record(service.registrar.in_force, sequence)
        return StateOut(sequence=sequence, state="in_force" if in_force else "pending")


def _last_sequence(service: Service) -> int:
    return service.record().ledger.last_sequence()


def _entity_id(service: Service, name: str) -> int:
    return service.record().entities.id_of(name)
