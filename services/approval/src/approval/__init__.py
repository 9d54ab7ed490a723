"""The approval service: turns a proposed action into a decision, an execution and a durable resolve."""

import os

# gRPC writes lines of its own to standard error, between the JSON lines of the log. It reads this when it is first
# imported, so it is set before anything else.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
