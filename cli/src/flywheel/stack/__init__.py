"""The local stack: its services are started, supervised, and stopped in order."""
