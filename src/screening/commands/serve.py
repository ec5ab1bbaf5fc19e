"""`screening serve`."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated
from urllib.parse import urlencode

import typer
from rich.console import Console

from screening.access import Access
from screening.embedded import EmbeddedServer
from screening.listeners import HTTP, Sockets, bound, listeners
from screening.logs import log_to_stderr
from screening.settings import Settings
from screening.supervisor import Supervisor


def serve(
    sample: Annotated[
        bool, typer.Option("--sample", help="Load the sample registry and print what to ask.")
    ] = False,
    workers: Annotated[
        str, typer.Option(help="Processes that answer calls; auto: one a core.")
    ] = "",
) -> None:
    """Serve lookups until Ctrl-C or SIGTERM."""
    if workers:
        os.environ["SCREENING_WORKERS"] = workers
    settings = Settings()
    log_to_stderr(settings.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # until somebody listens
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    count = _cores() if settings.workers == "auto" else settings.workers
    with bound(listeners(settings)) as sockets:
        supervisor = Supervisor(settings, sockets, workers=count)
        try:
            # Meanwhile the workers load what they are made of.
            with _state(settings, sample=sample) as first_key:
                code = supervisor.run(
                    {}, ready=lambda: _tell(sockets, first_key=first_key, sample=sample)
                )
        finally:
            supervisor.kill_all()
    raise SystemExit(code)


@contextlib.contextmanager
def _state(settings: Settings, *, sample: bool) -> Iterator[Path | None]:
    """What outlives every worker: the embedded server. Gives where the first key is, if new."""
    with contextlib.ExitStack() as held:
        url = settings.redis_url or held.enter_context(EmbeddedServer(settings.state_dir)).url
        first_key = Access.load(settings.state_dir / "keys.json").first_key(settings.state_dir)
        if sample:
            from screening.sample import load_sample
            from screening.state import open_files

            with open_files(settings) as state:
                state.redis_url = url
                state.expect_fit_index()
                load_sample(state)
        yield first_key


def _tell(sockets: Sockets, *, first_key: Path | None, sample: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    host, port = sockets[HTTP][0].getsockname()[:2]
    at = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    console.print(f"[green]ready[/green] on {at}, description at /docs")
    if first_key is not None:
        console.print(f"the first key, with every role, is in {first_key}")
    if sample:
        from screening.sample import EXAMPLES

        for action, fields in EXAMPLES.items():
            console.print(f"\n[bold]{action}[/bold]\ncurl -s '{at}/v1/screen?{urlencode(fields)}'")
    console.print("\nCtrl-C stops it.")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
