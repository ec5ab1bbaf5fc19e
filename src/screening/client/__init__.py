"""A client of the service, blocking and asynchronous, that never holds up a call.

    from screening.client import Client

    with Client("http://127.0.0.1:8080", deadline_ms=50) as client:
        answer = client.screen(calling="+441632960077", called="+441632960001")
        if answer.is_block:
            refuse(answer.sip.code, answer.sip.phrase, answer.sip.reason)

Needs the standard library alone, and uses orjson where that is installed. See docs/client.md.
"""

from screening.client.answer import Answer, ShadowHit, SipAnswer, Unavailable
from screening.client.asynchronous import AsyncClient
from screening.client.blocking import Client

__all__ = ["Answer", "AsyncClient", "Client", "ShadowHit", "SipAnswer", "Unavailable"]
