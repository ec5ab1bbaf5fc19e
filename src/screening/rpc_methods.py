"""What can be called over JSON-RPC: the lookup, and `ping` for switches that probe."""

from collections.abc import Callable
from typing import Any

from screening.call_ends import EndReader, MalformedEnd
from screening.jsonrpc import INVALID_PARAMS, Method, Request
from screening.lookup import Answered, Lookup
from screening.wire import MalformedCall

TRANSPORT = "jsonrpc"


def lookup_methods(lookup: Lookup) -> dict[str, Method]:
    """The methods by name; more can be added, such as notifications of what became of a call."""

    def screen(request: Request) -> None:
        if request.is_notification:
            return
        params = request.params
        if type(params) is not dict:
            lookup.refused("")
            request.error(INVALID_PARAMS, "`params` is to be an object: the fields of a question")
            return

        def reply(answered: Answered | MalformedCall) -> None:
            if isinstance(answered, MalformedCall):
                request.error(INVALID_PARAMS, str(answered), field=answered.field)
            else:
                request.result(answered.body())

        lookup.ask_fields(
            params,
            client=request.client,
            arrived=request.arrived,
            reply=reply,
            transport=TRANSPORT,
        )

    def ping(request: Request) -> None:
        request.result(b'"pong"')

    return {"screen": screen, "ping": ping}


def end_method(reader: EndReader, tell: Callable[[list[dict[str, Any]]], bool]) -> Method:
    """`call_end`: what became of a call, as a notification or as a request."""

    def call_end(request: Request) -> None:
        params = request.params
        if type(params) is not dict:
            request.error(INVALID_PARAMS, "`params` is to be an object: the fields of a call's end")
            return
        try:
            end = reader.read(params, trusts_trunk="trunk" in request.client.asserts)
        except MalformedEnd as broken:
            request.error(INVALID_PARAMS, str(broken), field=broken.field)
            return
        request.result(b"true" if tell([end]) else b"false")

    return call_end
