"""What key holders may do with rules over HTTP: see them, activate, roll back, load again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from consent.index import IndexUnavailable
from consent.record import FOLDER, Activation, Bundle, RecordError
from consent.signing import SigningError, TrustedKeys
from rules.bundle import BundleError
from rules.document import RuleSetError
from rules.handover import NotReady
from screening import distribution
from screening.access import Principal
from screening.distribution import BOUND_SECONDS, ActivationRefused
from screening.problem import problem
from screening.service import Service

FOLDER_WORD: Final = "folder"
"""The revision that is each node's own folder, where one is asked for by name."""

Reason = Annotated[str, Field(max_length=500, description="Why, for the audit.")]


class ActivateRequest(BaseModel):
    """What shall be in force."""

    revision: Annotated[
        str,
        Field(description="Beginning of a bundle's digest; \"folder\": each node's own folder."),
    ]
    reason: Reason = ""
    force: Annotated[
        bool, Field(description="Also when the guard is against it; give a reason.")
    ] = False


class RollbackRequest(BaseModel):
    """Nothing but why."""

    reason: Reason = ""


def rule_routes(
    app: FastAPI,
    service: Service,
    *,
    operator: Callable[[Request], Awaitable[Principal]],
    refusals: dict[int | str, dict[str, Any]],
    conflict: dict[str, Any],
) -> None:
    """Add the routes; `operator` admits who may use them."""
    refused = {**refusals, 409: conflict, 503: conflict}
    Holder = Annotated[Principal, Depends(operator)]  # noqa: N806

    @app.get(
        "/v1/admin/rules",
        tags=["management"],
        summary="The rules in force in this worker, the bundles, and what was active when.",
        responses={**refusals, 503: conflict},
    )
    async def rules(_holder: Holder) -> dict[str, Any]:
        bundles, activations = await asyncio.to_thread(_kept, service)
        return {
            "revisions": service.revisions(),
            "in_force": service.rules.describe(),
            "failure": str(service.rules.failure) if service.rules.failure else None,
            "bundles": [_bundle(each) for each in bundles],
            "activations": [_activation(each) for each in activations],
        }

    @app.post(
        "/v1/admin/rules/activate",
        tags=["management"],
        summary="Put a bundle, or each node's own folder, in force on every node.",
        responses=refused,
    )
    async def activate(holder: Holder, wish: ActivateRequest) -> dict[str, Any]:
        activation = await asyncio.to_thread(_activate, service, wish, holder.name)
        return {"activation": _activation(activation), "workers": await _follow(activation)}

    @app.post(
        "/v1/admin/rules/rollback",
        tags=["management"],
        summary="Put what was in force before in force again, on every node.",
        responses=refused,
    )
    async def rollback(holder: Holder, wish: RollbackRequest | None = None) -> dict[str, Any]:
        reason = wish.reason if wish else ""
        left, activation = await asyncio.to_thread(_rollback, service, reason, holder.name)
        return {
            "left": _activation(left),
            "activation": _activation(activation),
            "workers": await _follow(activation),
        }

    @app.post(
        "/v1/admin/rules/reload",
        tags=["management"],
        summary="Load the active rules again; the last good ones stay when they do not hold.",
        responses={**refusals, 409: conflict},
    )
    async def reload(
        holder: Holder,
        force: Annotated[
            bool, Query(description="Also a folder that the guard is against; give a reason.")
        ] = False,
        reason: Annotated[str, Query(max_length=500, description="Why, for the audit.")] = "",
    ) -> dict[str, Any]:
        if force and not reason.strip():
            raise HTTPException(422, "Reason missing")
        forced = {"forced": reason} if force else {}
        await service.audit(holder.name, "rules.reload", "rules", **forced)
        await service.reload_rules(forced=force)
        return {"revisions": service.revisions()}

    async def _follow(activation: Activation) -> dict[str, Any] | None:
        """What the workers say of it, None where they cannot be asked and follow by themselves."""
        await service.rules.look()
        try:
            heard, reports = await asyncio.to_thread(
                distribution.announce, service.redis_url, activation
            )
        except IndexUnavailable:
            return None
        in_force = sum(not each.failure for each in reports)
        return {
            "heard": heard,
            "in_force": in_force,
            "within_seconds": BOUND_SECONDS,
            "reports": [asdict(each) for each in reports],
        }

    @app.exception_handler(RuleSetError)
    async def rules_refused(_request: Request, refusal: RuleSetError) -> Response:
        detail = "the packs were refused; the last good ones stay in force"
        return problem(
            409, "Rule set refused", detail, errors=[str(each) for each in refusal.problems]
        )

    async def bundle_refused(_request: Request, refusal: Exception) -> Response:
        return problem(409, "Bundle refused", str(refusal))

    async def not_possible(_request: Request, refusal: Exception) -> Response:
        return problem(409, "Not possible", str(refusal))

    async def guarded(_request: Request, refusal: Exception) -> Response:
        return problem(409, "Activation refused", str(refusal))

    app.add_exception_handler(BundleError, bundle_refused)
    app.add_exception_handler(SigningError, bundle_refused)
    app.add_exception_handler(RecordError, not_possible)
    app.add_exception_handler(NotReady, not_possible)
    app.add_exception_handler(ActivationRefused, guarded)


def _kept(service: Service) -> tuple[list[Bundle], list[Activation]]:
    rulebook = service.record().rulebook
    return rulebook.bundles(), rulebook.activations()


def _activate(service: Service, wish: ActivateRequest, actor: str) -> Activation:
    return distribution.activate(
        service.record(),
        FOLDER if wish.revision == FOLDER_WORD else wish.revision,
        folder=service.settings.rules_dir,
        trusted=TrustedKeys.load(service.settings.rule_keys),
        actor=actor,
        guard=lambda packs: service.guard.against(service.screener.packs, packs),
        reason=wish.reason,
        forced=wish.force,
        loader=service.rules.loader,
    )


def _rollback(service: Service, reason: str, actor: str) -> tuple[Activation, Activation]:
    return distribution.rollback(
        service.record(),
        folder=service.settings.rules_dir,
        trusted=TrustedKeys.load(service.settings.rule_keys),
        actor=actor,
        reason=reason,
        loader=service.rules.loader,
    )


def _bundle(each: Bundle) -> dict[str, Any]:
    return {
        "digest": each.digest,
        "sets": each.sets,
        "size_bytes": each.size_bytes,
        "author": each.author,
        "created_at": each.created_at,
        "note": each.note,
        "key_id": each.key_id or None,
    }


def _activation(each: Activation) -> dict[str, Any]:
    return {
        "sequence": each.sequence,
        "revision": each.digest or FOLDER_WORD,
        "at": each.at,
        "actor": each.actor,
        "reason": each.reason,
        "forced": each.forced,
    }
