"""Engine, migrations, counters and group commit."""
