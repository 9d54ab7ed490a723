"""The names of this service's counters."""

# By state; goes up and down.
APPROVALS = "approvals"
# By outcome.
EXECUTIONS = "executions"
# Acknowledged resolves of NO_ACTION executions; no label.
NOOP_RESOLUTIONS = "noop_resolutions"
