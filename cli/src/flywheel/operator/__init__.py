"""The operator's commands: incidents, approvals, and what is delivered, on any deployment."""
