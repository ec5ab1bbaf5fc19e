"""The warnings of the watch over HTTP: the list, and what people say of one."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from consent.record import RecordConflict
from screening.access import Principal
from screening.envelope import refusals
from screening.problem import Refused
from screening.service import Service
from screening.watching.warned import shown


class WarningOut(BaseModel):
    """A campaign that the watch found; a number or block is a token. Instants are epoch seconds."""

    id: str
    kind: Literal["number", "block", "entity", "trunk", "neighbours"]
    party: str
    since: float = Field(description="Since when the party departs from its own history.")
    at: float
    about: dict[str, Any] = Field(description="Score, how sure, counts, example decisions.")
    rule: str = Field(description="A rule in shadow mode to try, as TOML.")
    state: Literal["open", "acknowledged", "dismissed"]
    reason: str
    decided: float | None
    decided_by: str


class Judged(BaseModel):
    """What becomes of a warning, and why."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["acknowledged", "dismissed"]
    reason: str = Field(min_length=1, max_length=400)


def watch_routes(
    app: FastAPI,
    service: Service,
    *,
    operator: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the routes."""
    Operator = Annotated[Principal, Depends(operator)]  # noqa: N806
    answers = {**refusals_, 409: problem, 422: problem, 503: problem}

    @app.get(
        "/v1/warnings",
        tags=["conduct"],
        summary="Campaigns that the watch found, newest first.",
        responses=answers,
    )
    async def warnings(
        _holder: Operator,
        state: Literal["", "open", "acknowledged", "dismissed"] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, list[WarningOut]]:
        found = await service.on_record(
            lambda: service.record().warnings.latest(limit, state=state)
        )
        return {"warnings": [WarningOut(**shown(each)) for each in found]}

    @app.post(
        "/v1/warnings/{warning_id}",
        tags=["conduct"],
        summary="Acknowledge or dismiss a warning; of a dismissed one's party the watch is quiet.",
        responses=answers,
    )
    async def judge(holder: Operator, warning_id: str, wish: Judged) -> WarningOut:
        with refusals():
            try:
                judged = await service.on_record(
                    lambda: service.record().warnings.decide(
                        warning_id, wish.state, reason=wish.reason, actor=holder.name
                    )
                )
            except RecordConflict as conflict:
                raise Refused(409, "Done before", str(conflict), field=conflict.field) from None
        return WarningOut(**shown(judged))
