"""The same decision behind FastAPI as its documentation has it: pydantic models in and out.

    python -m benchmarks.peers.fastapi_peer PORT      # settings as of the service

A fair one: one route, no dependencies, no middleware, uvicorn with httptools and uvloop, the
answer serialised by pydantic itself; the screener, its index reader and its metrics are those of
the service.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from consent.emergency import is_emergency
from consent.number import parse_number
from rules.verdict import Action
from screening.contract import Answer
from screening.screener import Decision, Question
from screening.service import Service
from screening.settings import Settings
from screening.state import open_state

NUMBERS = ("calling", "called", "dialled", "presentation", "diverted_from", "original_called")


class Asked(BaseModel):
    """The question: what switches send of the lookup contract."""

    calling: str = ""
    called: str
    dialled: str = ""
    call_id: str = ""
    presentation: str = ""
    diverted_from: str = ""
    original_called: str = ""
    attestation: Literal["", "A", "B", "C"] = ""
    verstat: str = ""
    route: Literal["", "national", "international"] = ""
    side: Literal["", "originating", "terminating"] = ""
    mode: Literal["voice", "autodialler", "prerecorded"] = "voice"
    region: str = ""
    display_name: str = ""


def question_of(asked: Asked, *, now: float) -> Question:
    """The model as the screener takes it."""
    question = Question()
    call = question.call
    region = call.region = asked.region
    call.at = now
    question.emergency = any(
        number and is_emergency(number, region=region) for number in (asked.called, asked.dialled)
    )
    for name in NUMBERS:
        if text := getattr(asked, name):
            setattr(call, name, parse_number(text, region=region))
    for name in ("call_id", "attestation", "verstat", "route", "side", "mode", "display_name"):
        setattr(call, name, getattr(asked, name))
    call.vouched = True
    return question


def answer_of(decision: Decision, *, latency_us: int) -> Answer:
    """What the screener decided as the model."""
    verdict, ruleset = decision.verdict, decision.ruleset
    sip: dict[str, Any] | None = None
    q850 = None
    if verdict.action is Action.BLOCK and ruleset is not None:
        filled = ruleset.answer(verdict.cause).filled(
            decision_id=decision.decision_id, redress=ruleset.redress
        )
        q850 = filled.q850
        sip = {
            "code": filled.code,
            "phrase": filled.phrase,
            "reason": filled.reason or None,
            "headers": filled.headers,
        }
    return Answer.model_validate(
        {
            "action": verdict.action.word,
            "cause": verdict.cause,
            "rule": verdict.rule,
            "ruleset": verdict.ruleset,
            "decision_id": decision.decision_id,
            "degraded": verdict.degraded,
            "sip": sip,
            "q850": q850,
            "label": verdict.label,
            "redress": (ruleset.redress or None) if ruleset is not None else None,
            "shadow": [{"rule": hit.rule, "action": hit.action.word} for hit in verdict.shadow],
            "latency_us": latency_us,
        }
    )


def create_app(service: Service) -> FastAPI:
    """One route over a service's screener and metrics."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/screen")
    async def screen(asked: Asked) -> Answer:
        arrived = time.monotonic()
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        question = question_of(asked, now=time.time())
        service.screener.screen(question, arrived=arrived, done=decided.set_result)
        decision = await decided
        elapsed = time.monotonic() - arrived
        service.metrics.decision_seconds.observe(elapsed)
        verdict = decision.verdict
        service.metrics.decisions.count(
            (verdict.action.word, verdict.cause, verdict.rule, verdict.ruleset)
        )
        return answer_of(decision, latency_us=int(elapsed * 1e6))

    @app.get("/readyz")
    async def readyz() -> dict[str, bool]:
        return {"ready": service.readiness()[0]}

    return app


def main() -> None:
    """Serve until SIGTERM."""
    with open_state(Settings()) as state:
        app = create_app(Service(state))
        uvicorn.run(
            app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False,
            log_level="warning", backlog=4096,
        )  # fmt: skip


if __name__ == "__main__":
    main()
