"""Signed HTTP callbacks by the Standard Webhooks scheme: one POST, and what its response means."""
