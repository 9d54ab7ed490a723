"""The `flywheel` command: a local stack, a demo, and the import of data."""
