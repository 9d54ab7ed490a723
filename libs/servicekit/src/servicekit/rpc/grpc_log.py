"""What gRPC's own logger says."""

import logging

_LOGGER = logging.getLogger("grpc._cython.cygrpc")


def ignore_lost_connections() -> None:
    """Log nothing, in place of a traceback, for each answer whose connection ended before it was sent: a caller's doing."""
    # The same filter again changes nothing.
    _LOGGER.addFilter(_is_about_something_else)


def _is_about_something_else(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("ExecuteBatchError raised in core")
