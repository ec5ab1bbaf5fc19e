"""Problem documents (RFC 9457): the one form in which the service says that it refused."""

from typing import Any, Final

import orjson
from starlette.responses import Response

from screening.wire import MalformedCall

MEDIA_TYPE: Final = "application/problem+json"


def problem(status: int, title: str, detail: str, **members: Any) -> Response:
    """A problem document; `members` are extension members such as the field at fault."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return Response(
        orjson.dumps({**document, **members}),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


class Refused(Exception):
    """The request is refused with a problem document of `status`; `members` are its others."""

    def __init__(self, status: int, title: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.members = members


def malformed(broken: MalformedCall) -> Response:
    """The refusal of a broken question, which names the field at fault."""
    return problem(400, "Malformed question", str(broken), field=broken.field)
