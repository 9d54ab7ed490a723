"""Structured logs: one JSON object a line on standard error, secrets taken out before they are written."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import structlog

_REDACTED = "[redacted]"
_SECRET_KEY = re.compile(r"(?i)(password|passwd|secret|token|api_?key|authorization|credential)")
# The password of any URL, wherever it stands in a text: a driver's error message may quote the URL. The lengths are bounded
# so that a long text costs no more than its length.
_URL_PASSWORD = re.compile(r"(?P<head>://[^\s:/@]{0,256}):[^\s@]{1,1024}@")
_URL_PARAMETER = re.compile(r"(?i)(?P<head>[?&](?:ssl)?(?:password|passwd|secret|token)=)[^&\s]{1,1024}")


def configure_logging(*, service: str, level: str = "INFO") -> None:
    """Send structlog and the standard library's loggers to standard error as JSON lines.

    Every line carries `service`, `event`, `level` and `timestamp` (ISO 8601, UTC). Newlines inside a value are
    escaped by JSON, so a caller's text cannot forge a line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries speak from WARNING up; the services' own events go through structlog.
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def redact_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Replace the values of keys that name a secret, and passwords inside URLs in any text, at any depth."""
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _names_secret(key):
        return _REDACTED
    if isinstance(value, str):
        return redact_url_passwords(value)
    if isinstance(value, Mapping):
        return {str(name): _redacted(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(key, inner) for inner in value]
    return redact_url_passwords(str(value))


@lru_cache(maxsize=1024)
def _names_secret(key: str) -> bool:
    # Keys are few and come with every line.
    return _SECRET_KEY.search(key) is not None


def redact_url_passwords(text: str) -> str:
    """Return `text` with the password of every URL in it replaced."""
    if "://" not in text:
        return text
    text = _URL_PASSWORD.sub(rf"\g<head>:{_REDACTED}@", text)
    return _URL_PARAMETER.sub(rf"\g<head>{_REDACTED}", text)
