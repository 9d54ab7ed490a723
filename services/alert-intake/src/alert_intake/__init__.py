"""The alert intake: opens and resolves incidents from what Alertmanager posts."""
