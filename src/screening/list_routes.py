"""Lists over HTTP: what is in force, each with its generations; load a file, roll back."""

import asyncio
import contextlib
import pathlib as files
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, Field

from consent.category import Category
from consent.durable import temporary
from consent.listing import ListingError
from consent.listing.checksum import of_header, verify
from consent.record import Generation, ListKind
from screening.access import Principal
from screening.problem import Refused
from screening.service import Service

UPLOADS: Final = "uploads"
UPLOAD_LIMIT_BYTES: Final = 8 << 30

_FILE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string"}}},
    }
}


class ReassignedOut(BaseModel):
    """What a file of reassigned numbers has ended here."""

    state: Literal["in_force", "pending"]
    lines: int = Field(description="How many the file has.")
    rejected: int = Field(description="How many of them are no number and date.")
    known: int = Field(description="Of how many numbers something was decided here.")
    ended: int = Field(description="How many subscriptions lost something.")
    reasons: list[str] = Field(description="The first rejected lines, each with its reason.")


Name = Annotated[str, Path(pattern="^[a-z0-9][a-z0-9._-]{0,63}$", description="The list's name.")]


def list_routes(
    app: FastAPI,
    service: Service,
    *,
    operator: Callable[[Request], Awaitable[Principal]],
    refusals_: dict[int | str, dict[str, Any]],
    problem: dict[str, Any],
) -> None:
    """Add the routes; `operator` admits who may use them."""
    Holder = Annotated[Principal, Depends(operator)]  # noqa: N806
    described = {**refusals_, 404: problem, 503: problem}
    changes = {**described, 413: problem, 422: problem}

    @app.get(
        "/v1/lists",
        tags=["lists"],
        summary="The lists and their generations in force.",
        responses=refusals_,
    )
    async def lists(_holder: Holder) -> dict[str, Any]:
        return {"lists": await asyncio.to_thread(service.lists)}

    @app.get(
        "/v1/lists/{name}",
        tags=["lists"],
        summary="One list with its generations, newest first.",
        responses=described,
    )
    async def one(_holder: Holder, name: Name) -> dict[str, Any]:
        return await service.on_record(_shown, service, name)

    @app.put(
        "/v1/lists/{name}",
        tags=["lists"],
        summary="Load a list from the file in the body: whole or not at all, then in force.",
        description="The body is the file itself: plain, gzip or zip. The answer comes when the "
        "list is in force, for a nation's registry after minutes; the same file again changes "
        "nothing. With Content-Digest or Repr-Digest (RFC 9530: sha-256, sha-512) the body must "
        "have that digest.",
        responses=changes,
        openapi_extra=_FILE,
    )
    async def load(
        request: Request,
        holder: Holder,
        name: Name,
        kind: Annotated[ListKind, Query(description="dnc: called numbers; others: calling.")],
        form: Annotated[
            Literal["numbers", "ftc", "ofca", "csv"],
            Query(alias="format", description="How the file is written."),
        ],
        region: Annotated[str, Query(pattern="^([A-Z]{2})?$")] = "",
        category: Annotated[Category | None, Query(description="What a dnc list refuses.")] = None,
        column: Annotated[str, Query(max_length=200, description="Of a csv.")] = "",
        force: Annotated[bool, Query(description="Also when it shrinks beyond its guard.")] = False,
    ) -> dict[str, Any]:
        words = ["--kind", kind, "--format", form, "--by", holder.name]
        words += ["--region", region] if region else []
        words += ["--category", category] if category else []
        words += ["--column", column] if column else []
        words += ["--force"] if force else []
        async with _uploaded(request, service) as path:
            await _run(service, "lists", "load", name, str(path), *words)
        return await service.on_record(_shown, service, name)

    @app.post(
        "/v1/lists/{name}/changes",
        tags=["lists"],
        summary="Change a do-not-call list by the numbers added and removed.",
        description="The body is a change list: number, date and A or D a line, plain, gzip or "
        "zip; the last date decides. Whole or not at all, and in force when it is answered, as "
        "the next generation. More than 1 % a day is refused until `force` confirms it; the same "
        "file again changes nothing. Digests as for any list.",
        responses=changes,
        openapi_extra=_FILE,
    )
    async def change(
        request: Request,
        holder: Holder,
        name: Name,
        force: Annotated[bool, Query(description="Also when it changes more than 1 %.")] = False,
    ) -> dict[str, Any]:
        await service.on_record(_shown, service, name)
        words = ["--by", holder.name, *(["--force"] if force else [])]
        async with _uploaded(request, service) as path:
            await _run(service, "lists", "delta", name, str(path), *words)
        return await service.on_record(_shown, service, name)

    @app.post(
        "/v1/lists/{name}/rollback",
        tags=["lists"],
        summary="Bring the generation before this one back into force.",
        responses=changes,
    )
    async def rollback(holder: Holder, name: Name) -> dict[str, Any]:
        await service.on_record(_shown, service, name)
        await _run(service, "lists", "rollback", name, "--by", holder.name)
        return await service.on_record(_shown, service, name)

    @app.post(
        "/v1/lists/reassigned-numbers",
        tags=["lists"],
        summary="End what was decided of numbers that their subscribers gave up.",
        description="The body is a published file: number and day of disconnection a line, plain, "
        "gzip or zip. What was decided until the end of that day ends, in the ledger and at once; "
        "what was decided since stays. Files that would end more than 1 % a day of those known "
        "here are refused until `force` confirms it; the same file again changes nothing. Digests "
        "as for any list.",
        responses={
            **{code: each for code, each in changes.items() if code != 404},
            200: {"model": ReassignedOut},
            202: {
                "model": ReassignedOut,
                "description": "Recorded; in force once the index is back.",
            },
        },
        openapi_extra=_FILE,
    )
    async def reassigned(
        request: Request,
        response: Response,
        holder: Holder,
        region: Annotated[str, Query(pattern="^([A-Z]{2})?$")] = "",
        force: Annotated[bool, Query(description="Also when it ends more than its guard.")] = False,
    ) -> ReassignedOut:
        words = ["--json", "--by", holder.name]
        words += ["--region", region] if region else []
        words += ["--force"] if force else []
        async with _uploaded(request, service) as path:
            await service.on_record(service.record)
            printed, errors = await service.ask_apart("subscriber", "reassigned", str(path), *words)
        if not printed:
            raise _refused(errors)
        told = ReassignedOut.model_validate_json(printed)
        response.status_code = 202 if told.state == "pending" else 200
        return told


@contextlib.asynccontextmanager
async def _uploaded(request: Request, service: Service) -> AsyncIterator[files.Path]:
    """The file in the body of a request, for as long as it is needed.

    Raises Refused for one that is too large, or that has another digest than it is said to have.
    """
    with temporary(service.state.folder / UPLOADS) as (file, path):
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > UPLOAD_LIMIT_BYTES:
                raise Refused(413, "Body too large", f"over {UPLOAD_LIMIT_BYTES:,} bytes")
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.flush)
        await asyncio.to_thread(_expect_digests, request, path)
        yield path


async def _run(service: Service, *words: str) -> None:
    """Run a command of ours apart: a nation's list would hold up calls for minutes."""
    failure = await service.run_apart(*words)
    if failure:
        raise _refused(failure)
    await service.follow_record()


def _refused(complaints: str) -> Refused:
    """What a command says when it refuses a file, as the answer to who sent it."""
    _, _, reason = complaints.partition("error: ")
    return Refused(422, "List refused", " ".join(reason.split()) or complaints, field="body")


def _expect_digests(request: Request, path: files.Path) -> None:
    """Hold the file against the digests that came with it (RFC 9530)."""
    for name in ("Content-Digest", "Repr-Digest"):
        value = request.headers.get(name)
        if value is None:
            continue
        try:
            said = of_header(value, source=name)
            if said is not None:
                verify(path, said)
        except ListingError as refused:
            raise Refused(422, "List refused", str(refused), field=name) from None


def _shown(service: Service, name: str) -> dict[str, Any]:
    catalogue = service.record().catalogue
    for each in catalogue.lists():
        if each.name == name:
            generations = sorted(catalogue.generations(name), key=lambda g: -g.generation)
            return {
                "name": each.name,
                "kind": each.kind,
                "region": each.region,
                "category": each.category,
                "age_seconds": round(each.age_s) if each.age_s is not None else None,
                "active": each.active.generation if each.active else None,
                "generations": [_generation(one) for one in generations],
            }
    raise Refused(404, "Not found", f"no list {name!r}", field="name")


def _generation(each: Generation) -> dict[str, Any]:
    shown = asdict(each)
    # Where the file lay on this node concerns nobody else.
    return {name: shown[name] for name in shown if name not in {"list_id", "list_name", "source"}}
