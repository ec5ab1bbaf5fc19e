#!/usr/bin/env python3
"""FastAGI for Asterisk: a verdict in channel variables, in time or not at all.

In the dialplan: AGI(agi://ADDRESS/screen?region=US); see docs/switches.md. It sets
SCREENING_ACTION, _CAUSE, _DECISION_ID, _LABEL and _Q850, and SCREENING_FAILED_OPEN where there was
no verdict.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from screening.client import Answer, AsyncClient

LINE_LIMIT = 4096
LINES_LIMIT = 200


def question(told: Mapping[str, str]) -> dict[str, str]:
    """The question in what Asterisk tells of a channel (its agi_… variables)."""
    known = {name: "" if value == "unknown" else value for name, value in told.items()}
    asked = dict(parse_qsl(urlsplit(known.get("request", "")).query))
    # Bits 5 and 6 are the presentation (ITU-T Q.931 4.5.10).
    presentation = int(known["callingpres"]) >> 5 & 3 if _is_number(known, "callingpres") else 0
    fields = {
        "calling": known.get("callerid", "") or "anonymous",
        "called": known.get("extension", ""),
        "dialled": known.get("dnid", ""),
        "call_id": known.get("uniqueid", ""),
        "display_name": known.get("calleridname", ""),
        "diverted_from": known.get("rdnis", ""),
        "calling_status": ("available", "restricted", "unavailable", "unavailable")[presentation],
        "side": "terminating",
    }
    return {name: value for name, value in (fields | asked).items() if value}


def _is_number(known: Mapping[str, str], name: str) -> bool:
    return known.get(name, "").isdecimal() and len(known[name]) < 6


def variables(answer: Answer, language: str) -> dict[str, str]:
    """The channel variables that say a verdict."""
    label = answer.label or {}
    return {
        "SCREENING_ACTION": answer.action,
        "SCREENING_CAUSE": answer.cause,
        "SCREENING_DECISION_ID": answer.decision_id,
        "SCREENING_LABEL": label.get(language, label.get("en", "")),
        "SCREENING_Q850": "" if answer.q850 is None else str(answer.q850),
        "SCREENING_FAILED_OPEN": "1" if answer.failed_open else "",
    }


class Agi:
    """Answers Asterisk's connections, one a call."""

    def __init__(self, client: AsyncClient, *, language: str) -> None:
        self._client = client
        self._language = language

    async def call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One call: what Asterisk tells, the question, the variables."""
        try:
            told = await self._told(reader)
            answer = await self._client.screen(**question(told))
            for name, value in variables(answer, self._language).items():
                plain = re.sub(r'[\x00-\x1f\x7f"\\]', " ", value)
                writer.write(f'SET VARIABLE {name} "{plain}"\n'.encode())
                await writer.drain()
                if not (await reader.readline()).startswith(b"200"):
                    break
        except (OSError, ValueError, asyncio.LimitOverrunError) as broken:
            print(f"a call was not answered: {type(broken).__name__}", file=sys.stderr)
        finally:
            writer.close()

    @staticmethod
    async def _told(reader: asyncio.StreamReader) -> dict[str, str]:
        told: dict[str, str] = {}
        for _ in range(LINES_LIMIT):
            line = (await reader.readline()).decode("utf-8", "replace").strip()
            if not line:
                return told
            name, _, value = line.partition(":")
            told[name.removeprefix("agi_")] = value.strip()
        raise ValueError("too many variables")


async def serve(listen: str, url: str, *, deadline_ms: float, language: str, key: str) -> None:
    """Listen until the task is cancelled."""
    host, _, port = listen.rpartition(":")
    async with AsyncClient(url, deadline_ms=deadline_ms, key=key) as client:
        agi = Agi(client, language=language)
        server = await asyncio.start_server(agi.call, host, int(port), limit=LINE_LIMIT)
        bound = server.sockets[0].getsockname()
        print(f"FastAGI on {bound[0]}:{bound[1]}, asking {url}", flush=True)
        async with server:
            await server.serve_forever()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="127.0.0.1:4573", help="address and port")
    parser.add_argument("--url", default="netstring://127.0.0.1:8090", help="of the service")
    parser.add_argument("--deadline-ms", type=float, default=50.0, help="then the call goes on")
    parser.add_argument("--language", default="en", help="of SCREENING_LABEL, a BCP 47 tag")
    parser.add_argument("--key", default="", help="a lookup key, for http://")
    words = parser.parse_args()
    try:
        asyncio.run(
            serve(
                words.listen, words.url, deadline_ms=words.deadline_ms, language=words.language,
                key=words.key,
            )
        )  # fmt: skip
    except OSError as refused:
        parser.exit(1, f"cannot listen on {words.listen}: {refused}\n")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
