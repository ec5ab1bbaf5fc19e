"""`python -m screening.worker`: the process that answers calls, started by the supervisor.

It is given, as JSON in its one argument, the descriptors that it inherits and its place among the
workers; settings come from the environment, as the supervisor's did. It imports all that it needs
before it asks for more, while the supervisor makes the state ready.
"""

import signal
import sys

from screening.app import create_app
from screening.channel import Message, receive
from screening.logs import log_to_stderr
from screening.place import Place
from screening.refusals import told
from screening.serve import run
from screening.service import Service
from screening.settings import Settings
from screening.state import open_state


def main() -> None:
    """Answer calls until told to stop; exit code 1 when that never began."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor's to hear
    place = Place.given(sys.argv[1])
    began: Message | None = receive(place.channel)
    if began is None:
        return
    settings = Settings()
    log_to_stderr(settings.log_level)
    with told(), open_state(settings) as state:
        state.expect_fit_index()
        service = Service(state, slot=place.slot, workers=place.workers)
        run(create_app(service), service, place)


if __name__ == "__main__":
    main()
