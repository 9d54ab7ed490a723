"""The metrics gateway: reads the stats of every service and exposes them at one /metrics."""

import gc
import os

# gRPC's own log lines are not JSON and would be mixed with ours. gRPC reads this variable once, when it is first imported,
# hence the one side effect at import. Failures of a source are in our own log events.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Likewise: in a child of uvloop's fork its handlers crash now and then (SIGSEGV) before the program is executed.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# What is imported stays: looking for garbage after every 700 new objects would cost a tenth of every start.
gc.set_threshold(10_000, 20, 20)
