"""Structured logs: one JSON object a line on standard error, secrets taken out before they are written.

Logging never fails: what cannot be written, or not even be made, is dropped and counted.
"""

import atexit
import json
import logging
import re
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO, cast

import structlog

from servicekit.process.log_sampling import LogSampler
from servicekit.process.log_stream import LogFile, LogStream, replace_stderr

_REDACTED = "[redacted]"
_SECRET_KEY = re.compile(r"(?i)(password|passwd|secret|token|api_?key|authorization|credential)")
# The password of any URL, wherever it stands in a text: a driver's error message may quote the URL. It ends at the last @ of
# the word: it may have one itself. The lengths are bounded so that a long text costs no more than its length.
_URL_PASSWORD = re.compile(r"(?P<head>://[^\s:/@]{0,256}):\S{1,1024}@")
_URL_PARAMETER = re.compile(r"(?i)(?P<head>[?&](?:ssl)?(?:password|passwd|secret|token)=)[^&\s]{1,1024}")


def protect_stderr() -> LogStream:
    """Make writing to standard error safe: it never fails, and passwords in URLs are taken out. The first thing a process does."""
    return replace_stderr(edit=redact_url_passwords)


def configure_logging(*, service: str, level: str = "INFO", file: LogFile | None = None) -> None:
    """Send structlog and the standard library's loggers to standard error as JSON lines, or to `file` with all else there.

    Every line carries `service`, `event`, `level` and `timestamp` (ISO 8601, UTC). Newlines inside a value are
    escaped by JSON, so a caller's text cannot forge a line. Repeated lines are sampled.
    """
    stream = protect_stderr()
    sampler = _sampler(service, stream)
    stream.notice = lambda lines: _line(service, "log_lines_dropped", level="warning", lines=lines)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_secrets,
    ]
    structlog.configure(
        processors=[sampler.processor, *shared, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=_never_raising(
            structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]), stream, service
        ),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, stream)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = _Handler(stream)
    # The logger is the event: their texts are as many as there are values in them.
    handler.addFilter(lambda record: sampler.admits(record.name))
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
    if file is not None and (reason := stream.write_to(file)):
        structlog.get_logger().warning("log_file_unusable", path=str(file.path), reason=reason)


def suppressed_lines() -> Mapping[str, int]:
    """Return how many repeated lines of each event this process has not logged."""
    return dict(_samplers[-1].suppressed) if _samplers else {}


# That of the latest configuration: the log is the process's.
_samplers: list[LogSampler] = []


def _sampler(service: str, stream: LogStream) -> LogSampler:
    def report(fields: Mapping[str, object]) -> None:
        stream.write(_line(service, "suppressed", level="warning", **fields) + "\n")

    sampler = LogSampler(report)
    _samplers[:] = [sampler]
    atexit.register(sampler.flush)
    return sampler


def _never_raising(base: type[Any], stream: LogStream, service: str) -> type[Any]:
    """Return a logger class that logs the event alone when its line cannot be made."""

    class NeverRaising(base):  # type: ignore[misc]  # a class that structlog makes when it is configured
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> Any:
            try:
                return super()._proxy_to_logger(method_name, event, **event_kw)
            except Exception as exc:
                _write_event_alone(stream, service, method_name, event, exc)

    return NeverRaising


def _write_event_alone(stream: LogStream, service: str, level: str, event: object, error: Exception) -> None:
    try:
        stream.write(_line(service, str(event), level=level, log_error=type(error).__name__) + "\n")
    except Exception:
        stream.drop()


def _line(service: str, event: str, **fields: object) -> str:
    """Return a line made without structlog."""
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"service": service, "event": event, **fields, "timestamp": timestamp})


class _Handler(logging.StreamHandler[LogStream]):
    """The handler of the standard library's loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        try:
            self.stream.write(self.format(record) + "\n")
        except Exception:
            self.stream.drop()


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
