"""The effects on external systems: webhook and notification."""
