"""The incident service: opens incidents, resolves each one once, keeps what was learnt."""

import os

# gRPC writes lines of its own to standard error, between the JSON lines of the log. It reads this when it is first
# imported, so it has to be said before anything else.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
