"""The approval service: turns a proposed action into a decision, an execution and a durable resolve."""

import gc
import os

# gRPC writes lines of its own to standard error, between the JSON lines of the log. It reads this when it is first
# imported, so it is set before anything else.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Likewise: in a child of uvloop's fork its handlers crash now and then (SIGSEGV) before the program is executed.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# A call makes hundreds of objects and leaves none, and what is imported stays: looking for garbage after every 700 of them
# would cost a tenth of every start and a twentieth of all processor time.
gc.set_threshold(10_000, 20, 20)
