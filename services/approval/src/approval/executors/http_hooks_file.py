"""The file that lists the hooks that may be called. docs/executors.md shows one."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from approval.actions.grammar import ActionSyntaxError, parse_action
from servicekit.process.files import why_unreadable
from servicekit.process.settings import Duration
from servicekit.text import shown
from servicekit.webhooks.signature import Secret, parse_secrets
from servicekit.webhooks.url import check_url

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1024}")
# What the executor or the protocol itself sets.
_RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "x-awoooi-signature",
    }
)


class Hook(BaseModel):
    """One hook: its URL and how its requests are signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Post to another machine without TLS: every host on the network path can read the request.
    insecure: bool = False
    url: str
    # Read at every request: a rotation needs no restart. A relative path starts at the hooks file.
    secret_file: Path
    # How long a request may take; then it counts as failed, though it may have happened.
    timeout: Duration = Field(default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(hours=1))
    # Additional headers, for instance for a gateway in front of the receiver.
    headers: Mapping[str, str] = {}

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        check_url(
            url,
            example="https://example.org/hooks/restart-batch",
            insecure=info.data.get("insecure", False),
            override="insecure = true",
        )
        return url

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError("expected names and values of HTTP headers, in printable ASCII")
            if name.lower() in _RESERVED_HEADERS:
                raise ValueError(f"the header {name} is set by the service")
        return headers

    def read_secrets(self) -> Sequence[Secret]:
        """Return the signing secrets. Raises ValueError, which never quotes the file, when they cannot be used."""
        try:
            text = self.secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(f"the secret file cannot be read: {why_unreadable(exc)}") from None
        try:
            secrets = parse_secrets(text)
        except ValueError as exc:
            raise ValueError(f"the secret file cannot be used: {exc}") from None
        if not secrets:
            raise ValueError("the secret file is empty")
        return secrets


class _HooksFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hooks: Mapping[str, Hook]

    @field_validator("hooks")
    @classmethod
    def _check_names(cls, hooks: Mapping[str, Hook]) -> Mapping[str, Hook]:
        if not hooks:
            raise ValueError("there is no hook")
        for name in hooks:
            try:
                parse_action(f"HTTP POST {name}")
            except ActionSyntaxError as exc:
                raise ValueError(f"{name!r} {exc.reason}") from None
        return hooks


def read_hooks(path: Path) -> Mapping[str, Hook]:
    """Return the hooks by name. Raises ValueError with the reason, never with a value: a URL may hold a token."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{path}: {why_unreadable(exc)}") from None
    except tomllib.TOMLDecodeError:
        # Its text may quote the line.
        raise ValueError("is not TOML") from None
    try:
        hooks = _HooksFile.model_validate(content).hooks
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(shown(str(part)) for part in error["loc"])
        raise ValueError(f"{where}: {error['msg'].removeprefix('Value error, ')}") from None
    found = {
        name: hook.model_copy(update={"secret_file": path.parent / hook.secret_file})
        for name, hook in hooks.items()
    }
    for name, hook in found.items():
        try:
            hook.read_secrets()
        except ValueError as exc:
            raise ValueError(f"hooks.{name}.secret_file: {exc}") from None
    return found
