"""Complaints, the ladder, appeals and the called party's view, over HTTP."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from consent.complaint import Complaint, ComplaintError, Rejects, complaint_from, read_ndjson
from consent.keyring import Keyring
from consent.record import Appeal, RecordConflict, RecordError, Stepped
from screening.access import Principal
from screening.envelope import refusals
from screening.notices import texts
from screening.problem import Refused
from screening.service import Service
from screening.statement import Number, called_number, instant, shown_number

MOST_BYTES = 4 << 20
"""Of a request of complaints."""


class ComplaintIn(BaseModel):
    """A called party complains of a call."""

    model_config = ConfigDict(extra="forbid")

    calling: str | None = Field(None, description="Who called; may be left out with decision_id.")
    called: str = Field(description="Who complains.")
    at: datetime | None = Field(None, description="When it rang, with offset; now when left out.")
    category: str | None = None
    text: str | None = None
    decision_id: str | None = None


class ComplaintOut(BaseModel):
    """What became of a complaint."""

    id: int | None = Field(description="null: this complainant had complained of it that day.")
    matched: bool = Field(description="Whether its call is in the decision record.")
    decision_id: str | None = None
    stage: str | None = Field(None, description="The stage of the ladder that it brought about.")


class StepOut(BaseModel):
    """A step of the ladder."""

    sequence: int
    reference: str
    at: datetime
    entity: str = Field(description='Its name; "" where the step is about a number.')
    number: str = Field(description='The token of the number, "" where it is about an entity.')
    jurisdiction: str
    step: str
    stage: str
    in_force: str
    weight: float
    complainants: int
    reverses: int
    reason: str
    ladder: str
    notice: dict[str, str]


class Reversal(BaseModel):
    """Why a step is undone."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=400)


class AppealIn(BaseModel):
    """What is appealed: a decision by its id (the redress id of the SIP answer), or a step."""

    model_config = ConfigDict(extra="forbid")

    decision_id: str = Field("", max_length=64)
    step: int = Field(0, ge=0, description="Sequence of a step, the number of its reference.")
    text: str = Field("", max_length=4000)


class Judgement(BaseModel):
    """How an appeal ends."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["upheld", "rejected"]
    reason: str = Field(min_length=1, max_length=400)
    calling: Number | None = Field(
        None,
        description="With called: allow this caller there; alone: except it from network lists.",
    )
    called: Number | None = None


class AppealOut(BaseModel):
    """An appeal."""

    id: int
    opened: datetime
    due: datetime
    late: bool
    jurisdiction: str
    decision_id: str
    step: int
    rule: str
    category: str
    cause: str
    outcome: str
    effect: str
    reason: str
    decided: datetime | None


class Wanted(BaseModel):
    """The called party wanted this call."""

    model_config = ConfigDict(extra="forbid")

    calling: Number | None = Field(
        None, description="Who called; may be left out where an entity answers for the number."
    )


class Nuisance(BaseModel):
    """The called party did not want this call."""

    model_config = ConfigDict(extra="forbid")

    category: str | None = None
    text: str | None = None


@contextmanager
def refusals_of_appeals() -> Iterator[None]:
    """What cannot be appealed or decided, as problem documents."""
    with refusals():
        try:
            yield
        except RecordConflict as conflict:
            raise Refused(409, "Done before", str(conflict), field=conflict.field) from None


def step_out(step: Stepped, names: dict[int, str], keyring: Keyring) -> StepOut:
    """A step for people and programs."""
    return StepOut(
        sequence=step.sequence,
        reference=step.reference,
        at=instant(step.at),
        entity=names.get(step.party.entity, ""),
        number=keyring.token(step.party.number) if step.party.number else "",
        jurisdiction=step.jurisdiction,
        step=step.step,
        stage=step.stage,
        in_force=step.in_force,
        weight=step.weight,
        complainants=step.complainants,
        reverses=step.reverses,
        reason=step.reason,
        ladder=step.ladder,
        notice=texts(step),
    )


def appeal_out(appeal: Appeal, *, now: float) -> AppealOut:
    """An appeal for people and programs."""
    against = appeal.against
    return AppealOut(
        id=appeal.id,
        opened=instant(appeal.opened),
        due=instant(appeal.due),
        late=appeal.late(now),
        jurisdiction=against.jurisdiction,
        decision_id=against.decision_id,
        step=against.step,
        rule=against.rule,
        category=against.category,
        cause=against.cause,
        outcome=appeal.outcome,
        effect=appeal.effect,
        reason=appeal.reason,
        decided=None if appeal.decided is None else instant(appeal.decided),
    )


def conduct_routes(
    app: FastAPI,
    service: Service,
    *,
    consent: Callable[[Request], Awaitable[Principal]],
    operator: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the routes; `consent` speaks for called parties, `operator` runs the ladder."""
    Holder = Annotated[Principal, Depends(consent)]  # noqa: N806
    Operator = Annotated[Principal, Depends(operator)]  # noqa: N806
    Subscriber = Annotated[Number, Path(description="The subscriber: E.164 with +.")]  # noqa: N806
    Month = Annotated[str, Query(description="Such as 2026-11.")]  # noqa: N806
    region = service.settings.region
    conduct, appellate = service.ladder, service.appellate
    answers = {**refusals_, 409: problem, 422: problem, 503: problem}

    async def complained(
        complaints: list[Complaint],
    ) -> list[ComplaintOut]:
        heard = await service.on_record(conduct.complain, complaints)
        # Of the signals only what was called: who names any number must not give it a rate.
        told = [
            {"calling": said.calling, "entity": each.kept.entity, "trunk": ""}
            for said, each in zip(complaints, heard, strict=True)
            if each.kept is not None and each.kept.decision_id
        ]
        if told:
            service.outbox.tell("complaints", told)
        if any(each.step for each in heard):
            await service.follow_record()
        return [
            ComplaintOut(
                id=each.kept.id if each.kept else None,
                matched=bool(each.kept and each.kept.decision_id),
                decision_id=(each.kept.decision_id or None) if each.kept else None,
                stage=each.step.stage if each.step and each.step.step == "raised" else None,
            )
            for each in heard
        ]

    @app.post(
        "/v1/complaints",
        tags=["conduct"],
        summary="A called party complains: one as JSON, many as NDJSON, a line each.",
        responses=answers,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": ComplaintIn.model_json_schema()},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            }
        },
    )
    async def complain(request: Request, holder: Holder) -> dict[str, Any]:
        body = await request.body()
        if len(body) > MOST_BYTES:
            raise Refused(413, "Too large", f"expected at most {MOST_BYTES} bytes of complaints")
        now, source = time.time(), f"api:{holder.name}"
        if "ndjson" in request.headers.get("Content-Type", ""):
            rejects = Rejects()
            lines = read_ndjson(
                body.splitlines(), region=region, now=now, source=source, rejects=rejects
            )
            outs = await complained(list(lines))
            return {
                "kept": sum(each.id is not None for each in outs),
                "repeated": sum(each.id is None for each in outs),
                "matched": sum(each.matched for each in outs),
                "rejected": rejects.count,
                "first_rejects": [
                    {"line": line, "reason": reason} for line, reason in rejects.first
                ],
            }
        try:
            fields = json.loads(body)
            if not isinstance(fields, dict):
                raise ComplaintError("expected a JSON object")
            fields.setdefault("at", instant(now).isoformat())
            complaint = complaint_from(fields, region=region, now=now, source=source)
        except ValueError as refused:
            said = str(refused) if isinstance(refused, ComplaintError) else "the body is no JSON"
            raise Refused(422, "Refused", said, field=said.partition(":")[0]) from None
        return (await complained([complaint]))[0].model_dump()

    @app.get(
        "/v1/complaints",
        tags=["conduct"],
        summary="The complaints, newest first; parties by their tokens.",
        responses=answers,
    )
    async def complaints(
        _holder: Operator,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: int | None = None,
    ) -> dict[str, Any]:
        found = await service.on_record(
            lambda: service.record().complaints.latest(limit, before=before)
        )
        return {
            "complaints": [
                {
                    "id": each.id,
                    "at": instant(each.at),
                    "complainant": each.complainant,
                    "caller": each.caller,
                    "jurisdiction": each.jurisdiction,
                    "entity": each.entity,
                    "category": each.category,
                    "decision_id": each.decision_id,
                    "authenticated": each.authenticated,
                    "void": each.void,
                    "source": each.source,
                }
                for each in found
            ]
        }

    @app.get(
        "/v1/complaints/shares",
        tags=["conduct"],
        summary="Complaints of a month by category, as regulators publish them.",
        responses=answers,
    )
    async def shares(_holder: Operator, month: Month, jurisdiction: str = "") -> dict[str, Any]:
        with refusals():
            counts = await service.on_record(
                lambda: service.record().complaints.shares(month, jurisdiction)
            )
        total = sum(counts.values())
        return {
            "month": month,
            "complaints": total,
            "shares": [
                {"category": name, "complaints": count, "share": round(count / total, 4)}
                for name, count in counts.items()
            ],
        }

    # The ladder

    def names() -> dict[int, str]:
        return {each.id: each.name for each in service.record().entities.all(status=None)}

    @app.get(
        "/v1/ladder",
        tags=["conduct"],
        summary="The steps of the ladder with their notices, of one entity or of all parties.",
        responses=answers,
    )
    async def ladder(_holder: Operator, entity: str = "") -> dict[str, list[StepOut]]:
        def read() -> list[StepOut]:
            record, known = service.record(), names()
            keyring = service.state.keyring
            return [step_out(each, known, keyring) for each in record.steps_of(entity)]

        with refusals():
            return {"steps": await service.on_record(read)}

    @app.post(
        "/v1/ladder/{sequence}/reverse",
        tags=["conduct"],
        summary="Undo a step with everything that it caused.",
        responses=answers,
    )
    async def reverse(holder: Operator, sequence: int, wish: Reversal) -> StepOut:
        with refusals():
            step = await service.on_record(
                conduct.reverse, sequence, reason=wish.reason, actor=holder.name
            )
            known = await service.on_record(names)
        await service.follow_record()
        return step_out(step, known, service.state.keyring)

    # Appeals

    @app.post(
        "/v1/appeals",
        tags=["conduct"],
        summary="Appeal against a decision or a step; the ladder waits meanwhile.",
        responses=answers,
        status_code=201,
    )
    async def appeal(holder: Holder, wish: AppealIn) -> AppealOut:
        if bool(wish.decision_id) == bool(wish.step):
            raise Refused(422, "Refused", "expected either decision_id or step", field="step")
        try:
            with refusals_of_appeals():
                opened = await service.on_record(
                    lambda: appellate.open(
                        decision_id=wish.decision_id,
                        step=wish.step,
                        text=wish.text,
                        actor=holder.name,
                    )
                )
        finally:
            await service.follow_record()
        return appeal_out(opened, now=time.time())

    @app.get("/v1/appeals", tags=["conduct"], summary="Appeals, newest first.", responses=answers)
    async def appeals(
        _holder: Operator,
        open_only: bool = False,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, list[AppealOut]]:
        found = await service.on_record(
            lambda: service.record().appeals.latest(limit, open_only=open_only)
        )
        return {"appeals": [appeal_out(each, now=time.time()) for each in found]}

    @app.get("/v1/appeals/{appeal_id}", tags=["conduct"], summary="One appeal.", responses=answers)
    async def one_appeal(_holder: Holder, appeal_id: int) -> AppealOut:
        with refusals_of_appeals():
            found = await service.on_record(lambda: service.record().appeals.get(appeal_id))
        return appeal_out(found, now=time.time())

    @app.post(
        "/v1/appeals/{appeal_id}/decide",
        tags=["conduct"],
        summary="Uphold or reject an appeal.",
        responses=answers,
    )
    async def decide(holder: Operator, appeal_id: int, wish: Judgement) -> AppealOut:
        with refusals_of_appeals():
            given = wish.calling
            calling = shown_number(given, region=region, field="calling") if given else 0
            called = called_number(wish.called, region=region) if wish.called else 0
            decided = await service.on_record(
                appellate.decide,
                appeal_id,
                outcome=wish.outcome,
                reason=wish.reason,
                calling=calling,
                called=called,
                actor=holder.name,
            )
        await service.follow_record()
        await service.count_false_positives()
        return appeal_out(decided, now=time.time())

    # The called party's view

    @app.get(
        "/v1/subscribers/{number}/screened",
        tags=["subscribers"],
        summary="What was blocked or warned of for a subscriber, and why.",
        responses={**answers, 429: problem},
    )
    async def screened(
        holder: Holder, number: Subscriber, days: Annotated[float, Query(gt=0, le=31)] = 3
    ) -> dict[str, Any]:
        with refusals():
            called = called_number(number, region=region, field="number")
        await service.may_look_up(holder, "screened.read", called)
        return {"calls": await service.on_record(conduct.screened, called, days)}

    @app.post(
        "/v1/subscribers/{number}/screened/{decision_id}/wanted",
        tags=["subscribers"],
        summary="I wanted this call: its caller is allowed from now on, a false positive counted.",
        responses=answers,
    )
    async def wanted(
        holder: Holder, number: Subscriber, decision_id: str, wish: Wanted | None = None
    ) -> dict[str, Any]:
        with refusals_of_appeals():
            called = called_number(number, region=region, field="number")
            given = wish.calling if wish else None
            calling = shown_number(given, region=region, field="calling") if given else 0
            counted = await service.on_record(
                appellate.wanted, decision_id, called=called, calling=calling, actor=holder.name
            )
        await service.count_false_positives()
        return {"allowed": True, "counted": counted is not None}

    @app.post(
        "/v1/subscribers/{number}/screened/{decision_id}/nuisance",
        tags=["subscribers"],
        summary="This was nuisance: a complaint about a call of the record.",
        responses=answers,
    )
    async def nuisance(
        holder: Holder, number: Subscriber, decision_id: str, wish: Nuisance | None = None
    ) -> ComplaintOut:
        with refusals():
            called = called_number(number, region=region, field="number")
            call = await service.on_record(appellate.decision, decision_id)
            if call["called"] not in service.state.keyring.tokens(called):
                raise RecordError("the decision is about a call to another number", field="number")
        complaint = Complaint(
            calling=0,
            called=called,
            at=call["instant"],
            category=(wish.category if wish else None) or "",
            text=(wish.text if wish else None) or "",
            decision_id=decision_id,
            source=f"api:{holder.name}",
        )
        return (await complained([complaint]))[0]
