"""The alerts of deploy/prometheus/rules, by name; a test keeps the two equal."""

ALERTS = frozenset(
    {
        "FlywheelAlertIntakeAbsent",
        "FlywheelAlertsNotCommitted",
        "FlywheelAlertsRefused",
        "FlywheelAlertsStillFiring",
        "FlywheelAlertsTruncated",
        "FlywheelApprovalWaiting",
        "FlywheelCallsRefused",
        "FlywheelCertificateExpiring",
        "FlywheelDeliveryOld",
        "FlywheelDeliveryParked",
        "FlywheelExecutionRateLow",
        "FlywheelExecutionRateMissing",
        "FlywheelExecutionRateTooFewSamples",
        "FlywheelGatewayAbsent",
        "FlywheelIdentitySourceUnusable",
        "FlywheelIncidentUnknown",
        "FlywheelIncidentsStuckGrowing",
        "FlywheelNoActionPostmortemFlood",
        "FlywheelNoopResolutionGap",
        "FlywheelRecoveryOverdue",
        "FlywheelRepairNotRecovered",
        "FlywheelResolveDeliveryOld",
        "FlywheelResolveDeliveryParked",
        "FlywheelSideEffectOld",
        "FlywheelSideEffectParked",
        "FlywheelSourceDown",
        "FlywheelWatchdog",
    }
)
