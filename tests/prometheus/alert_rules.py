"""The alert rules of deploy/prometheus, read from the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).parents[2] / "deploy/prometheus"
RULES = PROMETHEUS / "rules/flywheel.yml"

ALERTS = {
    "FlywheelExecutionRateMissing",
    "FlywheelExecutionRateTooFewSamples",
    "FlywheelExecutionRateLow",
    "FlywheelRepairNotRecovered",
    "FlywheelRecoveryOverdue",
    "FlywheelIncidentsStuckGrowing",
    "FlywheelNoopResolutionGap",
    "FlywheelIncidentUnknown",
    "FlywheelResolveDeliveryOld",
    "FlywheelResolveDeliveryParked",
    "FlywheelDeliveryOld",
    "FlywheelDeliveryParked",
    "FlywheelSideEffectOld",
    "FlywheelSideEffectParked",
    "FlywheelNoActionPostmortemFlood",
    "FlywheelApprovalWaiting",
    "FlywheelCertificateExpiring",
    "FlywheelIdentitySourceUnusable",
    "FlywheelSourceDown",
    "FlywheelCallsRefused",
    "FlywheelGatewayAbsent",
    "FlywheelAlertIntakeAbsent",
    "FlywheelAlertsNotCommitted",
    "FlywheelAlertsRefused",
    "FlywheelAlertsStillFiring",
    "FlywheelAlertsTruncated",
    "FlywheelWatchdog",
}


def rules() -> Mapping[str, Mapping[str, Any]]:
    """The alert rules by name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}
