"""What every process has: settings, logs, signals, files, addresses, failpoints."""
