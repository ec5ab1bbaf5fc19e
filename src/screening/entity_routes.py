"""Entities over HTTP: who calls for commercial reasons, from which numbers, and who for it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from consent.category import Category
from consent.entity import EntityStatus
from consent.record import Entity
from screening.access import Principal
from screening.envelope import refusals
from screening.problem import Refused
from screening.service import Service
from screening.statement import Number, shown_number

Name = Annotated[str, Path(max_length=64, description="The entity's name.")]


class Range(BaseModel):
    """Numbers one after the other, both ends included."""

    model_config = ConfigDict(extra="forbid")

    first: Number
    last: Number


class EntityIn(BaseModel):
    """The whole of an entity: it replaces what was there."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(max_length=200, description="Its name for people.")
    categories: list[Category] = Field(
        default_factory=list, description="Its trades. With one, its calls are for that."
    )
    numbers: list[Number] = Field(
        default_factory=list, max_length=10_000, description="Calling numbers it may use."
    )
    ranges: list[Range] = Field(
        default_factory=list, max_length=10_000, description="And ranges of them."
    )
    status: EntityStatus = EntityStatus.ACTIVE
    acts_for: str = Field(
        "",
        description="The entity that this telemarketer calls for: calls from its numbers are that "
        "one's, and so are the consents that permit them. Register one that calls for several "
        "once for each.",
    )


class EntityOut(EntityIn):
    """An entity."""

    id: int
    name: str
    delegates: list[str] = Field(description="Telemarketers that call for it.")


class EntitiesOut(BaseModel):
    """All of them."""

    entities: list[EntityOut]


def entity_routes(
    app: FastAPI,
    service: Service,
    *,
    reader: Callable[[Request], Awaitable[Principal]],
    operator: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the routes; `reader` admits who may see entities, `operator` who may change them."""
    reads = {**refusals_, 404: problem, 503: problem}
    region = service.settings.region

    @app.get(
        "/v1/entities",
        tags=["entities"],
        summary="The entities, suspended ones too.",
        responses=reads,
    )
    async def entities(_holder: Annotated[Principal, Depends(reader)]) -> EntitiesOut:
        known = await service.on_record(_all, service)
        return EntitiesOut(entities=[entity_out(each, known) for each in known])

    @app.get("/v1/entities/{name}", tags=["entities"], summary="One entity.", responses=reads)
    async def entity(
        _holder: Annotated[Principal, Depends(reader)], name: Name, response: Response
    ) -> EntityOut:
        known = await service.on_record(_all, service)
        found = next((each for each in known if each.name == name), None)
        if found is None:
            raise Refused(404, "Not found", f"no entity {name!r} is registered", field="name")
        response.headers["ETag"] = f'"{found.version}"'
        return entity_out(found, known)

    @app.put(
        "/v1/entities/{name}",
        tags=["entities"],
        summary="Register an entity, or replace what is registered of it.",
        description="In force on this node when it is answered, on every other within its watch "
        "interval. With If-Match only over the version whose ETag it is.",
        responses={**reads, 412: problem, 422: problem},
    )
    async def put_entity(
        holder: Annotated[Principal, Depends(operator)],
        name: Name,
        wish: EntityIn,
        response: Response,
        if_match: Annotated[str | None, Header(alias="If-Match")] = None,
    ) -> EntityOut:
        with refusals():
            made = await service.on_record(
                lambda: service.record().entities.put(
                    name,
                    title=wish.title,
                    categories=map(str, wish.categories),
                    numbers=[
                        shown_number(each, region=region, field=f"numbers.{n}")
                        for n, each in enumerate(wish.numbers)
                    ],
                    ranges=[
                        (
                            shown_number(each.first, region=region, field=f"ranges.{n}.first"),
                            shown_number(each.last, region=region, field=f"ranges.{n}.last"),
                        )
                        for n, each in enumerate(wish.ranges)
                    ],
                    status=wish.status,
                    acts_for=wish.acts_for,
                    unchanged=None if if_match is None else if_match.strip().strip('"'),
                    actor=holder.name,
                )
            )
        await service.follow_record()
        response.headers["ETag"] = f'"{made.version}"'
        return entity_out(made, await service.on_record(_all, service))


def _all(service: Service) -> list[Entity]:
    return service.record().entities.all(status=None)


def entity_out(entity: Entity, known: list[Entity]) -> EntityOut:
    """An entity for people and programs; `known` are all of them."""
    names = {each.id: each.name for each in known}
    return EntityOut(
        id=entity.id,
        name=entity.name,
        title=entity.title,
        categories=[Category(each) for each in entity.categories],
        numbers=[f"+{each}" for each in entity.numbers],
        ranges=[Range(first=f"+{low}", last=f"+{high}") for low, high in entity.ranges],
        status=entity.status,
        acts_for=names.get(entity.acts_for, ""),
        delegates=[each.name for each in known if each.acts_for == entity.id],
    )
