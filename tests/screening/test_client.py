"""The client library against the running service, and against servers that do not behave."""

import asyncio
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Self

import orjson
import pytest
from tests.running import ROOT, Running

from screening.client import Answer, AsyncClient, Client, Unavailable, asynchronous
from screening.client.wording import Address, wording_for
from screening.netstring import frame

PAGE = (ROOT / "docs" / "client.md").read_text("utf-8")
QUESTION = {"calling": "+12125550123", "called": "+12125550142", "call_id": "client"}
LONG_MS = 5000

Ask = Callable[..., Answer]


@contextlib.contextmanager
def asker(kind: str, url: str, **options: Any) -> Iterator[Ask]:
    """`screen` of a client of either kind, as a blocking function."""
    options = {"deadline_ms": LONG_MS} | options
    if kind == "blocking":
        with Client(url, **options) as client:
            yield client.screen
        return
    with asyncio.Runner() as runner:
        made = AsyncClient(url, **options)
        yield lambda **fields: runner.run(made.screen(**fields))
        runner.run(made.close())


def url_of(service: Running, transport: str) -> str:
    rpc = f"netstring://127.0.0.1:{service.port('rpc')}"
    return service.url if transport == "http" else rpc


KINDS = pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
TRANSPORTS = pytest.mark.parametrize("transport", ["http", "netstring"])


@KINDS
@TRANSPORTS
def test_an_answer_is_the_service_s(service: Running, kind: str, transport: str) -> None:
    """Field by field, its latency aside; and a second question is asked over the same way."""
    expected = service.screen(**QUESTION)
    with asker(kind, url_of(service, transport)) as ask:
        for _ in range(2):
            answer = ask(**QUESTION)
            assert not answer.failed_open, answer.failure
            found = orjson.loads(orjson.dumps(asdict(answer)))
            assert {name: found[name] for name in expected} | {"latency_us": 0} == expected | {
                "latency_us": 0
            }
    assert (answer.is_block, answer.is_warn, answer.is_allow) == (True, False, False)


@KINDS
def test_a_key_gives_its_rights(service: Running, kind: str) -> None:
    """With a key that may, `explain` is answered with the trace."""
    with asker(kind, service.url, key=service.first_key) as ask:
        answer = ask(**QUESTION, explain=True)
    assert {entry["rule"] for entry in answer.trace} >= {"us.dno"}
    assert answer.evidence


@KINDS
@TRANSPORTS
def test_a_malformed_question_fails_open(service: Running, kind: str, transport: str) -> None:
    """A caller's control character does not raise; the next question is answered."""
    with asker(kind, url_of(service, transport)) as ask:
        answer = ask(**QUESTION, display_name="a\u0000b")
        assert (answer.action, answer.failed_open) == ("allow", True)
        assert "`display_name` has a control character" in answer.failure
        assert not ask(**QUESTION).failed_open
        assert "bytes" in ask(called=b"of no JSON").failure
    with (
        asker(kind, url_of(service, transport), fail_open=False) as ask,
        pytest.raises(Unavailable, match="display_name"),
    ):
        ask(**QUESTION, display_name="a\u0000b")


@TRANSPORTS
def test_threads_share_a_client(service: Running, transport: str) -> None:
    """Each gets the answers to its own questions, over no more connections than threads."""

    def asks(thread: int) -> set[str]:
        return {client.screen(**QUESTION | {"call_id": f"t{thread}"}).decision_id
                for _ in range(40)}  # fmt: skip

    with (
        Client(url_of(service, transport), deadline_ms=LONG_MS) as client,
        ThreadPoolExecutor(6) as threads,
    ):
        ids = list(threads.map(asks, range(6)))
        assert len(client._idle) <= 6
    assert all(len(each) == 1 for each in ids)
    assert len(set.union(*ids)) == 6
    assert "" not in set.union(*ids)


async def test_netstrings_share_one_connection(service: Running) -> None:
    """300 questions at once: one connection, every answer to its own question."""
    async with AsyncClient(url_of(service, "netstring"), deadline_ms=LONG_MS) as client:
        answers = await asyncio.gather(
            *(client.screen(**QUESTION | {"call_id": f"n{at % 30}"}) for at in range(300))
        )
        assert not any(answer.failed_open for answer in answers)
        assert service.metric("screening_port_connections", transport="jsonrpc") == 1
        by_id = {at: {each.decision_id for each in answers[at::30]} for at in range(30)}
    assert all(len(each) == 1 for each in by_id.values())
    assert len(set.union(*by_id.values())) == 30


# Servers that do not behave


class Server:
    """Answers every question of a connection with the next of some bytes; None closes it."""

    def __init__(self, scheme: str, *answers: bytes | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"{scheme}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._answers = iter(answers)
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65_536):
                answer = next(self._answers, b"")
                if answer is None:
                    return
                connection.sendall(answer)


VERDICT = {
    "action": "warn", "cause": "analytics", "rule": "r", "ruleset": "s@1", "decision_id": "x",
    "degraded": False, "sip": None, "q850": None, "label": {"en": "Maybe spam"}, "redress": None,
    "shadow": [{"rule": "q", "action": "block"}], "latency_us": 5, "of_tomorrow": {"a": 1},
}  # fmt: skip


def http(body: object, *, status: str = "200 OK", head: str = "") -> bytes:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{head}\r\n".encode() + content


def rpc(body: object, *, identity: object = 1) -> bytes:
    return frame(orjson.dumps({"jsonrpc": "2.0", "id": identity, "result": body}))


@KINDS
@pytest.mark.parametrize(
    ("scheme", "answer", "failure"),
    [
        ("http", b"HTTP/1.1 200 OK\r\n\r\n", "no length"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "no length"),
        ("http", b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
        ("http", b"x" * 70_000, "too long"),
        ("http", http(b"{"), "no JSON"),
        ("http", http([]), "no verdict"),
        ("http", http({"action": "allow"}), "no verdict"),
        ("http", http(VERDICT | {"action": "maybe"}), "no verdict"),
        ("http", http({"detail": "gone"}, status="503 Gone"), "HTTP 503: gone"),
        ("http", None, "closed"),
        ("netstring", b"nonsense", "expected a netstring"),
        ("netstring", rpc("text"), "no verdict"),
        ("netstring", rpc(VERDICT, identity=None), "answers no question"),
        ("netstring", frame(b"{"), "no JSON"),
        ("netstring", None, "closed"),
    ],
)
def test_nonsense_fails_open(kind: str, scheme: str, answer: bytes | None, failure: str) -> None:
    """With what was wrong; never an exception, never nonsense taken for a verdict."""
    with Server(scheme, answer) as server, asker(kind, server.url) as ask:
        found = ask(**QUESTION)
    assert (found.action, found.failed_open, found.degraded) == ("allow", True, True)
    assert failure in found.failure


@KINDS
@pytest.mark.parametrize(("scheme", "wrap"), [("http", http), ("netstring", rpc)])
def test_fields_of_tomorrow_are_left_out(
    kind: str, scheme: str, wrap: Callable[[object], bytes]
) -> None:
    """An answer with more than the contract has today is a verdict."""
    with Server(scheme, wrap(VERDICT)) as server, asker(kind, server.url) as ask:
        answer = ask(**QUESTION)
    assert (answer.action, answer.label, answer.shadow[0].rule) == (
        "warn", {"en": "Maybe spam"}, "q",
    )  # fmt: skip


@KINDS
@TRANSPORTS
def test_silence_fails_open_and_a_new_connection_is_made(
    kind: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer by the deadline; what may come late is not taken for the next answer."""
    monkeypatch.setattr(asynchronous, "SILENCE_SECONDS", 0.0)
    with Server(transport, b"", b"") as server, asker(kind, server.url, deadline_ms=50) as ask:
        for _ in range(2):
            answer = ask(**QUESTION)
            assert answer.failed_open
            assert answer.failure == f"{server.url} did not answer within 50 ms"
        assert server.connections == 2


@pytest.mark.parametrize(("scheme", "wrap"), [("http", http), ("netstring", rpc)])
def test_an_answer_may_come_in_pieces(scheme: str, wrap: Callable[[object], bytes]) -> None:
    """Byte by byte, one answer and then the next."""
    wording = wording_for(Address(f"{scheme}://127.0.0.1"), "")
    stream = wrap(VERDICT) * 2
    answers = [each for at in range(len(stream)) for each in wording.feed(stream[at : at + 1])]
    assert [answer.cause for _, answer in answers if isinstance(answer, Answer)] == [
        "analytics", "analytics",
    ]  # fmt: skip


@KINDS
@pytest.mark.parametrize(
    "first", [http(VERDICT), http(VERDICT, head="Connection: close\r\n")], ids=["kept", "closed"]
)
def test_a_connection_closed_while_idle_is_replaced(kind: str, first: bytes) -> None:
    """The next question gets its verdict over another one."""
    with Server("http", first, None, http(VERDICT)) as server, asker(kind, server.url) as ask:
        assert ask(**QUESTION).is_warn
        if first == http(VERDICT):
            answer = ask(**QUESTION)
            assert (answer.is_warn, server.connections) == (True, 2)


@KINDS
@TRANSPORTS
def test_nobody_there_fails_open(kind: str, transport: str) -> None:
    """A refused connection is told as such; without fail-open it is raised."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"{transport}://127.0.0.1:{port}"
    with asker(kind, url) as ask:
        assert ask(**QUESTION).failure == f"{url}: Connection refused"
    with asker(kind, url, fail_open=False) as ask, pytest.raises(Unavailable, match=url):
        ask(**QUESTION)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://a", "http://", "http://a/v1/screen"])
def test_a_wrong_url_is_told_at_once(url: str) -> None:
    """A mistake of configuration does not fail open for ever."""
    for made in (Client, AsyncClient):
        with pytest.raises(ValueError, match=re.escape("expected http://host:port")):
            made(url)


def test_it_needs_the_standard_library_alone() -> None:
    """Imported without any of the service's libraries, orjson included."""
    program = """
import sys
sys.modules["orjson"] = None
import screening.client
from screening.client.wording import dumps, loads
assert loads(dumps({"a": "é"})) == {"a": "é"}
foreign = {"fastapi", "pydantic", "grpc", "redis", "sqlalchemy", "uvicorn", "prometheus_client"}
assert not foreign & set(sys.modules), foreign & set(sys.modules)
ours = {name for name in sys.modules if name.split(".")[0] in ("consent", "rules", "screening")}
print(*sorted(ours))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        "screening", "screening.client", "screening.client.answer",
        "screening.client.asynchronous", "screening.client.blocking",
        "screening.client.wording", "screening.netstring",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("program", "shown"), re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", PAGE, re.DOTALL)
)
def test_the_page_s_examples_print_what_it_shows(
    service: Running, program: str, shown: str
) -> None:
    """Run as they stand there, but for the ports."""
    program = program.replace("http://127.0.0.1:8080", service.url)
    program = program.replace("netstring://127.0.0.1:8090", url_of(service, "netstring"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "client.md", "exec"), {"__name__": "__main__"})  # noqa: S102
    assert printed.getvalue() == shown
