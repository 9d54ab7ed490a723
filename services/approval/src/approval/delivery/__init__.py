"""Resolve and timeline deliveries to the incident service, and their reconciliation."""
