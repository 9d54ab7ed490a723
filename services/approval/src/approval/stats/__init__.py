"""Stats of approvals, executions and deliveries."""
