"""The stream of changes, resumable without a gap."""
