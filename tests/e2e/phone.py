"""A telephone on loopback that says in SIP what a test tells it, and keeps what it hears."""

import select
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import Final, Self

HEARD_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Message:
    """One SIP message as it stood on the wire; `at` is when it came, of the monotonic clock."""

    text: str
    at: float

    @property
    def first(self) -> str:
        """The request line or the status line."""
        return self.text.split("\r\n", 1)[0]

    def headers(self, name: str) -> list[str]:
        """The values of a header, in order."""
        lines = self.text.split("\r\n\r\n")[0].split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines]
        return [value.strip() for key, _, value in pairs if key.strip().lower() == name.lower()]

    def header(self, name: str) -> str:
        """The one value of a header."""
        (value,) = self.headers(name)
        return value


@dataclass
class Call:
    """An INVITE that was sent, to be sent again or cancelled."""

    text: str
    uri: str
    branch: str
    call_id: str
    sent: float


@dataclass
class Phone:
    """One UDP socket of loopback; `towards` is the port it sends to."""

    towards: int
    port: int = 0
    heard: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self._taken: list[Message] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_broken: object) -> None:
        self._socket.close()

    def send(self, text: str) -> float:
        """Send a message as it stands; the answer is when."""
        at = time.monotonic()
        self._socket.sendto(text.encode(), ("127.0.0.1", self.towards))
        return at

    def invite(
        self,
        called: str,
        calling: str,
        *headers: str,
        display: str = "",
        call_id: str = "",
        to: str = "",
        to_tag: str = "",
    ) -> Call:
        """Call `called` as `calling`: numbers, or URIs whole."""
        uri = called if ":" in called else f"sip:{called}@127.0.0.1"
        caller = calling if ":" in calling else f"sip:{calling}@127.0.0.1"
        branch, call_id = f"z9hG4bK{uuid.uuid4().hex[:12]}", call_id or uuid.uuid4().hex
        lines = (
            f"INVITE {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch}",
            "Max-Forwards: 70",
            f"From: {display and f'{chr(34)}{display}{chr(34)} '}<{caller}>;tag=f{branch[-6:]}",
            f"To: <{to or uri}>{to_tag and f';tag={to_tag}'}",
            f"Call-ID: {call_id}",
            "CSeq: 1 INVITE",
            f"Contact: <sip:phone@127.0.0.1:{self.port}>",
            *headers,
            "Content-Length: 0",
        )
        text = "\r\n".join((*lines, "", ""))
        return Call(text, uri, branch, call_id, self.send(text))

    def again(self, call: Call) -> None:
        """Retransmit the INVITE, byte for byte."""
        self.send(call.text)

    def cancel(self, call: Call) -> float:
        """Cancel the INVITE (RFC 3261 9.1)."""
        kept = ("Via", "From", "To", "Call-ID", "Max-Forwards")
        lines = [line for line in call.text.split("\r\n") if line.split(":")[0] in kept]
        head = (f"CANCEL {call.uri} SIP/2.0", *lines, "CSeq: 1 CANCEL", "Content-Length: 0")
        return self.send("\r\n".join((*head, "", "")))

    def acknowledge(self, call: Call, final: Message) -> None:
        """ACK a refusal, so that it is not sent again (RFC 3261 17.1.1.3)."""
        kept = ("Via", "From", "Call-ID", "Max-Forwards")
        lines = [line for line in call.text.split("\r\n") if line.split(":")[0] in kept]
        head = (f"ACK {call.uri} SIP/2.0", *lines, f"To: {final.header('To')}", "CSeq: 1 ACK")
        self.send("\r\n".join((*head, "Content-Length: 0", "", "")))

    def answer(self, request: Message, status: str) -> None:
        """Answer a request that was heard."""
        lines = [f"{name}: {value}" for name in ("Via", "Record-Route", "From", "Call-ID", "CSeq")
                 for value in request.headers(name)]  # fmt: skip
        to = request.header("To")
        to = to if ";tag=" in to or status.startswith("100") else f"{to};tag=callee"
        contact = f"Contact: <sip:phone@127.0.0.1:{self.port}>"
        head = (f"SIP/2.0 {status}", *lines, f"To: {to}", contact, "Content-Length: 0")
        self.send("\r\n".join((*head, "", "")))

    def listen(self, *, seconds: float) -> Message | None:
        """The next message, None where none comes in time."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        data = self._socket.recv(65535)
        message = Message(data.decode(), time.monotonic())
        self.heard.append(message)
        return message

    def hear(self, begins: str, *, call: Call) -> Message:
        """The first message not taken yet of a call whose first line begins so."""
        deadline = time.monotonic() + HEARD_SECONDS
        while True:
            for message in self.heard:
                if (
                    message.first.startswith(begins)
                    and message.header("Call-ID") == call.call_id
                    and message not in self._taken
                ):
                    self._taken.append(message)
                    return message
            left = deadline - time.monotonic()
            if left <= 0 or self.listen(seconds=left) is None:
                break
        said = "\n".join(each.first for each in self.heard)
        raise AssertionError(f"waited for {begins!r}; heard:\n{said}")

    def invites(self, call: Call) -> list[Message]:
        """The INVITEs of a call that have come so far."""
        while self.listen(seconds=0) is not None:
            pass
        return [
            each
            for each in self.heard
            if each.first.startswith("INVITE") and each.header("Call-ID") == call.call_id
        ]

    def final(self, call: Call) -> Message:
        """The final answer to a call, which is acknowledged where it is a refusal."""
        while True:
            message = self.hear("SIP/2.0 ", call=call)
            status = int(message.first.split()[1])
            if message.header("CSeq") == "1 INVITE" and status >= 200:
                if status >= 300:
                    self.acknowledge(call, message)
                return message
