"""Running an approved action, and the log of it."""
