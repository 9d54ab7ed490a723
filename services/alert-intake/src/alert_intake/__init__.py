"""The alert intake: opens and resolves incidents from what Alertmanager posts."""

import gc
import os

# gRPC writes lines of its own to standard error, between the JSON lines of the log. It reads this at its first import, so
# it has to be set before any other import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Likewise: in a child of uvloop's fork its handlers crash now and then (SIGSEGV) before the program is executed.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# What is imported stays: looking for garbage after every 700 new objects would cost a tenth of every start.
gc.set_threshold(10_000, 20, 20)
