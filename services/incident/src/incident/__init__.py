"""The incident service: opens incidents, resolves each one exactly once in effect, keeps the knowledge."""

import os

# gRPC writes lines of its own to standard error, between the JSON lines of the log. It reads this at its first import, so
# it has to be set before any other import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
