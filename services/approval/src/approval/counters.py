"""The names of this service's counters."""

# By state; goes up and down.
APPROVALS = "approvals"
# That another proposal superseded; no label.
SUPERSEDED = "approvals_superseded"
# By outcome.
EXECUTIONS = "executions"
# Recoveries that ended, by outcome.
RECOVERIES = "recoveries"
# Resolves of NO_ACTION executions that were acknowledged, or dismissed; no label.
NOOP_RESOLUTIONS = "noop_resolutions"
# Dead letters that operators dismissed, by what was delivered.
DELIVERIES_DISMISSED = "deliveries_dismissed"
