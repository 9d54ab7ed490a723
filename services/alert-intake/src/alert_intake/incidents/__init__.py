"""The effect of a notification: incidents opened and resolved."""
