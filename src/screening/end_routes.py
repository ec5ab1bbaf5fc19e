"""Ends of calls over HTTP: one as JSON, many as NDJSON."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, FastAPI, Request
from starlette.responses import Response

from screening.access import Principal
from screening.bulk_routes import NDJSON
from screening.call_ends import FIELDS, EndReport
from screening.problem import Refused
from screening.service import Service

LINES_LIMIT: Final = 10_000
BODY_LIMIT_BYTES: Final = 4 * 1024 * 1024


def end_routes(
    app: FastAPI,
    service: Service,
    *,
    teller: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the route; `teller` admits who may use it."""
    line = {
        "type": "object",
        "required": ["calling", "called", "answered"],
        "properties": {
            name: {
                "type": {"answered": "boolean", "seconds": "number"}.get(name, "string"),
                "description": meaning,
            }
            for name, meaning in FIELDS.items()
        },
    }

    @app.post(
        "/v1/calls/end",
        tags=["lookup"],
        summary="What became of calls: one JSON object, or one a line.",
        description="For signals: shares answered, and shorter than six seconds. An end counts "
        "once, by its decision or call id. 202: what could be read has been handed to the "
        "recorder; the report names the lines that could not.",
        status_code=202,
        responses={**refusals_, 413: problem, 503: problem},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": line},
                    NDJSON: {"schema": {"type": "string"}},
                },
            }
        },
        response_class=Response,
    )
    async def ended(request: Request, _holder: Annotated[Principal, Depends(teller)]) -> Response:
        body = await _body(request)
        lines = body.split(b"\n") if request.headers.get("content-type") == NDJSON else [body]
        if len(lines) > LINES_LIMIT:
            raise Refused(
                413, "Too many lines", f"expected at most {LINES_LIMIT:,}: send the rest after"
            )
        report = EndReport()
        trusts = "trunk" in service.client_of(request.scope).asserts
        ends = list(service.ends.read_lines(lines, report, trusts_trunk=trusts))
        if not service.outbox.tell("ends", ends):
            raise Refused(503, "Recorder behind", "nothing was taken: send it again", retry_after=1)
        content = {"taken": report.taken, "rejected": report.rejected, "errors": report.errors}
        return Response(
            orjson.dumps(content),
            status_code=202 if report.taken or not report.rejected else 422,
            media_type="application/json",
        )


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            raise Refused(413, "Body too large", f"expected at most {BODY_LIMIT_BYTES:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
