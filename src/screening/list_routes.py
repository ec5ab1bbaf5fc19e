"""Lists over HTTP: what is in force, each with its generations; load a file, roll back."""

import asyncio
import pathlib as files
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI, Path, Query, Request

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
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string"}}},
            }
        },
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
        with temporary(service.state.folder / UPLOADS) as (file, path):
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > UPLOAD_LIMIT_BYTES:
                    raise Refused(413, "Body too large", f"over {UPLOAD_LIMIT_BYTES:,} bytes")
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(file.flush)
            await asyncio.to_thread(_expect_digests, request, path)
            await _run(service, "lists", "load", name, str(path), *words)
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


async def _run(service: Service, *words: str) -> None:
    """Run a command of ours apart: a nation's list would hold up calls for minutes."""
    failure = await service.run_apart(*words)
    if failure:
        _, _, reason = failure.partition("error: ")
        raise Refused(422, "List refused", " ".join(reason.split()) or failure, field="body")
    await service.follow_record()


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
