"""The service: transports, wiring, one call end to end."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("call-screening")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0"
