"""What subscribers set for themselves, over HTTP, and all that is held about one of them."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Path, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from consent.event import Event, EventKind
from consent.held import Held
from consent.number import parse_number
from screening.access import Principal
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
from screening.export import export, naming
from screening.service import Service
from screening.statement import (
    Number,
    Preferences,
    Reassign,
    RefuseAll,
    called_number,
    calling_number,
    personal_out,
)

PersonalAction = Literal["allow", "block"]


class PersonalOut(BaseModel):
    """The numbers whose calls a subscriber takes, and those whose it does not; 1,000 each."""

    allow: list[str]
    block: list[str] = Field(description='"anonymous" stands for whoever sends no number.')


def subscriber_routes(
    app: FastAPI,
    service: Service,
    *,
    consent: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the routes; `consent` admits who may use them."""
    Holder = Annotated[Principal, Depends(consent)]  # noqa: N806
    Subscriber = Annotated[Number, Path(description="The subscriber: E.164 with +.")]  # noqa: N806
    Calling = Annotated[Number, Path(description='A calling number, or "anonymous".')]  # noqa: N806
    Carried = Annotated[Envelope, Depends(envelopes(consent))]  # noqa: N806
    reads = answers(refusals_, problem, 429)
    region = service.settings.region
    writes: dict[str, Any] = {
        "tags": ["subscribers"],
        "responses": PENDING | answers(refusals_, problem, 409, 412),
        "response_model_exclude_none": True,
    }

    async def look_up(holder: Principal, action: str, number: str, response: Response) -> Held:
        with refusals():
            called = called_number(number, region=region, field="number")
            await service.may_look_up(holder, action, called)
            held = await service.on_record(lambda: service.record().ledger.held(called))
        response.headers["ETag"] = tag(held.sequence)
        return held

    async def take(
        carried: Envelope, response: Response, number: str, kind: EventKind, body: dict[str, Any]
    ) -> WriteOut:
        with refusals():
            if "calling" in body:
                body = body | {"calling": calling_number(body["calling"], region=region)}
            called = called_number(number, region=region, field="number")
            event = Event(0, time.time(), kind, called, body)
            return written(await carried.take(service, event), response)

    @app.get(
        "/v1/subscribers/{number}/preferences",
        tags=["subscribers"],
        summary="What a subscriber set for itself.",
        responses=reads,
    )
    async def preferences(holder: Holder, number: Subscriber, response: Response) -> Preferences:
        held = await look_up(holder, "preferences.read", number, response)
        return Preferences.of(held.preferences)

    @app.put(
        "/v1/subscribers/{number}/preferences",
        summary="Set the whole of what a subscriber wants.",
        **writes,
    )
    async def set_preferences(
        carried: Carried,
        response: Response,
        number: Subscriber,
        wish: Preferences,
    ) -> WriteOut:
        kind = EventKind.PREFERENCES_SET
        return await take(carried, response, number, kind, wish.body())

    @app.get(
        "/v1/subscribers/{number}/personal",
        tags=["subscribers"],
        summary="A subscriber's own allow and block list.",
        responses=reads,
    )
    async def personal(holder: Holder, number: Subscriber, response: Response) -> PersonalOut:
        held = await look_up(holder, "personal.read", number, response)
        return PersonalOut(**personal_out(held))

    @app.put(
        "/v1/subscribers/{number}/personal/{action}/{calling}",
        summary="Put a calling number on a subscriber's own list, off the other one.",
        **writes,
    )
    async def set_personal(
        carried: Carried,
        response: Response,
        number: Subscriber,
        action: PersonalAction,
        calling: Calling,
    ) -> WriteOut:
        body = {"calling": calling, "action": action}
        return await take(carried, response, number, EventKind.PERSONAL_SET, body)

    @app.delete(
        "/v1/subscribers/{number}/personal/{calling}",
        summary="Take a calling number off a subscriber's own lists.",
        **writes,
    )
    async def clear_personal(
        carried: Carried,
        response: Response,
        number: Subscriber,
        calling: Calling,
    ) -> WriteOut:
        body = {"calling": calling}
        return await take(carried, response, number, EventKind.PERSONAL_CLEARED, body)

    @app.post(
        "/v1/subscribers/{number}/refuse-all",
        summary="A subscriber refuses every commercial call; its consents are void.",
        **writes,
    )
    async def refuse_all(
        carried: Carried,
        response: Response,
        number: Subscriber,
        wish: RefuseAll | None = None,
    ) -> WriteOut:
        body = {"evidence": wish.evidence.kept() if wish else {}}
        kind = EventKind.REFUSED_ALL
        return await take(carried, response, number, kind, body)

    @app.post(
        "/v1/subscribers/{number}/reassign",
        summary="The number has another subscriber: what was decided before is void.",
        **writes,
    )
    async def reassign(
        carried: Carried,
        response: Response,
        number: Subscriber,
        wish: Reassign | None = None,
    ) -> WriteOut:
        body = {"since": int(wish.since.timestamp()) if wish and wish.since else 0}
        kind = EventKind.REASSIGNED
        return await take(carried, response, number, kind, body)

    @app.get(
        "/v1/subscribers/{number}/export",
        tags=["subscribers"],
        summary="Everything held about a subscriber, with the chain's entries as proof.",
        responses=reads,
    )
    async def exported(holder: Holder, number: Subscriber) -> dict[str, Any]:
        with refusals():
            called = called_number(number, region=region, field="number")
            await service.may_look_up(holder, "subscriber.exported", called)
            country = parse_number(number, region=region).country
            lists = await naming(service.reader, service.lists_in_force(), called, country=country)
            return await service.on_record(
                lambda: export(
                    service.record(), service.state.keyring, called, lists=lists, now=time.time()
                )
            )
