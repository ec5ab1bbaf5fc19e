"""The HTTP application: the lookup, health, metrics, and what only key holders may do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consent.record import RecordUnavailable
from screening import __version__
from screening.access import Principal, Role
from screening.bulk_routes import bulk_routes
from screening.conduct_routes import conduct_routes
from screening.consent_routes import consent_routes
from screening.contract import Answer, question_parameters, question_schema
from screening.end_routes import end_routes
from screening.endpoint import LookupEndpoint
from screening.entity_routes import entity_routes
from screening.list_routes import list_routes
from screening.metrics import CONTENT_TYPE
from screening.problem import MEDIA_TYPE, Refused, problem
from screening.reference import reference_page
from screening.rule_routes import rule_routes
from screening.sample import EXAMPLES
from screening.service import Service
from screening.subscriber_routes import subscriber_routes
from screening.wash_routes import wash_routes
from screening.watch_routes import watch_routes

_PROBLEM: Final[dict[str, Any]] = {
    "description": "Problem document (RFC 9457)",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "field": {"type": "string"},
                },
            }
        }
    },
}
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {401: _PROBLEM, 403: _PROBLEM}

_EXAMPLES: Final = {
    action: {"summary": f"{action}, with the sample registry", "value": question}
    for action, question in EXAMPLES.items()
}

_bearer = HTTPBearer(auto_error=False, description="A key of the service; see `screening keys`.")


def needs(*roles: Role) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency: the key holder of the request, which must have one of `roles`."""

    async def principal(
        request: Request, _documented: Annotated[Any, Depends(_bearer)] = None
    ) -> Principal:
        service: Service = request.app.state.service
        holder = service.principal_of(request.scope)
        # The path as it is described: as it was sent it may hold a number.
        action = f"{request.method} {request.scope['route'].path}"
        if holder is None:
            raise Refused(401, "Key needed", "send Authorization: Bearer and a key of the service")
        if not any(map(holder.has, roles)):
            await service.audit(holder.name, "refused", action)
            lacks = f"the key {holder.name!r} lacks the role {' or '.join(roles)}"
            raise Refused(403, "Role missing", lacks)
        return holder

    return principal


def create_app(service: Service) -> FastAPI:
    """The application over a service, which it starts and stops with itself."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="Call screening",
        version=__version__,
        summary="Allow, warn or block for a call being set up.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    lookup = LookupEndpoint(service.lookup, client_of=service.client_of)
    app.router.routes.insert(0, Route("/v1/screen", lookup, include_in_schema=False))
    _health(app, service)
    _management(app, service)
    holders = needs(Role.CONSENT)
    list_routes(app, service, operator=needs(Role.OPERATE), refusals_=_REFUSALS, problem=_PROBLEM)
    entity_routes(
        app,
        service,
        reader=needs(Role.OPERATE, Role.CONSENT),
        operator=needs(Role.OPERATE),
        refusals_=_REFUSALS,
        problem=_PROBLEM,
    )
    conduct_routes(
        app,
        service,
        consent=needs(Role.CONSENT, Role.OPERATE),
        operator=needs(Role.OPERATE),
        refusals_=_REFUSALS,
        problem=_PROBLEM,
    )
    watch_routes(app, service, operator=needs(Role.OPERATE), refusals_=_REFUSALS, problem=_PROBLEM)
    wash_routes(
        app,
        service,
        washer=needs(Role.WASH, Role.CONSENT, Role.OPERATE),
        refusals_=_REFUSALS,
        problem=_PROBLEM,
    )
    end_routes(
        app, service, teller=needs(Role.LOOKUP, Role.OPERATE), refusals_=_REFUSALS, problem=_PROBLEM
    )
    for add in (consent_routes, bulk_routes, subscriber_routes):
        add(app, service, consent=holders, refusals_=_REFUSALS, problem=_PROBLEM)
    _problems(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()))

    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status_code=status, media_type="application/json")


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["health"], summary="Whether the process answers.")
    async def healthz() -> Response:
        return _json({"status": "alive"})

    @app.get(
        "/readyz",
        tags=["health"],
        summary="Whether calls can be decided; 503 before that and while draining.",
        responses={503: {"description": "Not ready, or draining"}},
    )
    async def readyz() -> Response:
        ready, state = service.readiness()
        return _json(state, 200 if ready else 503)

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics.")
    async def metrics() -> Response:
        return Response(await service.exposition(), headers={"Content-Type": CONTENT_TYPE})


def _management(app: FastAPI, service: Service) -> None:
    rule_routes(app, service, operator=needs(Role.OPERATE), refusals=_REFUSALS, conflict=_PROBLEM)

    @app.get(
        "/v1/admin/audit",
        tags=["management"],
        summary="Management actions, newest first.",
        responses=_REFUSALS,
    )
    async def audit(
        _holder: Annotated[Principal, Depends(needs(Role.AUDIT))],
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        return {"events": await asyncio.to_thread(service.audit_log, limit)}


def _problems(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_request: Request, refusal: Refused) -> Response:
        response = problem(refusal.status, refusal.title, str(refusal), **refusal.members)
        if "retry_after" in refusal.members:
            response.headers["Retry-After"] = str(refusal.members["retry_after"])
        return response

    @app.exception_handler(RecordUnavailable)
    async def record_gone(_request: Request, gone: RecordUnavailable) -> Response:
        return problem(503, "Record unavailable", str(gone))

    @app.exception_handler(HTTPException)
    async def http_refused(_request: Request, refusal: HTTPException) -> Response:
        response = problem(refusal.status_code, str(refusal.detail), _hint(refusal.status_code))
        for name, value in (refusal.headers or {}).items():
            response.headers[name] = value
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, refusal: RequestValidationError) -> Response:
        errors = [
            {"field": ".".join(str(part) for part in each["loc"]), "error": each["msg"]}
            for each in refusal.errors()
        ]
        first = errors[0]["field"].removeprefix("body.")
        detail = f"{first}: {errors[0]['error']}"
        return problem(422, "Invalid request", detail, field=first, errors=errors)

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> Response:
        return problem(500, "Internal error", "the error is in the log of the service")


def _hint(status: int) -> str:
    hints: Mapping[int, str] = {
        404: "nothing is at this path; /docs lists what there is",
        405: "this path does not take this method; /docs lists what it takes",
    }
    return hints.get(status, "the request was refused")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The description of the whole API, the lookup's part written from its contract."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        answer = Answer.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        parts.update(answer.pop("$defs", {}))
        parts["Answer"] = answer
        parts["Question"] = question_schema()
        answered = {
            "description": "The verdict",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
        }
        ask = {
            "tags": ["lookup"],
            "responses": {"200": answered, "400": _PROBLEM},
        }
        schema["paths"] = {
            "/v1/screen": {
                "post": {
                    **ask,
                    "summary": "May this call ring?",
                    "operationId": "screen_post",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/Question"},
                                "examples": _EXAMPLES,
                            }
                        },
                    },
                    "responses": {**ask["responses"], "413": _PROBLEM},  # type: ignore[dict-item]
                },
                "get": {
                    **ask,
                    "summary": "May this call ring? For switches that can only GET.",
                    "operationId": "screen_get",
                    "parameters": question_parameters(),
                },
            },
            **schema["paths"],
        }
        app.openapi_schema = schema
    return app.openapi_schema
