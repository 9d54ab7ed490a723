"""Parses the body of a webhook (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).

Fields that later versions of Alertmanager add are ignored; what is used has to be there and of its type.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from alert_intake.alertmanager.model import Alert, Notification

# Alertmanager has 16 hexadecimal digits. Two times and it have to fit into a request id.
_FINGERPRINT = r"^[!-~]{1,56}$"
# Go's zero time: the end of an alert that fires.
_NO_TIME_YEAR = 1
_MAX_PROBLEMS = 20

_PROBLEMS = {
    "missing": "is required",
    "string_type": "must be a string",
    "dict_type": "must be an object of strings",
    "model_type": "must be an object",
    "list_type": "must be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "int_type": "must be an integer",
    "greater_than_equal": "must not be negative",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must be 1 to 56 printable ASCII characters without spaces",
    "timezone_aware": "must have a time zone, as in 2026-01-31T12:00:00Z",
}


class WebhookError(Exception):
    """A body is no webhook of version 4. `problems` are sentences that begin with the field's path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _check_time(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must have a time zone, as in 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be between the years 1 and 9999") from None


_Strict = ConfigDict(strict=True, frozen=True)
# Times are texts in JSON.
_Time = Annotated[datetime, Field(strict=False), AfterValidator(_check_time)]
_Texts = dict[str, str]


class _AlertBody(BaseModel):
    model_config = _Strict

    status: Literal["firing", "resolved"]
    labels: _Texts
    annotations: _Texts = {}
    starts_at: _Time = Field(alias="startsAt")
    ends_at: _Time | None = Field(None, alias="endsAt")
    generator_url: str = Field("", alias="generatorURL")
    fingerprint: Annotated[str, StringConstraints(pattern=_FINGERPRINT)]

    def alert(self) -> Alert:
        firing = self.status == "firing"
        ended = None if firing or self.ends_at is None or self.ends_at.year == _NO_TIME_YEAR else self.ends_at
        return Alert(
            fingerprint=self.fingerprint,
            firing=firing,
            starts_at=self.starts_at,
            ends_at=ended,
            labels=self.labels,
            annotations=self.annotations,
            generator_url=self.generator_url,
        )


class _Body(BaseModel):
    model_config = _Strict

    version: Literal["4"]
    group_key: str = Field(alias="groupKey", min_length=1)
    truncated_alerts: int = Field(0, alias="truncatedAlerts", ge=0)
    status: Literal["firing", "resolved"]
    receiver: str
    group_labels: _Texts = Field(alias="groupLabels")
    common_labels: _Texts = Field(alias="commonLabels")
    common_annotations: _Texts = Field(alias="commonAnnotations")
    external_url: str = Field("", alias="externalURL")
    alerts: list[_AlertBody] = Field(min_length=1)


def parse_webhook(content: bytes) -> Notification:
    """Return the notification in the body of a POST. Raises WebhookError, which names each bad field."""
    try:
        body = _Body.model_validate_json(content)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        problems = [_problem(error) for error in errors[:_MAX_PROBLEMS]]
        if len(errors) > _MAX_PROBLEMS:
            problems.append(f"and {len(errors) - _MAX_PROBLEMS} more")
        raise WebhookError(problems) from None
    return Notification(
        receiver=body.receiver,
        group_key=body.group_key,
        firing=body.status == "firing",
        group_labels=body.group_labels,
        common_labels=body.common_labels,
        common_annotations=body.common_annotations,
        external_url=body.external_url,
        alerts=[alert.alert() for alert in body.alerts],
        truncated=body.truncated_alerts,
    )


def _problem(error: ErrorDetails) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']}"
    text = _PROBLEMS.get(error["type"], error["msg"].removeprefix("Value error, ").lower())
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
    return f"{path or 'the body'} {text.format(**error.get('ctx', {}))}"
