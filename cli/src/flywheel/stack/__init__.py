"""The local stack: services started, supervised, and stopped in order."""
