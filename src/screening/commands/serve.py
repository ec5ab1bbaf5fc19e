"""`screening serve`."""

from typing import Annotated
from urllib.parse import urlencode

import typer
from rich.console import Console

from screening.logs import log_to_stderr
from screening.sample import EXAMPLES, load_sample
from screening.settings import Settings
from screening.state import open_state


def serve(
    sample: Annotated[
        bool, typer.Option("--sample", help="Load the sample registry and print what to ask.")
    ] = False,
) -> None:
    """Serve lookups until Ctrl-C or SIGTERM."""
    # The web framework takes half a second to load, which the other commands need not wait for.
    from screening.app import create_app
    from screening.serve import run
    from screening.service import Service

    settings = Settings()
    log_to_stderr(settings.log_level)
    console = Console(soft_wrap=True, highlight=False)
    with open_state(settings) as state:
        state.expect_fit_index()
        service = Service(state)
        first = service.first_key()
        if sample:
            load_sample(state)

        def ready(host: str, port: int) -> None:
            console.print(f"[green]ready[/green] on http://{host}:{port}, description at /docs")
            if first is not None:
                console.print(f"the first key, with every role, is in {first}")
            if sample:
                for action, fields in EXAMPLES.items():
                    url = f"http://{host}:{port}/v1/screen?{urlencode(fields)}"
                    console.print(f"\n[bold]{action}[/bold]\ncurl -s '{url}'")
            console.print("\nCtrl-C stops it.")

        run(create_app(service), service, ready=ready)
