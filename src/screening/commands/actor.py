"""Who runs a command, for the audit."""

import getpass


def actor() -> str:
    """The operating system's name of the person, marked as the command line's."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"
