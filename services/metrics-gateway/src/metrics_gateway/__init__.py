"""The metrics gateway: asks every service for its figures and exposes them at one /metrics."""

import os

# gRPC's own log lines are not JSON and would stand between ours. It reads this once, when it is first imported, which is
# why this is the one thing that happens at import. What went wrong with a source is in our own event about it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
