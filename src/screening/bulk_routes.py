"""Bulks over HTTP: lines in, a report of each line out, neither held in memory."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Annotated, Any, Final

import orjson
from fastapi import Depends, FastAPI, Request
from starlette.responses import Response, StreamingResponse

from screening.access import Principal
from screening.bulk import BATCH_LINES, LINE_LIMIT_BYTES, Bulk
from screening.problem import Refused
from screening.service import Service

NDJSON: Final = "application/x-ndjson"
CHUNK_BYTES: Final = 65_536


def bulk_routes(
    app: FastAPI,
    service: Service,
    *,
    consent: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the route; `consent` admits who may use it."""

    @app.post(
        "/v1/consents/bulk",
        tags=["consents"],
        summary="Many statements, one JSON object a line; a report of each line comes back.",
        description="A line is the body of a grant, renew, narrow, revoke or expire, with `do` "
        "naming which. A bad line stops no other. A line that says what is already so is "
        "`unchanged`: a bulk that broke off is sent again whole. The report begins when the last "
        "line has been read; its last line is the summary, with `complete` false where the "
        "record was gone on the way and the lines from there on are `undone`.",
        responses={
            **refusals_,
            200: {
                "description": "The report",
                "content": {
                    NDJSON: {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "line": {"type": "integer"},
                                "state": {
                                    "type": "string",
                                    "enum": [
                                        "in_force",
                                        "pending",
                                        "unchanged",
                                        "refused",
                                        "undone",
                                    ],
                                },
                                "sequence": {"type": "integer"},
                                "error": {"type": "string"},
                                "field": {"type": "string"},
                            },
                        }
                    }
                },
            },
            503: problem,
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    NDJSON: {
                        "schema": {
                            "type": "object",
                            "required": ["do", "called", "entity"],
                            "properties": {
                                "do": {
                                    "type": "string",
                                    "enum": ["grant", "renew", "narrow", "revoke", "expire"],
                                },
                                "called": {"type": "string"},
                                "entity": {"type": "string"},
                            },
                        }
                    }
                },
            }
        },
        response_class=StreamingResponse,
    )
    async def bulk(request: Request, holder: Annotated[Principal, Depends(consent)]) -> Response:
        taken = Bulk(service.state, service.registrar, holder.name)
        # On disk: whoever sends all before it reads would else wait for us, and we for it.
        report = tempfile.TemporaryFile(dir=service.state.folder)  # noqa: SIM115
        try:
            batch: list[tuple[int, bytes]] = []
            async for number, line in _numbered(request):
                batch.append((number, line))
                if len(batch) == BATCH_LINES:
                    await service.on_record(_carry_out, taken, batch, report)
                    batch = []
                    if taken.broken:
                        break
            if batch:
                await service.on_record(_carry_out, taken, batch, report)
            if taken.broken and taken.counts["undone"] == taken.counts.total():
                raise Refused(503, "Record unavailable", "no line was recorded")
            report.write(orjson.dumps(taken.summary(), option=orjson.OPT_APPEND_NEWLINE))
            report.seek(0)
        except BaseException:
            report.close()
            raise
        return StreamingResponse(_read(report), media_type=NDJSON)


def _carry_out(taken: Bulk, batch: list[tuple[int, bytes]], report: IO[bytes]) -> None:
    report.writelines(each.text() for each in taken.take(batch))


async def _numbered(request: Request) -> AsyncIterator[tuple[int, bytes]]:
    """The lines of the body with their numbers; one that never ends is cut where it is too long."""
    number, rest, cut = 1, b"", False
    async for chunk in request.stream():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if cut:
                cut = False
            elif line.strip():
                yield number, line
            number += 1
        if len(rest) > LINE_LIMIT_BYTES:
            if not cut:
                yield number, rest
            rest, cut = b"", True
    if rest.strip() and not cut:
        yield number, rest


async def _read(report: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        while chunk := report.read(CHUNK_BYTES):
            yield chunk
    finally:
        report.close()
