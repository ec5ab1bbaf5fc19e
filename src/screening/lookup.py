"""The lookup over HTTP: one ASGI application for POST and GET /v1/screen.

Kept apart from FastAPI's routes because nothing may be done for a call that could be done before
it: no dependency graph, no model building, metrics after the answer has left.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from screening.access import Client
from screening.contract import BODY_LIMIT_BYTES
from screening.decision_id import RecentCalls
from screening.metrics import Metrics
from screening.problem import problem
from screening.recall import Recall
from screening.screener import Decision, Question, Screener
from screening.wire import MalformedCall, read_json, read_query, write_answer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON: Final = (b"content-type", b"application/json")


class BodyTooLarge(Exception):
    """The body is longer than the contract's limit."""


class LookupEndpoint:
    """Answers /v1/screen; see `screening.contract` for what comes in and goes out."""

    def __init__(
        self,
        screener: Screener,
        metrics: Metrics,
        recall: Recall,
        *,
        client_of: Callable[[Scope], Client],
        region: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._screener = screener
        self._metrics = metrics
        self._recall = recall
        self._client_of = client_of
        self._region = region
        self._clock = clock
        self._now = now
        self._recent = RecentCalls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; every way out sends a complete response."""
        arrived = self._clock()
        try:
            question = await self._question(scope, receive)
        except MalformedCall as broken:
            self._metrics.malformed.labels(broken.field or "body").inc()
            refusal = problem(400, "Malformed question", str(broken), field=broken.field)
            await refusal(scope, receive, send)
            return
        except BodyTooLarge:
            self._metrics.malformed.labels("body").inc()
            detail = f"the body is longer than {BODY_LIMIT_BYTES} bytes"
            await problem(413, "Body too large", detail)(scope, receive, send)
            return
        except Exception as broken:  # noqa: BLE001 - a fault of ours must not fail the call
            question = Question()
            decision = self._screener.failed(broken)
        else:
            if question is None:
                refusal = problem(405, "Method not allowed", "expected GET or POST")
                refusal.headers["Allow"] = "GET, POST"
                await refusal(scope, receive, send)
                return
            decision = await self._screener.screen(question, arrived=arrived)
        elapsed = self._clock() - arrived
        body = write_answer(decision, latency_us=int(elapsed * 1e6))
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [_JSON, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})
        self._count(question, decision, elapsed)

    async def _question(self, scope: Scope, receive: Receive) -> Question | None:
        method = scope["method"]
        client = self._client_of(scope)
        if method == "POST":
            body = await _body(scope, receive)
            return read_json(body, client=client, region=self._region, now=self._now())
        if method == "GET":
            query = scope["query_string"]
            return read_query(query, client=client, region=self._region, now=self._now())
        return None

    def _count(self, question: Question, decision: Decision, elapsed: float) -> None:
        metrics = self._metrics
        verdict = decision.verdict
        metrics.decision_seconds.observe(elapsed)
        if decision.facts_seconds is not None:
            metrics.facts_seconds.observe(decision.facts_seconds)
        for name in question.ignored:
            metrics.ignored.labels(name).inc()
        if decision.internal_error:
            metrics.internal_errors.inc()
        for rule in verdict.errors:
            metrics.rule_errors.labels(rule, verdict.ruleset).inc()
        if question.call.call_id and self._recent.attempt(decision.decision_id, self._clock()) > 1:
            metrics.repeats.inc()
            return
        self._recall.offer(question, decision)
        metrics.decided(verdict.action.word, verdict.cause, verdict.rule, verdict.ruleset)
        if verdict.degraded:
            metrics.degraded.inc()
        for hit in verdict.shadow:
            metrics.shadow.labels(hit.action.word, hit.rule, verdict.ruleset).inc()


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, at most the contract's limit; the rest is not read."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if len(declared) > 12 or (declared.isdigit() and int(declared) > BODY_LIMIT_BYTES):
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedCall("", "the connection was closed before the body was whole")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            raise BodyTooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
