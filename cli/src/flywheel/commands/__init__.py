"""The commands `up` and `demo`, and what only they need."""
